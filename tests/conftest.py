from pathlib import Path

import pytest
from running import SMALL, quick


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of a whole small line that nobody interrupted. Nobody may change them."""
    folder = tmp_path_factory.mktemp("undisturbed")
    quick(folder, "run", *SMALL)
    return folder / "outputs"
