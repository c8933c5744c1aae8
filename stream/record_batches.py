"""A header whose name is no text does not stop the stream.

Kafka takes any bytes for a header's name, and clients of some languages send them. aiokafka's parser raises there, at
the same record for ever. Such a fetch is parsed once more, by its own slow parser, with the bytes of the name escaped.
"""

from collections.abc import Iterator
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords, _MemoryRecordsPy


class _Text(bytearray):
    """Bytes of which each part can be decoded."""

    def __getitem__(self, index: Any) -> Any:
        part = super().__getitem__(index)
        return _Text(part) if isinstance(index, slice) else part

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return super().decode(encoding, "backslashreplace")


class _LenientBatch(_DefaultRecordBatchPy):  # type: ignore[misc]  # aiokafka is untyped here
    _buffer: Any

    def _read_msg(self, *_: Any) -> Any:
        if not isinstance(self._buffer, _Text):
            self._buffer = _Text(self._buffer)
        return super()._read_msg(_decode_varint)


class _LenientRecords(_MemoryRecordsPy):  # type: ignore[misc]  # as above
    def next_batch(self) -> Any:
        batch = super().next_batch()
        is_new = batch is not None and batch.magic >= 2
        return _LenientBatch(self._last) if is_new else batch

    def _cache_next(self, *_: Any) -> None:
        self._last = getattr(self, "_next_slice", None)  # what `next_batch` is about to return
        super()._cache_next()


class _Records(MemoryRecords):  # type: ignore[misc]  # as above
    """A fetch that can be read again."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.data = data


class _PartitionRecords(fetcher.PartitionRecords):  # type: ignore[misc]  # as above
    _records: Any

    def _unpack_records(self) -> Iterator[Any]:
        try:
            yield from super()._unpack_records()
        except UnicodeDecodeError:
            self._records = _LenientRecords(self._records.data)
            yield from super()._unpack_records()  # passes over what was handed out


def _decode_varint(buffer: Any, position: int) -> tuple[int, int]:
    """Read a zigzag varint; aiokafka's own takes nothing but a plain bytearray."""
    raw = shift = 0
    while True:
        byte = buffer[position]
        position += 1
        raw |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (raw >> 1) ^ -(raw & 1), position
        shift += 7


def read_any_header_name() -> None:
    """Have aiokafka's consumers of this process read on where a header's name is no text."""
    fetcher.MemoryRecords = _Records
    fetcher.PartitionRecords = _PartitionRecords
