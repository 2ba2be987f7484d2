"""Rows of one file: JSON Lines, a JSON array, CSV or Parquet, compressed or not. Errors name the line.

Files of any size: at most a few megabytes are in memory at a time, or one row if it is longer.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from aloll_cli.errors import UserError
from aloll_cli.tasks.arrow_floats import is_changed, with_floats_as_decimals
from aloll_cli.tasks.arrow_times import with_times_as_text
from aloll_cli.tasks.json_array import NotJson, array_values

if TYPE_CHECKING:
    import pyarrow as pa

COMPRESSED = ("", ".gz", ".zst")
SUFFIXES = (*(f".{kind}{packed}" for kind in ("jsonl", "json", "csv") for packed in COMPRESSED), ".parquet")
ONE_PER_LINE = 'Correct that line: each line must be one JSON object, such as {"prompt": …, "response": …}, or the file one array'

MAGIC = {  # what files of other kinds start with, their kind and the end of their name
    b"\x1f\x8b": ("gzip", "it must end in .gz"), b"\x28\xb5\x2f\xfd": ("Zstandard", "it must end in .zst"),
    b"PAR1": ("Parquet", "it must end in .parquet"),
}  # fmt: skip

PIECE = 1 << 20  # bytes of a Parquet column that are read at a time

Rows = Iterator[tuple[str, dict[str, Any]]]  # the place of each row, for messages, and the row


def rows_of(file: Path) -> Rows:
    """(place, row) of every row, in order. Raises UserError where the file cannot be read, with the line."""
    kind = next(kind for kind in READERS if file.name.endswith(tuple(f".{kind}{packed}" for packed in COMPRESSED)))
    yield from READERS[kind](file)


def columns_of(file: Path) -> frozenset[str]:
    """The names of the columns of a table, CSV or Parquet; empty for other files, and where it has no rows or cannot be read."""
    if file.suffix == ".parquet":
        import pyarrow as pa
        from pyarrow.parquet import ParquetFile

        with suppress(pa.ArrowException, OSError):  # rows_of says what is wrong
            table = ParquetFile(file)
            return frozenset(table.schema_arrow.names if table.metadata.num_rows else ())
    elif file.name.endswith(tuple(f".csv{packed}" for packed in COMPRESSED)):
        with suppress(UserError):
            return frozenset(key for _, row in islice(_csv_rows(file), 1) for key in row)
    return frozenset()


def has_short_floats(file: Path) -> bool:
    """Whether a file has numbers of single or half precision, which are read as decimals."""
    import pyarrow as pa
    from pyarrow.parquet import read_schema

    with suppress(pa.ArrowException, OSError):  # rows_of says what is wrong
        return file.suffix == ".parquet" and any(map(is_changed, read_schema(file).types))
    return False


def _csv_rows(file: Path) -> Rows:
    """All cells are text; tasks parse numbers themselves."""
    csv.field_size_limit(2**31 - 1)  # Python's own limit is 128 kB
    with _opened(file) as stream:
        rows = csv.DictReader(io.TextIOWrapper(stream, encoding="utf-8-sig", newline=""), strict=True)
        try:
            if twice := _repeated(rows.fieldnames or ()):
                raise UserError(f'{file}: the header has two columns "{twice}".', "Give every column its own name.")
            for row in rows:
                place = f"{file}, line {rows.line_num}"
                if None in row or None in row.values():
                    raise UserError(
                        f"{place}: the number of cells differs from the header.",
                        "Quote cells that contain commas or line breaks.",
                    )
                yield place, row
        except csv.Error as error:
            raise UserError(f"{file}, line {rows.reader.line_num}: not valid CSV: {error}.", "Correct that line.") from None
        except UnicodeDecodeError:
            raise _not_utf8(file) from None


def _parquet_rows(file: Path) -> Rows:
    """All rows, with float32 as decimals, and points in time as text: Python knows neither all years nor all time zones."""
    read = 0
    for batch in _parquet_batches(file):
        names, place = batch.schema.names, f"{file}, rows {read + 1} to {read + len(batch)}"
        cells = [_cells(column, name, place) for name, column in zip(names, batch.columns, strict=True)]
        for number, row in enumerate(zip(*cells, strict=True), start=read + 1):
            yield f"{file}, row {number}", dict(zip(names, row, strict=True))
        read += len(batch)


def _parquet_batches(file: Path) -> Iterator[pa.RecordBatch]:
    """The rows, some at a time. Raises UserError where Arrow cannot read the file."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        table = ParquetFile(file, pre_buffer=False, buffer_size=PIECE)  # or a whole row group would be in memory
        if twice := _repeated(table.schema_arrow.names):
            raise UserError(f'{file}: there are two columns "{twice}".', "Give every column its own name.")
        yield from table.iter_batches(batch_size=1000)
    except pa.ArrowNotImplementedError as error:
        hint = "Write its columns as text, numbers, or lists and objects of them; leave others out."
        raise UserError(f"{file}: Arrow cannot read this Parquet file: {_reason(error)}.", hint) from None
    except (ValueError, OSError) as error:  # includes Arrow's errors
        raise UserError(f"{file}: not a valid Parquet file: {_reason(error)}.", "Write the file again.") from None


