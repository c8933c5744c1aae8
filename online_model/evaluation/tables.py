"""Files of rows with named columns, whatever their format: told by their first bytes, not by their names."""

import csv
import gzip
import io
import json
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from online_model.evaluation.streams import StreamError, csv_rows

Row = list[object]
_GZIP = b"\x1f\x8b"
_PARQUET = b"PAR1"
_ZIP = b"PK\x03\x04"
_DELIMITERS = ",;\t|"
# Objects whose names are looked through for columns: not every one need have them all.
_N_FIRST_OBJECTS = 1_000


class Table(ABC):
    """A file of rows that can be read several times.

    Attributes:
        path: Where it lies.
        columns: The names of its columns.
    """

    columns: tuple[str, ...]

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self) -> Iterator[tuple[int, Row | str]]:
        """Yield the number of each line and its values, one for each column; or what is wrong with it.

        Raises:
            StreamError: The file cannot be read to its end.
        """
        number = 0
        try:
            for number, row in self._rows():
                yield number, row
        except (OSError, EOFError, zlib.error) as error:
            raise StreamError(f"cannot read {self.path} beyond line {number}: {_reason(error)}") from error

    @abstractmethod
    def _rows(self) -> Iterator[tuple[int, Row | str]]: ...


def open_table(path: Path) -> Table:
    """Open a file of delimited text (comma, semicolon, tab, bar), JSON lines, both also gzip, or Parquet.

    Raises:
        StreamError: It cannot be read, is empty, or is none of these.
    """
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == _GZIP
        with _bytes(path, zipped) as file:
            start = file.read(4096)
        return _open(path, start, zipped)
    except (OSError, EOFError, zlib.error) as error:
        raise StreamError(f"cannot read {path}: {_reason(error)}") from error


def _open(path: Path, start: bytes, zipped: bool) -> Table:
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not text:
        raise StreamError(f"{path} is empty")
    if start.startswith(_PARQUET):
        return ParquetTable(path)
    if start.startswith(_ZIP):
        raise StreamError(f"{path} is a zip archive or a workbook: give the CSV file that it holds")
    if b"\0" in start:
        raise StreamError(f"{path} is neither text (CSV, JSON lines, gzip or not) nor Parquet")
    if text.startswith(b"["):
        raise StreamError(f"{path} is one JSON array: one object a line is needed")
    return JsonTable(path, zipped) if text.startswith(b"{") else DelimitedTable(path, zipped)


class _TextTable(Table):
    def __init__(self, path: Path, zipped: bool) -> None:
        super().__init__(path)
        self._zipped = zipped

    def _text(self) -> IO[str]:
        # What is no UTF-8 becomes surrogates, which ids refuse: one broken line does not end the reading.
        return io.TextIOWrapper(_bytes(self.path, self._zipped), "utf-8-sig", errors="surrogateescape", newline="")


class DelimitedTable(_TextTable):
    """Values by the columns of the first line, separated by whatever that line has most of."""

    def __init__(self, path: Path, zipped: bool) -> None:
        super().__init__(path, zipped)
        with self._text() as file:
            header = next((line for line in file if line.strip()), "")
        self._delimiter = max(_DELIMITERS, key=header.count)
        names = next(csv.reader([header], delimiter=self._delimiter))
        self.columns = tuple(name.strip() for name in names)
        if any(_is_number(name) for name in self.columns):
            raise StreamError(f"the first line of {path} must name its columns, but it looks like data: {header:.80}")
        if len(set(self.columns)) < len(self.columns):
            raise StreamError(f"two columns of {path} have the same name: {', '.join(self.columns)}")

    def _rows(self) -> Iterator[tuple[int, Row | str]]:
        with self._text() as file:
            reader = csv.reader(file, delimiter=self._delimiter)
            next((row for row in reader if row), None)
            for number, row in csv_rows(reader, len(self.columns)):
                yield number, row if isinstance(row, str) else [*row]


class JsonTable(_TextTable):
    """One object a line; columns are the names that the first thousand have."""

    def __init__(self, path: Path, zipped: bool) -> None:
        super().__init__(path, zipped)
        names: dict[str, None] = {}
        for (_, values), _ in zip(self._objects(), range(_N_FIRST_OBJECTS), strict=False):
            names.update(dict.fromkeys(values if isinstance(values, dict) else ()))
        self.columns = tuple(names)

    def _rows(self) -> Iterator[tuple[int, Row | str]]:
        for number, values in self._objects():
            yield number, values if isinstance(values, str) else [values.get(name) for name in self.columns]

    def _objects(self) -> Iterator[tuple[int, dict[str, object] | str]]:
        with self._text() as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    values = json.loads(line)
                except (ValueError, RecursionError) as error:
                    yield number, f"no JSON: {error}"
                else:
                    yield number, values if isinstance(values, dict) else "no JSON object"


class ParquetTable(Table):
    """Rows counted from 1."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            import pyarrow
            from pyarrow import parquet
        except ModuleNotFoundError as error:
            raise StreamError(f"{path}: Parquet needs pyarrow: install millstream with its extra `parquet`") from error
        self._errors: type[Exception] = pyarrow.ArrowException
        try:
            self._file = parquet.ParquetFile(path)
        except self._errors as error:
            raise StreamError(f"cannot read {path}: {error}") from error
        self.columns = tuple(self._file.schema_arrow.names)

    def _rows(self) -> Iterator[tuple[int, Row | str]]:
        number = 0
        try:
            for batch in self._file.iter_batches(batch_size=4096):
                for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    number += 1
                    yield number, [*values]
        except self._errors as error:
            raise StreamError(f"cannot read {self.path} beyond row {number}: {error}") from error


def _bytes(path: Path, zipped: bool) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb")) if zipped else path.open("rb")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _reason(error: Exception) -> object:
    return getattr(error, "strerror", None) or error
