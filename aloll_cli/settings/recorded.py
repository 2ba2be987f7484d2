"""The decoding of a finished run, which its checkpoint was chosen by."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from aloll_cli.foreign import Unreadable, damaged, name, read_bytes, record, yaml_of
from aloll_cli.settings.groups import GROUPS
from aloll_cli.settings.root import Settings
from aloll_cli.store.places import run_folder

LARGEST = 1_000_000  # bytes of a configuration
DECODED = record({"generation": record({"name": name})})


def of_its_run(settings: Settings) -> Settings:
    """The settings whose policy is that of ``run=NAME``, however it is asked now: with the run's own decoding.

    Raises:
        UserError: its configuration cannot be read.
    """
    if settings.run is None:
        return settings
    place = Path(settings.run).expanduser()
    folder = place if (place / "config.yaml").is_file() else run_folder(settings.run, settings.output_dir)
    with damaged(folder / "config.yaml"):
        values = yaml_of(read_bytes(folder / "config.yaml", LARGEST).decode("utf-8", "replace"))
        DECODED(values, "")
        options = dict(values["generation"])
        try:
            generation = GROUPS["generation"][options.pop("name")](**options)
        except (LookupError, TypeError) as error:
            raise Unreadable(f"has another decoding: {error}") from None
    return replace(settings, generation=generation)
