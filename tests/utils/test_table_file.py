"""Tables of many formats: read as the file states them, or refused with the fix."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma

import pytest

from scaling.utils import notices, table_file
from scaling.utils.errors import UserError

LINES = ["N,D,loss", "1e7,2e8,5.3306", "2e7,4e8,4.58"]
PLAIN = "\n".join(LINES) + "\n"
CELLS = [["1e7", "2e8", "5.3306"], ["2e7", "4e8", "4.58"]]


def zstd(content: bytes) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


def parquet(**columns) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet as pq

    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


READ = {
    "commas": (PLAIN, ""),
    "carriage returns": (PLAIN.replace("\n", "\r"), ""),
    "both line ends": (PLAIN.replace("\n", "\r\n"), ""),
    "blank and empty rows": ("\n\n" + PLAIN.replace("\n2e7", "\n\n,,\n2e7"), ""),
    "trailing separators": (PLAIN.replace("\n", ",\n"), ""),
    "an unnamed index": ("".join(f"{i or ''},{x}\n" for i, x in enumerate(LINES)), ""),
    "equal columns twice": ("".join(f"{x},{x.split(',')[0]}\n" for x in LINES), ""),
    "semicolons": (PLAIN.replace(",", ";"), "cells separated by ';'"),
    "tabs": (PLAIN.replace(",", "\t"), "cells separated by tab"),
    "bars": (PLAIN.replace(",", "|"), "cells separated by '|'"),
    "Markdown": (
        "".join(f"| {x.replace(',', ' | ')} |\n" for x in (LINES[0], "---,---,---", *LINES[1:])),
        "cells separated by '|'",
    ),
    "sep= of Excel": ("sep=;\n" + PLAIN.replace(",", ";"), ""),
    "comments": ("# by me, today\n#\n" + PLAIN, "2 comment line(s) above the header skipped"),
    "a # before the header": ("#" + PLAIN, "spaces around the names"),
    "spaces": (PLAIN.replace(",", ", ").replace("loss", "loss "), "spaces around the names"),
    "UTF-8 with its mark": (PLAIN.encode("utf-8-sig"), ""),
    "UTF-16": (PLAIN.encode("utf-16"), "text read as UTF-16"),
    "UTF-16 without its mark": (PLAIN.encode("utf-16-be"), "text read as UTF-16-BE"),
    "UTF-32": (PLAIN.encode("utf-32"), "text read as UTF-32"),
    "Latin-1": (PLAIN.encode() + "é,,\n".encode("latin-1"), "text read as Latin-1"),
    "gzip": (gzip.compress(PLAIN.encode()), ""),
    "bzip2": (bz2.compress(PLAIN.encode()), ""),
    "xz": (lzma.compress(PLAIN.encode()), ""),
    "zstd": (zstd(PLAIN.encode()), ""),
    "JSON lines": ('{"N": "1e7", "D": "2e8", "loss": 5.3306}\n'
                   '{"N": "2e7", "loss": 4.58, "D": "4e8"}\n', ""),
    "a list of objects": (
        json.dumps([dict(zip(("N", "D", "loss"), row, strict=True)) for row in CELLS], indent=1), ""
    ),
    "Parquet": (parquet(N=["1e7", "2e7"], D=["2e8", "4e8"], loss=[5.3306, 4.58]), ""),
    "Parquet in gzip": (
        gzip.compress(parquet(N=["1e7", "2e7"], D=["2e8", "4e8"], loss=[5.3306, 4.58])), ""
    ),
}  # fmt: skip


@pytest.mark.parametrize(("content", "said"), READ.values(), ids=READ)
def test_a_format_without_doubt_is_read_and_said(tmp_path, content, said):
    path = tmp_path / "t.dat"  # the content decides, not the name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    table = table_file.read(path)
    table.require(("N", "D", "loss"))
    assert [[row.cells[c] for c in ("N", "D", "loss")] for row in table.rows][:2] == CELLS
    texts = [notice.text for notice in table.reading]
    assert any(said in text for text in texts) if said else not texts, texts
    assert not table.left_out and {n.kind for n in table.reading} <= {notices.READ_AS}


REFUSED = {
    "nothing": ("", "empty file; it needs a header"),
    "a header alone": (LINES[0] + "\n", "a header and no row; add a row per run"),
    "no header": ("\n".join(LINES[1:]), "add a header with the names of the columns"),
    "decimal commas": ("N,D,loss\n1,2,5,33\n2,4,4,58\n", "2 of 2 rows do not match the header; row "
                       "2: 4 cells under 3 columns: decimal or thousands commas?"),
    "decimal commas and a last comma": ("N,D,loss\n1,2,5,33,\n2,4,4,58,\n", "5 cells under 3"),
    "short rows": ("N,D,loss\n1,2\n2,4\n", "2 cells under 3 columns: which one is missing?"),
    "another separator below": ("N,D,loss\n1;2;3\n2;4;5\n", "another separator than the header's?"),
    "a name twice": ("N,D,loss,loss\n1,2,3,4\n", "columns 3 and 4 are both named 'loss'"),
    "a name twice but for spaces": ("N,D,loss, loss\n1,2,3,4\n", "are both named 'loss'"),
    "a column without a name": ("N,,loss\n1,2,3\n", "no column 'D'; column 2 has no name"),
    "an open quote": (PLAIN + '"3e7,6e8,4\n', 'row 4: a quote (") is not closed'),
    "an open quote above": (PLAIN.replace("1e7", '"1e7'), "row 2: a quote"),
    "an open quote in a long file": ('N,D,loss\n"1,2,3\n' + "4,5,6\n" * 50_000, "row 2: a quote"),
    "a quote inside": (PLAIN.replace("1e7", '"1"e7'), "row 2: a quote"),
    "whole rows quoted": ("".join(f'"{x}"\n' for x in LINES), "every row is one quoted cell"),
    "spaces between": (PLAIN.replace(",", " "), "separated by spaces? save it with commas"),
    "two separators": ("N;D,loss\n1;2,3\n", "state it with --separator"),
    "a spreadsheet": (b"PK\x03\x04abc", "a spreadsheet or zip archive; open it and save it as CSV"),
    "an old spreadsheet": (b"\xd0\xcf\x11\xe0abc", "save it as CSV"),
    "bytes": (bytes(range(256)) * 9, "not a table of text"),
    "torn gzip": (gzip.compress(PLAIN.encode())[:-9], "damaged gzip file"),
    "torn zstd": (zstd(PLAIN.encode())[:-5], "damaged zstd file"),
    "torn UTF-16": (PLAIN.encode("utf-16")[:-1], "damaged UTF-16 text"),
    "torn Parquet": (parquet(N=[1])[:-9], "damaged Parquet file"),
    "JSON columns": ('{"N": [1, 2],\n "D": [3, 4]}', "write one object per line and run"),
    "no JSON": ("{oops\n", "write one object per line"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "words"), REFUSED.values(), ids=REFUSED)
def test_what_leaves_a_doubt_is_refused_with_the_fix(tmp_path, content, words):
    path = tmp_path / "t.dat"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as caught:
        table_file.read(path).require(("N", "D", "loss"))
    message = str(caught.value)
    assert words in message and message.startswith(str(path)) and "\n" not in message


ROWS = {
    "longer": ("3e7,6e8,4,1", "row 4: 4 cells under 3 columns"),
    "longer by an empty cell": ("3e7,6e8,4,", "row 4: 4 cells under 3 columns"),
    "shorter": ("3e7,6e8", "row 4: 2 cells under 3 columns: which one is missing?"),
    "a quote that closes too late": ('"3e7,6e8,4\n4e7",8e8,3', "holds whole rows"),
}


@pytest.mark.parametrize(("row", "words"), ROWS.values(), ids=ROWS)
def test_a_stray_row_is_left_out_and_named(tmp_path, row, words):
    path = tmp_path / "t.csv"
    path.write_text(f"{PLAIN}{row}\n5e7,1e9,3.5\n")
    table = table_file.read(path)
    (notice,) = table.left_out
    assert notice.kind == notices.MALFORMED_ROW and words in notice.text
    assert [row.cells["N"] for row in table.rows] == ["1e7", "2e7", "5e7"]
    assert table.rows[-1].name == "row 5"


def test_a_torn_line_of_json_and_a_key_twice_are_left_out(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"a": 1}\n{"a": 1, "a": 2}\n{"a": null, "b": 0.1}\n{"a":')
    table = table_file.read(path)
    assert [dict(row.cells)["a"] for row in table.rows] == ["1", ""]
    assert [n.text.partition(" (")[0] for n in table.left_out] == [
        "row 2: not JSON", "row 4: not JSON",
    ]  # fmt: skip


def test_the_stated_separator_settles_a_doubt(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("N;D,loss\n1;2,3\n")
    assert table_file.read(path, ";").header == ("N", "D,loss")
    assert table_file.read(path, ",").header == ("N;D", "loss")
    with pytest.raises(UserError, match=r"--separator=-: choose one of"):
        table_file.read(path, "-")


def test_files_of_a_pattern_are_one_table(tmp_path):
    for name, text in (("a/12M.csv", PLAIN), ("b/7M.csv.gz", PLAIN + "1,2\n")):
        (tmp_path / name).parent.mkdir()
        content = text.encode()
        (tmp_path / name).write_bytes(gzip.compress(content) if name[-2:] == "gz" else content)
    table = table_file.read(f"{tmp_path}/*/*M.csv*")
    assert [row.name for row in table.rows] == [f"{n} row {k}" for n in ("a/12M.csv", "b/7M.csv.gz")
                                                for k in (2, 3)]  # fmt: skip
    assert [row.cells[table_file.FILE] for row in table.rows] == ["a/12M"] * 2 + ["b/7M"] * 2
    assert table.left_out[0].text.startswith("b/7M.csv.gz row 4: 2 cells")
    (tmp_path / "b" / "9M.csv").write_text("N,loss\n1,2\n")
    with pytest.raises(UserError, match=r"9M\.csv: no column 'D', as other files have"):
        table_file.read(f"{tmp_path}/*/*M.csv*").require(("N", "D"))
    with pytest.raises(UserError, match="no file matches"):
        table_file.read(f"{tmp_path}/*.none")
    with pytest.raises(UserError, match=r"a folder; name a file, or a pattern in quotes"):
        table_file.read(tmp_path)
