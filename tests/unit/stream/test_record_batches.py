"""Header names that are no text, in batches as they stand on the wire."""

import pytest
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import TopicPartition

from stream.record_batches import read_any_header_name

read_any_header_name()


def batch(first_offset, names, compression=0):
    """A batch of records with one header each; a name of bytes is written over a text of the same length."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1_000_000)
    for number, name in enumerate(names):
        text = name if isinstance(name, str) else "#" * len(name)
        builder.append(number, timestamp=7, key=b"k", value=b"v%d" % number, headers=[(text, b"h"), ("empty", None)])
    data = bytearray(builder.build())
    for name in names:
        if isinstance(name, bytes):
            at = data.index(b"#" * len(name))
            data[at : at + len(name)] = name
    data[0:8] = first_offset.to_bytes(8, "big")
    data[17:21] = calc_crc32c(bytes(data[21:])).to_bytes(4, "big")
    return bytes(data)


def read(data, start=0):
    records = fetcher.PartitionRecords(
        TopicPartition("t", 0), fetcher.MemoryRecords(data), [], start, None, None, True, fetcher.READ_UNCOMMITTED
    )
    return [(record.offset, record.value, list(record.headers)) for record in records]


@pytest.mark.parametrize("name", [b"\xff\xfe", b"\xed\xa0\x80", b"\xc3(", b"\x80" * 200])
def test_a_name_that_is_no_text_is_escaped_and_nothing_is_lost_or_repeated(name):
    """Seen red with aiokafka's own classes: UnicodeDecodeError at the same record in every attempt."""
    found = read(batch(10, ["good", name, "after"]) + batch(13, ["next", name]), start=10)
    escaped = "".join(f"\\x{byte:02x}" if byte >= 0x80 else chr(byte) for byte in name)
    assert [offset for offset, _, _ in found] == [10, 11, 12, 13, 14]
    assert [value for _, value, _ in found] == [b"v0", b"v1", b"v2", b"v0", b"v1"]
    names = [headers[0][0] for _, _, headers in found]
    assert names == ["good", escaped, "after", "next", escaped]
    assert all(headers[1] == ("empty", None) for _, _, headers in found)


def test_a_start_within_a_batch_counts_there_too():
    assert [offset for offset, _, _ in read(batch(10, ["a", "b", b"\xff", "d"]), start=11)] == [11, 12, 13]


def test_what_is_all_text_is_read_as_ever():
    found = read(batch(0, ["ü", "日本"]))
    assert [headers[0][0] for _, _, headers in found] == ["ü", "日本"]
