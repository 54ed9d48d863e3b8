"""Text, JSON lines, Parquet and saved data sets are read as they are, or refused in one line."""

from __future__ import annotations

import bz2
import gzip
import json
import sys
import types

import pyarrow as pa
import pytest
from pyarrow import parquet

from scaling.config import load as config_lib
from scaling.data import prepare, sources, text_pieces, text_rows
from scaling.utils.errors import UserError

TEXTS = [f"document {i}: grüße {'und mehr ' * (i % 7)}" for i in range(200)]


def section(**values):
    flat = {f"data.{k}": v for k, v in values.items()}
    return config_lib.with_values(config_lib.base_config(), flat).data


def read(name, path, **values):
    """Return (the documents, the counts of what was left out)."""
    data = section(name=name, path=str(path), **values)
    documents, _ = sources.documents(data, None)
    texts = list(documents)
    whole = documents.documents if isinstance(documents, text_pieces.Pieces) else documents
    return texts, dict(whole.faults.counts)


def refused(name, path, **values):
    with pytest.raises(UserError) as caught:
        read(name, path, **values)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    return str(caught.value)


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


PACK = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".zst": zstd}


def lines(rows) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def saved(folder, rows, files=1):
    """Write a split as `datasets` 5.2 saves it."""
    folder.mkdir(parents=True)
    names = [f"data-{i:05}-of-{files:05}.arrow" for i in range(files)]
    for i, name in enumerate(names):
        table = pa.Table.from_pylist(rows[i::files])
        with (
            pa.OSFile(str(folder / name), "wb") as sink,
            pa.ipc.new_stream(sink, table.schema) as writer,
        ):
            writer.write_table(table, max_chunksize=30)
    state = {"_data_files": [{"filename": name} for name in names], "_split": None}
    (folder / "state.json").write_text(json.dumps(state))


@pytest.mark.parametrize("suffix", PACK)
def test_a_folder_of_text_and_of_json_lines_in_any_compression(suffix, tmp_path):
    texts, rows = tmp_path / "texts", tmp_path / "rows"
    for folder in (texts, rows):
        folder.mkdir()
    for i, text in enumerate(TEXTS):
        (texts / f"{i:03}.txt{suffix}").write_bytes(PACK[suffix](text.encode()))
    for i in range(2):
        content = lines({"body": {"text": t}, "id": 1} for t in TEXTS[100 * i : 100 * i + 100])
        (rows / f"{i}.jsonl{suffix}").write_bytes(PACK[suffix](content))
    assert read("text", texts) == (TEXTS, {})
    assert read("jsonl", rows, text_key="body.text") == (TEXTS, {})


