import gzip
import sys

import pytest

from producers.files import MAX_LINE_BYTES, FileUnreadable, open_events


def read(path):
    with open_events(path) as file:
        return [(line.number, dict(line.values), line.problem) for line in file]


@pytest.mark.parametrize("name", ["e.csv", "e.csv.gz", "gzip-without-the-name.csv"])
def test_csv(tmp_path, name):
    text = b'\xef\xbb\xbfuser_id,item_id\nu1,"a, b"\n\nu2,i2\n'
    (tmp_path / name).write_bytes(text if name == "e.csv" else gzip.compress(text))
    assert read(tmp_path / name) == [
        (2, {"user_id": "u1", "item_id": "a, b"}, ""),
        (4, {"user_id": "u2", "item_id": "i2"}, ""),
    ]


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_other_delimiters(tmp_path, delimiter):
    path = tmp_path / "e.csv"
    path.write_text(delimiter.join(["user_id", "item_id"]) + "\n" + delimiter.join(["u1", "i,1"]) + "\n")
    assert read(path) == [(2, {"user_id": "u1", "item_id": "i,1"}, "")]


def test_broken_csv_lines_are_told_by_number_and_the_rest_is_read(tmp_path):
    path = tmp_path / "e.csv"
    path.write_text('a,b\n1,2\n1\n1,2,3\n"x\ny",2,3\n' + "z" * 200_000 + ",1\n5,6\n")
    numbers = [(number, problem) for number, _, problem in read(path)]
    assert [number for number, _ in numbers] == [2, 3, 4, 5, 7, 8]
    assert numbers[1][1] == "expected 2 values, got 1"
    assert numbers[3][1] == "expected 2 values, got 3 (a quoted value goes on to line 6)"
    assert "field larger" in numbers[4][1]
    assert numbers[5][1] == ""


def test_jsonl_lines(tmp_path):
    path = tmp_path / "e.jsonl.gz"
    lines = [
        b'{"a": 1}',
        b"",
        b"[1]",
        b"{",
        b'{"a": "\xff"}',
        b'{"a": "' + b"x" * (MAX_LINE_BYTES * 2) + b'"}',
        b'{"a": 2}',
    ]
    path.write_bytes(gzip.compress(b"\n".join(lines)))
    result = read(path)
    assert [number for number, _, _ in result] == [1, 3, 4, 5, 6, 7]
    assert [bool(problem) for _, _, problem in result] == [False, True, True, True, True, False]
    assert result[4][2] == f"longer than {MAX_LINE_BYTES} bytes"
    assert result[-1][1] == {"a": 2}


def test_the_lines_before_a_damage_are_read(tmp_path):
    path = tmp_path / "e.csv.gz"
    whole = gzip.compress(b"a,b\n" + b"".join(b"%d,%d\n" % (n, n * 7919) for n in range(100_000)))
    path.write_bytes(whole[: len(whole) // 2])
    numbers = []
    with open_events(path) as file, pytest.raises(FileUnreadable, match="damaged after line") as raised:
        numbers.extend(line.number for line in file)
    assert len(numbers) > 10_000
    assert f"damaged after line {numbers[-1]}" in str(raised.value)


def test_gzip_is_streamed(tmp_path):
    path = tmp_path / "e.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n" + b"".join(b"%d,%d\n" % (n, n * 7919) for n in range(200_000))))
    with open_events(path) as file:
        lines = iter(file)
        for _ in range(1000):
            next(lines)
        assert 0 < file.fraction_read() < 0.2
        for _ in lines:
            pass
        assert file.fraction_read() == 1


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    path = tmp_path / "e.parquet"
    parquet.write_table(pyarrow.table({"user_id": [1, 2], "item_id": ["a", None]}), path)
    assert read(path) == [(1, {"user_id": 1, "item_id": "a"}, ""), (2, {"user_id": 2, "item_id": None}, "")]
    with open_events(path) as file:
        assert file.columns == ("user_id", "item_id")


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(FileUnreadable, match=r"millstream\[parquet\]"):
        open_events(tmp_path / "e.parquet")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("e.csv", b"", "first line"),
        ("e.csv", b"\n1,2\n", "first line"),
        ("e.csv", b"a,a\n1,2\n", "same name"),
        ("e.csv.gz", b"\x1f\x8b\x08garbage", "damaged"),
        ("e.xls", b"a,b\n", "expected a name"),
        ("gone.csv", None, "No such file"),
        ("e.parquet", b"PAR0", "not a Parquet file"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, name, content, says):
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow", reason="needs pyarrow")
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(FileUnreadable, match=says):
        open_events(tmp_path / name)
