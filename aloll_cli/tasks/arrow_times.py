"""Points in time of Arrow columns as text, at any depth of lists, objects and maps.

Python knows neither all years nor all time zones, and as numbers they would pass for rewards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

    Convert = Callable[[pa.DataType], pa.DataType]


def with_times_as_text(column: pa.Array) -> pa.Array:
    """The column with points in time as text, in UTC where they have a time zone, and durations to the microsecond."""
    known = within(column.type, _known)
    text = within(known, _as_text)
    return column if text == column.type else column.cast(known, safe=False).cast(text)


def _as_text(kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    return pa.string() if pa.types.is_temporal(kind) and not pa.types.is_duration(kind) else kind


def _known(kind: pa.DataType) -> pa.DataType:
    """The type in a time zone that every machine knows, and in a unit that Python has."""
    import pyarrow as pa

    if pa.types.is_timestamp(kind) and kind.tz:
        return pa.timestamp(kind.unit, "UTC")
    return pa.duration("us") if pa.types.is_duration(kind) and kind.unit == "ns" else kind


def within(kind: pa.DataType, convert: Convert) -> pa.DataType:
    """A type with the types of single values in it converted."""
    import pyarrow as pa

    def inner(field: pa.Field) -> pa.Field:
        return field.with_type(within(field.type, convert))

    if pa.types.is_struct(kind):
        return pa.struct([inner(field) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(inner(kind.key_field), inner(kind.item_field))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(inner(kind.value_field), kind.list_size)
    if pa.types.is_list(kind):
        return pa.list_(inner(kind.value_field))
    if pa.types.is_large_list(kind):
        return pa.large_list(inner(kind.value_field))
    if pa.types.is_dictionary(kind) and (values := within(kind.value_type, convert)) != kind.value_type:
        return values
    return convert(kind)
