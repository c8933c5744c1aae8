"""Files of rows: what they are is told by their bytes, and what is wrong with them by their lines."""

import gzip
from pathlib import Path

import pytest

from online_model.evaluation.streams import StreamError
from online_model.evaluation.tables import open_table


def written(path: Path, text: str | bytes, zipped: bool = False) -> Path:
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if zipped else data)
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("zipped", [False, True])
def test_delimited_text_of_any_name(tmp_path, delimiter, zipped):
    text = "\ufeff" + "\r\n".join(delimiter.join(row) for row in (["user", "item"], ["u", '"a\nb"'], [], ["u", "c"]))
    table = open_table(written(tmp_path / "anything.log", text, zipped))
    assert table.columns == ("user", "item")
    assert list(table.rows()) == [(3, ["u", "a\nb"]), (5, ["u", "c"])]
    assert list(table.rows()) == list(table.rows())


def test_a_row_of_another_width_is_told_by_its_line(tmp_path):
    table = open_table(written(tmp_path / "e.csv", "a,b\n1,2\n3\n4,5\n"))
    assert list(table.rows()) == [(2, ["1", "2"]), (3, "1 columns where the header has 2"), (4, ["4", "5"])]


def test_json_lines(tmp_path):
    lines = ['{"user": 7, "item": "größe"}', "", "torn {", "[1]", '{"item": "x", "more": null}']
    table = open_table(written(tmp_path / "e.dat", "\n".join(lines), zipped=True))
    assert table.columns == ("user", "item", "more")
    rows = list(table.rows())
    assert rows[0] == (1, [7, "größe", None])
    assert rows[1][0] == 3
    assert str(rows[1][1]).startswith("no JSON")
    assert rows[2:] == [(4, "no JSON object"), (5, [None, "x", None])]


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "events"
    parquet.write_table(pyarrow.table({"user": [1, None], "item": ["a", "b"]}), path)
    table = open_table(path)
    assert table.columns == ("user", "item")
    assert list(table.rows()) == [(1, [1, "a"]), (2, [None, "b"])]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("", "is empty"),
        ("  \n\n", "is empty"),
        ("[{}]", "one object a line"),
        ("1,2,1500000000\n", "must name its columns"),
        ("a,b,a\n1,2,3\n", "same name"),
        (b"PK\x03\x04....", "zip archive"),
        (b"\x00\x01\x02", "neither text"),
        (b"PAR1 and no more", "cannot read"),
    ],
)
def test_what_is_no_table_says_what_it_is(tmp_path, data, words):
    with pytest.raises(StreamError, match=words):
        open_table(written(tmp_path / "e.csv", data))


@pytest.mark.parametrize("name", ["missing.csv", "."])
def test_what_cannot_be_opened(tmp_path, name):
    with pytest.raises(StreamError, match="cannot read"):
        open_table(tmp_path / name)


def test_a_torn_gzip_file_ends_with_its_line(tmp_path):
    whole = gzip.compress("\n".join(["a,b", *(f"{n},{n * n}" for n in range(50_000))]).encode())
    table = open_table(written(tmp_path / "e.csv.gz", whole[: len(whole) // 2]))
    with pytest.raises(StreamError, match=r"cannot read .* beyond line \d{4,}"):
        list(table.rows())
