from pathlib import Path

import pytest
from filelock import FileLock
from running import SMALL, quick


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The outputs of a whole small line that nobody interrupted, one for all workers. Nobody may change them."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "undisturbed"
    folder.mkdir(exist_ok=True)
    with FileLock(folder / "lock"):
        if not (folder / "done").exists():
            quick(folder, "run", *SMALL)
            (folder / "done").touch()
    return folder / "outputs"