def _cells(column: pa.Array, name: str, place: str) -> list[Any]:
    """The cells of a column as Python values. Raises UserError where they are none; a map with a key twice, for example."""
    try:
        cells: list[Any] = with_times_as_text(with_floats_as_decimals(column)).to_pylist(maps_as_pydicts="strict")
    except (ValueError, NotImplementedError, KeyError, OverflowError) as error:  # includes Arrow's errors
        hint = "Leave the column out, or write it as text or numbers."
        raise UserError(f'{place}: the column "{name}" cannot be read: {_reason(error)}.', hint) from None
    return cells


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")[:160]


def _json_lines(file: Path) -> Rows:
    with _opened(file) as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                place = f"{file}, line {number}"
                yield place, json_row(line, place, first=number == 1)


def _json_rows(file: Path) -> Rows:
    """A JSON array of objects; or, although the file is not called so, JSON Lines."""
    with _opened(file) as stream:
        start = stream.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    if not start.startswith(b"["):
        yield from _json_lines(file)
        return
    for number, row in enumerate(_array(file), start=1):
        place = f"{file}, row {number}"
        if not isinstance(row, dict):
            raise UserError(f"{place}: expected a JSON object, got {type(row).__name__}.", 'Such as {"prompt": …, "response": …}')
        yield place, row


def _array(file: Path) -> Iterator[Any]:
    """The values of a JSON array. Raises UserError with the line and column."""
    with _opened(file) as stream:
        try:
            yield from array_values(io.TextIOWrapper(stream, encoding="utf-8-sig", newline=""), _unique)
        except UnicodeDecodeError:
            raise _not_utf8(file) from None
        except NotJson as error:
            raise UserError(f"{file}: not valid JSON: {error}.", "Correct that line.") from None
        except (RecursionError, ValueError) as error:
            raise UserError(f"{file}: this JSON cannot be read: {error}.", ONE_PER_LINE) from None


READERS = {"jsonl": _json_lines, "json": _json_rows, "csv": _csv_rows, "parquet": _parquet_rows}


def json_row(line: bytes, place: str, first: bool) -> dict[str, Any]:
    """The object on a line, the first of its file or a later one. Raises UserError where it is none."""
    try:
        # some programs start UTF-8 files with a byte order mark
        row = json.loads(line.decode("utf-8-sig" if first else "utf-8").rstrip("\r\n"), object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        raise _undecodable(place, error.start, line if first else b"") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{place}: not valid JSON: {error.msg} at column {error.colno}.", ONE_PER_LINE) from None
    except (RecursionError, ValueError) as error:
        raise UserError(f"{place}: this JSON cannot be read: {error}.", ONE_PER_LINE) from None
    if not isinstance(row, dict):
        raise UserError(f"{place}: expected a JSON object, got {type(row).__name__}.", ONE_PER_LINE)
    return row


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Raises ValueError for a key that occurs twice, of which Python would keep the last in silence."""
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError(f'an object has the key "{_repeated([key for key, _ in pairs])}" twice')
    return found


@contextmanager
def _opened(file: Path) -> Iterator[IO[bytes]]:
    """The bytes of a file, unpacked. Raises UserError where a compressed file is damaged."""
    if file.suffix == ".zst":
        import pyarrow

        try:
            with pyarrow.input_stream(str(file), compression="zstd") as packed:
                yield io.BufferedReader(packed)
        except (pyarrow.ArrowException, OSError) as error:
            if isinstance(error, FileNotFoundError | PermissionError):
                raise
            hint = f"Compress it again or, if it is not compressed, rename it to {file.with_suffix('').name}."
            raise UserError(f"{file}: not a complete Zstandard file: {' '.join(str(error).split())[:160]}.", hint) from None
        return
    with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as stream:
        try:
            yield stream  # type: ignore[misc]  # a GzipFile reads bytes, too
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            hint = f"Compress it again or, if it is not compressed, rename it to {file.with_suffix('').name}."
            raise UserError(f"{file}: not a complete gzip file: {str(error).rstrip('.')}.", hint) from None


def _repeated(names: Sequence[str]) -> str | None:
    """The first name that occurs twice, or None."""
    return next((name for place, name in enumerate(names) if name in names[:place]), None)


def _not_utf8(file: Path) -> UserError:
    """The error for a file that is not UTF-8, with the line and byte."""
    with _opened(file) as lines:
        for number, line in enumerate(lines, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return _undecodable(f"{file}, line {number}", error.start, line if number == 1 else b"")
    return UserError(f"{file} is not UTF-8.", "Save the file as UTF-8.")


def _undecodable(place: str, byte: int, start: bytes) -> UserError:
    """The error for a byte that is not UTF-8, by what the file starts with: some files have the name of another kind."""
    kind = next((kind for magic, kind in MAGIC.items() if start.startswith(magic)), None)
    if kind is not None:
        return UserError(f"{place}: the file is not text: it is a {kind[0]} file.", f"Rename it: {kind[1]}")
    return UserError(f"{place}: byte {byte} is not UTF-8.", "Save the file as UTF-8.")
