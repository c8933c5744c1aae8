"""Files of events, line by line: CSV, JSONL (both also gzip) and Parquet. Nothing is read ahead into memory."""

import csv
import gzip
import io
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self, cast

import msgspec

MAX_LINE_BYTES = 4 * 1024 * 1024
_GZIP_MAGIC = b"\x1f\x8b"
_CSV_SUFFIXES = frozenset({".csv", ".tsv", ".txt"})
_JSONL_SUFFIXES = frozenset({".jsonl", ".ndjson", ".json"})
_PARQUET_SUFFIXES = frozenset({".parquet", ".pq"})


class FileUnreadable(ValueError):
    """The file as a whole cannot be used, or not to its end; the message is the one line to show."""


class Line(NamedTuple):
    """A line of a file: its values by column, or what is wrong with it."""

    number: int
    values: Mapping[str, object]
    problem: str = ""


class EventFile(ABC):
    """A file that is being read.

    Attributes:
        path: Where it lies.
        columns: Names of its columns, or None where each line has its own.
    """

    columns: tuple[str, ...] | None = None

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def __iter__(self) -> Iterator[Line]:
        """Read the lines once, in their order.

        Raises:
            FileUnreadable: The rest of the file is damaged.
        """

    @abstractmethod
    def fraction_read(self) -> float:
        """Return how much of the file has been read, 0 to 1."""

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_events(path: Path) -> EventFile:
    """Open a file by its name; whether it is gzip is told by its first bytes.

    Raises:
        FileUnreadable: It is not there, of no known kind, or empty.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    kind = suffixes[-1] if suffixes else ""
    try:
        if kind in _PARQUET_SUFFIXES:
            return ParquetFile(path)
        if kind in _JSONL_SUFFIXES:
            return JsonLinesFile(path)
        if kind in _CSV_SUFFIXES:
            return CsvFile(path)
    except OSError as error:
        raise FileUnreadable(f"{path}: {error.strerror or error}") from error
    raise FileUnreadable(f"{path}: expected a name that ends in .csv, .jsonl (.gz too) or .parquet")


class _TextLinesFile(EventFile):
    """What CSV and JSONL share: bytes that may be gzip, and a position in them."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._size = max(1, path.stat().st_size)
        self._file = path.open("rb")
        zipped = self._file.peek(2)[:2] == _GZIP_MAGIC
        self._bytes = cast(BinaryIO, gzip.GzipFile(fileobj=self._file) if zipped else self._file)
        self._last = 0

    def fraction_read(self) -> float:
        return 1.0 if self._file.closed else min(1.0, self._file.tell() / self._size)

    def close(self) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[Line]:
        try:
            for line in self._lines():
                self._last = line.number
                yield line
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise FileUnreadable(f"{self.path}: damaged after line {self._last}: {error}") from error

    @abstractmethod
    def _lines(self) -> Iterator[Line]: ...


class CsvFile(_TextLinesFile):
    """Values by the columns of the first line; comma, semicolon or tab, whichever the first line has most of."""

    columns: tuple[str, ...]

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        # What is not UTF-8 stays recognisable, and its event alone is refused.
        self._text = io.TextIOWrapper(self._bytes, encoding="utf-8-sig", errors="surrogateescape", newline="")
        try:
            header = self._text.readline(MAX_LINE_BYTES)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise FileUnreadable(f"{path}: damaged: {error}") from error
        if not header.strip():
            raise FileUnreadable(f"{path}: expected a first line with the names of the columns, it is empty")
        self._delimiter = max(",;\t", key=header.count)
        self.columns = tuple(name.strip() for name in next(csv.reader([header], delimiter=self._delimiter)))
        if len(set(self.columns)) < len(self.columns):
            raise FileUnreadable(f"{path}: two columns have the same name: {', '.join(self.columns)}")

    def _lines(self) -> Iterator[Line]:
        reader = csv.reader(self._text, delimiter=self._delimiter)
        columns, n_columns = self.columns, len(self.columns)
        while True:
            number = reader.line_num + 2  # the header was line 1
            try:
                values = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Line(number, {}, f"not CSV: {error}")
                continue
            if len(values) == n_columns:
                yield Line(number, dict(zip(columns, values, strict=True)))
            elif values:
                last = reader.line_num + 1
                through = f" (a quoted value goes on to line {last})" if last > number else ""
                yield Line(number, {}, f"expected {n_columns} values, got {len(values)}{through}")


class JsonLinesFile(_TextLinesFile):
    """One JSON object a line; empty lines do not count."""

    def _lines(self) -> Iterator[Line]:
        decode = msgspec.json.Decoder(dict[str, object]).decode
        number = 0
        while text := self._bytes.readline(MAX_LINE_BYTES):
            number += 1
            if not text.endswith(b"\n") and len(text) == MAX_LINE_BYTES:
                self._skip_line()
                yield Line(number, {}, f"longer than {MAX_LINE_BYTES} bytes")
                continue
            text = text.strip()
            if not text:
                continue
            try:
                yield Line(number, decode(text))
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                yield Line(number, {}, f"not a JSON object: {error}")

    def _skip_line(self) -> None:
        while (rest := self._bytes.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
            pass


class ParquetFile(EventFile):
    """Rows of a Parquet file, counted from 1."""

    columns: tuple[str, ...]

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            import pyarrow
            import pyarrow.parquet as parquet
        except ImportError as error:
            raise FileUnreadable(f"{path}: Parquet needs pyarrow: pip install 'millstream[parquet]'") from error
        self._error = pyarrow.ArrowException
        try:
            self._file = parquet.ParquetFile(path)
        except pyarrow.ArrowException as error:
            raise FileUnreadable(f"{path}: not a Parquet file: {error}") from error
        self.columns = tuple(self._file.schema_arrow.names)
        self._rows = max(1, self._file.metadata.num_rows)
        self._read = 0

    def __iter__(self) -> Iterator[Line]:
        try:
            for batch in self._file.iter_batches(batch_size=4096):
                for row in batch.to_pylist():
                    self._read += 1
                    yield Line(self._read, row)
        except self._error as error:
            raise FileUnreadable(f"{self.path}: damaged after row {self._read}: {error}") from error

    def fraction_read(self) -> float:  # noqa: D102  # as above
        return float(self._read / self._rows)

    def close(self) -> None:  # noqa: D102  # as above
        self._file.close()
