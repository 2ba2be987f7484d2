"""Numbers of single and half precision in Arrow columns as the decimals that were written.

The float32 nearest to 0.7 is 0.699999988, which is below a threshold of 0.7 and is no label 0.7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aloll_cli.tasks.arrow_times import within

if TYPE_CHECKING:
    import pyarrow as pa


def with_floats_as_decimals(column: pa.Array) -> pa.Array:
    """The column with every float32, and a column of float16, as the float64 of the shortest decimal that gives this number.

    Float32 at any depth of lists, objects and maps; float16 within these stays as it is.
    """
    import pyarrow as pa

    if pa.types.is_float16(column.type):
        decimals = [float(str(half)) for half in column.to_numpy(zero_copy_only=False)]
        return pa.array(decimals, pa.float64(), mask=column.is_null().to_numpy(zero_copy_only=False))
    wide = within(column.type, _as_double)
    return column if wide == column.type else column.cast(within(column.type, _as_text)).cast(wide)


def is_changed(kind: pa.DataType) -> bool:
    """Whether ``with_floats_as_decimals`` changes a column of a type."""
    import pyarrow as pa

    return bool(pa.types.is_float16(kind) or within(kind, _as_double) != kind)


def _as_text(kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    return pa.string() if pa.types.is_float32(kind) else kind


def _as_double(kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    return pa.float64() if pa.types.is_float32(kind) else kind
