import gzip
from pathlib import Path

import pytest

from online_model.evaluation.streams import EventFile, StreamError, StreamEvent

HEADER = "user_id,item_id,behavior,timestamp\n"


def written(path: Path, text: str | bytes) -> Path:
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["events.csv", "events.csv.gz", "EVENTS.CSV"])
def test_csv(tmp_path, name):
    events = EventFile(written(tmp_path / name, HEADER + "u1,i1,click,1500000000.5\nu2,i2,view,1500000001\n"))
    assert events.unit == "s"
    assert list(events.read()) == [
        StreamEvent(2, "u1", "i1", "click", 1_500_000_000_500),
        StreamEvent(3, "u2", "i2", "view", 1_500_000_001_000),
    ]
    assert events.bad.count == 0


@pytest.mark.parametrize("name", ["events.jsonl", "events.ndjson.gz"])
def test_json_lines(tmp_path, name):
    lines = [
        '{"user_id": 7, "item_id": "größe", "behavior": "buy", "timestamp": 1500000000000, "more": 1}',
        "",
        '{"user_id": "u", "timestamp": 1500000000001, "behavior": "search"}',
        '{"user_id": "u", "item_id": "i", "timestamp": "2017-07-14T04:40:00+02:00"}',
    ]
    events = EventFile(written(tmp_path / name, "\n".join(lines)))
    assert list(events.read()) == [
        StreamEvent(1, "7", "größe", "buy", 1_500_000_000_000),
        StreamEvent(3, "u", None, "search", 1_500_000_000_001),
        StreamEvent(4, "u", "i", "view", 1_500_000_000_000),
    ]


def test_a_file_can_be_read_again(tmp_path):
    events = EventFile(written(tmp_path / "e.csv", HEADER + "u,i,view,1\nbroken\n"))
    assert list(events.read()) == list(events.read())
    assert events.bad.count == 1


def test_columns_can_be_named_differently_and_sequences_kept_for_another(tmp_path):
    path = written(tmp_path / "e.csv", "visitor,session,sku,when\nv,s,k,10\n")
    columns = {"user_id": "visitor", "item_id": "sku", "timestamp": "when"}
    (event,) = EventFile(path, columns=columns).read()
    assert event == StreamEvent(2, "v", "k", "view", 10_000)
    (event,) = EventFile(path, columns=columns, key="session").read()
    assert event.key == "s"


BROKEN = [
    ("u,i,view", "3 columns where the header has 4"),
    ("u,i,view,1,2", "5 columns where the header has 4"),
    (",i,view,1", "user_id must be text"),
    (f"u,{'i' * 257},view,1", "item_id must be text"),
    ("u,i,,1", "behavior must be text"),
    ("u,i,view,yesterday", "Invalid isoformat"),
    ("u,i,view,2017-07-14T04:40:00", "no offset from UTC"),
    ("u,i,view,-5", "a time since 1970"),
    ("u,i,view,nan", "nan"),
    ("u,i,view,inf", "a time since 1970"),
    (b"u,\xff\xfe,view,1", "item_id is not valid UTF-8"),
]


@pytest.mark.parametrize(("line", "reason"), BROKEN)
def test_broken_csv_lines_are_told_by_number_and_skipped(tmp_path, line, reason):
    line = line if isinstance(line, bytes) else line.encode()
    path = written(tmp_path / "e.csv", HEADER.encode() + b"u,i,view,1\n" + line + b"\n\nu,j,view,2\n")
    events = EventFile(path)
    assert [event.item for event in events.read()] == ["i", "j"]
    assert events.bad.count == 1
    assert f"{path}, line 3: " in events.bad.first[0]
    assert reason in events.bad.first[0]
    with pytest.raises(StreamError, match=r"line 3: "):
        list(EventFile(path, strict=True).read())


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[1]",
        "7",
        '{"item_id": "i", "timestamp": 1}',
        '{"user_id": true, "item_id": "i", "timestamp": 1}',
        "[" * 9999,
    ],
)
def test_broken_json_lines_are_told_by_number_and_skipped(tmp_path, line):
    good = '{"user_id": "u", "item_id": "i", "timestamp": 1}\n'
    events = EventFile(written(tmp_path / "e.jsonl", good + line + "\n" + good))
    assert len(list(events.read())) == 2
    assert events.bad.count == 1
    assert ", line 2: " in events.bad.first[0]


def test_only_the_first_broken_lines_are_kept(tmp_path):
    events = EventFile(written(tmp_path / "e.csv", HEADER + "broken\n" * 1_000))
    assert list(events.read()) == []
    assert (events.bad.count, len(events.bad.first)) == (1_000, 5)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("e.parquet", "x", "must end in .csv"),
        ("e", "x", "must end in .csv"),
        ("e.csv", "", "has no column user_id, item_id, timestamp; its columns are none"),
        ("e.csv", "user_id,item\nu,i\n", "has no column item_id, timestamp; its columns are user_id, item"),
        ("e.csv", HEADER + "u,i,view,1500000000000000\n", "neither seconds nor milliseconds"),
        ("e.csv", HEADER + "u,i,view,5\nu,i,view,1500000000000\n", "may be either unit: say which with --time-unit"),
    ],
)
def test_files_that_cannot_be_used_say_why(tmp_path, name, content, message):
    with pytest.raises(StreamError, match=message):
        EventFile(written(tmp_path / name, content))


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(StreamError, match="No such file"):
        EventFile(tmp_path / "e.csv")


def test_a_torn_archive_is_told(tmp_path):
    whole = gzip.compress((HEADER + "".join(f"u{n},i{n},view,{n}\n" for n in range(5_000))).encode())
    path = tmp_path / "e.csv.gz"
    path.write_bytes(whole[:-100])
    events = EventFile(path)
    with pytest.raises(StreamError, match="cannot read"):
        list(events.read())


def test_a_field_that_is_none_is_refused(tmp_path):
    with pytest.raises(StreamError, match="cannot map to price"):
        EventFile(written(tmp_path / "e.csv", HEADER), columns={"price": "p"})