def test_a_path_is_a_file_a_folder_a_glob_or_several(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.jsonl").write_bytes(lines({"text": f"{name} {t}"} for t in TEXTS))
    a, b, c = (tmp_path / f"{name}.jsonl" for name in "abc")
    firsts = {str(path): read("jsonl", path)[0][0][0] for path in (a, b)}
    assert firsts == {str(a): "a", str(b): "b"}
    assert len(read("jsonl", tmp_path)[0]) == len(read("jsonl", tmp_path / "*.jsonl")[0]) == 600
    assert [t[0] for t in read("jsonl", f"{c},{a}")[0][::200]] == ["c", "a"]
    study = tmp_path / "study" / "study.py"
    study.parent.mkdir()
    study.write_text(
        "from scaling.configs import base\n\n\ndef get_config():\n    c = base.get_config()\n"
        "    c.data.name, c.data.path = 'jsonl', ['c.jsonl', 'a.jsonl']\n    return c\n"
    )
    assert config_lib.load(str(study)).data.path == "c.jsonl,a.jsonl"
    study.unlink()
    assert "nothing*.jsonl: no file matches this pattern" in refused("jsonl", "nothing*.jsonl")
    assert "config.data.path=gone: no such file or folder" in refused("text", "gone")
    assert "no file matches *.txt, it has *.jsonl; set" in refused("text", tmp_path)
    assert len(read("jsonl", tmp_path, pattern="a*")[0]) == 200


@pytest.mark.parametrize(
    ("separator", "between"),
    [
        ("blank_line", "\n \n\n"),
        ("<|endoftext|>", "<|endoftext|>"),
        (r"re:^=+\n", "\n====\n"),
        (r"re:(?=^document )", "\n"),
    ],
)
def test_a_separator_cuts_one_file_wherever_a_chunk_ends(separator, between, monkeypatch):
    whole = between.join(TEXTS)
    pattern = text_pieces.pattern(separator)
    for size in (1, 7, 1000, len(whole)):
        chunks = [whole[i : i + size] for i in range(0, len(whole), size)]
        documents = [t.rstrip("\n") for t in text_pieces.split(chunks, pattern) if t.strip()]
        assert documents == TEXTS
    monkeypatch.setattr(text_pieces, "LONGEST", 20)
    pieces = list(text_pieces.split(chunks, pattern))
    assert max(map(len, pieces)) <= 20
    assert "".join(pieces).replace("\n", "") == "".join(TEXTS)


def test_bad_separators_are_refused():
    assert "no regex" in refused("text", ".", pattern="*.toml", separator="re:(")
    assert "matches between" in refused("text", ".", pattern="*.toml", separator="re:x*")
    with pytest.raises(UserError, match=r"separator='x' needs config\.data\.name='text'"):
        config_lib.load("configs/base.py", ["--config.data.separator=x"])
    with pytest.raises(UserError, match=r"data\.errors='skip' needs config\.data\.name='text'"):
        config_lib.load("configs/base.py", ["--config.data.errors=skip"])


def test_one_document_alone_is_split_inside(tmp_path):
    book = tmp_path / "book.txt"
    book.write_text("\n".join(TEXTS * 20))
    texts, _ = read("text", book)
    assert "".join(texts) == book.read_text() and len(texts) > 300
    assert all(t.endswith("\n") for t in texts[:-1])
    data = prepare.prepare(section(name="text", path=str(book), cache_dir=str(tmp_path / "c")))
    assert 0.01 < len(data.valid) / len(data.train) < 0.15


def test_parquet_and_saved_data_sets_give_the_rows_of_one_key(tmp_path):
    rows = [{"text": t, "body": {"text": t.upper()}, "n": 1} for t in TEXTS]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=70)
    assert read("parquet", tmp_path / "a.parquet") == (TEXTS, {})
    assert read("parquet", tmp_path, text_key="body.text")[0] == [t.upper() for t in TEXTS]
    saved(tmp_path / "alone", rows)
    assert read("hf", tmp_path / "alone", text_key="body.text")[0] == [t.upper() for t in TEXTS]
    both = tmp_path / "both"
    saved(both / "train", rows, files=2)
    saved(both / "test", rows[:5])
    (both / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert sorted(read("hf", both)[0]) == sorted(TEXTS)
    held_out = section(name="hf", path=str(both), valid_split="test")
    assert list(sources.documents(held_out, None)[1]) == TEXTS[:5]
    assert "train_split='dev': " in refused("hf", both, train_split="dev")
    assert "has one split without a name" in refused("hf", tmp_path / "alone", valid_split="test")
    assert "not a folder that `datasets` saved" in refused("hf", tmp_path)
    (both / "train" / "data-00001-of-00002.arrow").unlink()
    assert "data-00001-of-00002.arrow: no such file" in refused("hf", both)


def test_a_name_of_the_hub_is_streamed(monkeypatch):
    def load(name, subset, *, split, streaming):
        assert (name, subset, split, streaming) == ("owner/data", "part", "train", True)
        return [{"text": t} for t in TEXTS]

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load))
    assert read("hf", "owner/data:part") == (TEXTS, {})
    assert "and the hub gave none" in refused("hf", "owner/other")
    assert sources.identity(section(name="hf", path="owner/other"))  # needs no network
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "pip install 'scaling[hf]'" in refused("hf", "owner/data")


