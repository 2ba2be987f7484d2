"""What ``--cfg`` prints: the composed configuration as YAML, with the choice of each group as a comment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import yaml


def chosen(choices: Mapping[str, object]) -> dict[str, str]:
    """The choice of each place of the configuration, from Hydra's: ``reward@test_reward`` stands at ``test_reward``."""
    found = ((group.rpartition("@")[2], choice) for group, choice in choices.items() if not group.startswith("hydra/"))
    return {place: "null" if choice is None else str(choice) for place, choice in found}


def annotated(text: str, places: Mapping[str, str]) -> str:
    """YAML with a comment behind each key that is the place of a group: ``variant: {}  # nll``."""
    rows = text.splitlines()
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    for place, row in _rows(root, "") if isinstance(root, yaml.MappingNode) else ():
        if places.get(place, "null") != "null" and rows[row].rstrip(" {}").endswith((":", ": null")):
            rows[row] += f"  # {places[place]}"
    return "\n".join(rows) + "\n"


def _rows(node: yaml.MappingNode, prefix: str) -> Iterator[tuple[str, int]]:
    """Every dotted key with the number of its row."""
    for key, value in node.value:
        name = f"{prefix}{key.value}"
        yield name, key.start_mark.line
        if isinstance(value, yaml.MappingNode):
            yield from _rows(value, f"{name}.")
