"""A comparison as CSV: what its JSON holds of each method, one row per method and one column per number."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from aloll_cli.comparison.differences import Comparison
from aloll_cli.reports.comparison_columns import as_plain


def csv_table(found: Comparison) -> str:
    """Comma-separated values in UTF-8 with a heading; columns are keys of the JSON: ``gain.mean``, ``gain.ci95.0``.

    Numbers have all their digits. Lists, such as seeds, are JSON; null is empty.
    """
    rows = [_flat(method) for method in as_plain(found)["methods"]]
    keys = dict.fromkeys(key for row in rows for key in row)
    parts = {key.rpartition(".")[0] for key in keys}  # null in a row of which others have these parts
    return written([key for key in keys if key not in parts], rows)


def written(columns: list[str], rows: list[dict[str, Any]]) -> str:
    """Rows as CSV, without their keys that are no columns; what a row lacks is empty. All but numbers is quoted."""
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, extrasaction="ignore", quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    return file.getvalue()


def _flat(value: Any, key: str = "") -> dict[str, Any]:
    """The leaves of dicts, and the two ends of intervals, by their path."""
    if key == "ci95" or key.endswith(".ci95"):
        low, high = value or (None, None)
        return {f"{key}.0": low, f"{key}.1": high}
    if not isinstance(value, dict):
        return {key: value}
    return {path: leaf for name, item in value.items() for path, leaf in _flat(item, f"{key}.{name}" if key else name).items()}


def _cell(value: Any) -> Any:
    """Text and numbers as they are, anything else as JSON."""
    if value is None:
        return ""
    is_plain = isinstance(value, str | int | float) and not isinstance(value, bool)
    return value if is_plain else json.dumps(value, ensure_ascii=False)