GOOD = {"text": "good " * 40}


@pytest.mark.parametrize(
    ("name", "content", "message", "left"),
    [
        ("a.jsonl", b"", "a.jsonl: empty file; remove it", 0),
        ("a.jsonl", b"\n \n", "a.jsonl: no document; remove it", 0),
        ("a.jsonl", lines([GOOD, {"id": 1}]), "a.jsonl line 2: no key 'text'; set", 1),
        ("a.jsonl", lines([GOOD, {"text": 5}]), "line 2: 'text' is int, not text; set", 1),
        ("a.jsonl", lines([GOOD, {"text": None}]), "line 2: 'text' is null, not text; set", 1),
        ("a.jsonl", lines([GOOD]) + b"{bad\n", "line 2: not JSON; write one object per line", 1),
        ("a.jsonl", lines([GOOD, [1]]), "line 2: not an object; write", 1),
        ("a.jsonl", lines([GOOD]) + b'{"text": "\xff"}\n', "line 2: not UTF-8; convert it", 1),
        ("a.jsonl", lines([GOOD, {"text": "a\0b"}]), "line 2: a NUL byte, so it is not text", 1),
        ("a.jsonl", lines([GOOD, {"text": "\ud800"}]), "line 2: not UTF-8", 1),
        ("a.jsonl", lines([GOOD, {"text": "x" * 3000}]), "line 2: longer than ", 1),
        ("a.txt", b"caf\xe9 au lait", "a.txt document 1: not UTF-8; after 'caf', convert", 0),
        ("a.txt", "grüße".encode("utf-16"), "a.txt document 1: not UTF-8; at its start", 0),
        ("a.txt", zstd(b"x" * 10**5 + bytes(range(128)))[:-9], "a.txt: damaged (Truncated", 0),
        ("a.txt", gzip.compress(b"x" * 99)[:-9], "a.txt: damaged (Compressed file ended", 0),
        ("a.parquet", b"PAR1 no", "a.parquet: damaged (", 0),
    ],
    ids=map(str, range(16)),
)
def test_faults_are_named_in_one_line_or_skipped_and_counted(
    name, content, message, left, tmp_path, monkeypatch
):
    monkeypatch.setattr(text_rows, "LONGEST_LINE", 2000)
    path, kind = tmp_path / name, {"txt": "text"}.get(name[2:], name[2:])
    path.write_bytes(content)
    line = refused(kind, path)
    assert message in line and line.endswith("leave it out: config.data.errors=skip")
    texts, skipped = read(kind, path, errors="skip")
    assert texts == [GOOD["text"]] * left and sum(skipped.values()) >= 1
    assert not (tmp_path / "cache").exists()


def test_mixed_schemas_are_named_with_the_file(tmp_path):
    parquet.write_table(pa.Table.from_pylist([{"text": t} for t in TEXTS]), tmp_path / "a.parquet")
    parquet.write_table(pa.Table.from_pylist([{"body": "x", "n": 1}]), tmp_path / "b.parquet")
    assert "b.parquet: no column 'text'; it has body, n; set" in refused("parquet", tmp_path)
    assert read("parquet", tmp_path, errors="skip") == (TEXTS, {"no column 'text'": 1})


def test_what_is_not_text_is_replaced_on_demand(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"caf\xe9 a\0b")
    texts, counts = read("text", tmp_path, errors="replace")
    assert texts == ["caf\ufffd a\ufffdb"] and counts == {"repaired: not UTF-8": 1}


def test_nothing_half_written_is_left(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(lines([{"text": t} for t in TEXTS]) + b"{bad\n")
    data = section(name="jsonl", path=str(tmp_path / "a.jsonl"), cache_dir=str(tmp_path / "c"))
    with pytest.raises(UserError, match=r"line 201: not JSON"):
        prepare.prepare(data)
    assert not list((tmp_path / "c").rglob("*.bin"))
