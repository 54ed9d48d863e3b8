"""Test tokenised documents: hashes, splits by document, the cache, and errors."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from scaling.config import load as config_lib
from scaling.data import corpus, prepare, sources
from scaling.data.tokenizers import ByteTokenizer
from scaling.utils.errors import UserError
from tests.common import run_python


def data_section(**values):
    flat = {f"data.{k}": v for k, v in values.items()}
    return config_lib.with_values(config_lib.load("configs/base.py"), flat).data


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "texts"
    path.mkdir()
    for i in range(60):
        (path / f"{i:02}.txt").write_text(f"document {i}: " + "grüße und mehr " * (i + 1))
    return path


def test_embedded_corpus_is_the_pinned_one():
    files = corpus.source_files()
    assert len(files) == 852
    assert sum(len(content) for _, content in files) == 17_990_423


def test_embedded_corpus_through_tfds_keeps_every_byte():
    data = prepare.prepare(data_section())
    assert data.documents_hash.startswith(corpus.SHA256)
    # one separator per document
    assert len(data.train) + len(data.valid) == 17_990_423 + 852
    assert 0.03 < len(data.valid) / len(data.train) < 0.06


def test_a_tfds_name_gives_the_same_as_the_embedded_default():
    by_name = prepare.prepare(data_section(name="python_sources"))
    assert by_name.documents_hash == prepare.prepare(data_section()).documents_hash


def test_tensorflow_is_never_imported(tmp_path):
    code = (
        "import sys\nfrom scaling.config import load as config\nfrom scaling.data import prepare\n"
        "c = config.load('configs/base.py', ['--config.data.cache_dir=' + sys.argv[1]])\n"
        "prepare.prepare(c.data)\nprint('tensorflow' in sys.modules, 'torch' in sys.modules)\n"
    )
    done = run_python(code, str(tmp_path))
    assert done.stdout.strip().endswith("False False"), done.stderr


def test_folder_is_split_by_whole_documents(folder, tmp_path):
    data = prepare.prepare(
        data_section(
            name="text_folder", path=str(folder), valid_fraction=0.3, cache_dir=str(tmp_path)
        )
    )
    split = {}
    for name in ("train", "valid"):
        raw = bytes(getattr(data, name).tolist())
        split[name] = [d for d in raw.split(b"\0") if d]
    texts = {f.read_bytes() for f in folder.glob("*.txt")}
    assert {*split["train"], *split["valid"]} == texts
    assert not {*split["train"]} & {*split["valid"]}
    assert 5 < len(split["valid"]) < 30


def test_second_call_reads_the_cache(folder, tmp_path, monkeypatch):
    section = data_section(
        name="text_folder", path=str(folder), valid_fraction=0.3, cache_dir=str(tmp_path)
    )
    first = prepare.prepare(section)
    monkeypatch.setattr(prepare, "_build", None)
    second = prepare.prepare(section)
    assert first.fingerprint == second.fingerprint
    np.testing.assert_array_equal(first.train, second.train)


def test_changed_folder_is_tokenised_again(folder, tmp_path):
    section = data_section(
        name="text_folder", path=str(folder), valid_fraction=0.3, cache_dir=str(tmp_path)
    )
    first = prepare.prepare(section)
    (folder / "new.txt").write_text("one more document")
    assert prepare.prepare(section).fingerprint != first.fingerprint


def test_bpe_round_trip_and_byte_lengths(folder, tmp_path):
    section = data_section(
        name="text_folder", path=str(folder), valid_fraction=0.3, cache_dir=str(tmp_path),
        tokenizer="bpe", vocab_size=300,
    )  # fmt: skip
    data = prepare.prepare(section)
    from scaling.data.tokenizers import BpeTokenizer

    tokenizer = BpeTokenizer(data.folder / "tokenizer.json")
    text = "grüße und mehr: 你好"
    (ids,) = tokenizer.encode_batch([text])
    assert tokenizer.decode(ids) == text
    assert data.byte_lengths[ids].sum() == len(text.encode())
    total = sum(len(f.read_bytes()) + 1 for f in folder.glob("*.txt"))
    assert sum(data.byte_lengths[np.asarray(x)].sum() for x in (data.train, data.valid)) == total
    loaded = data_section(
        name="text_folder", path=str(folder), valid_fraction=0.3, cache_dir=str(tmp_path / "b"),
        tokenizer="bpe", vocab_size=300, tokenizer_path=str(data.folder / "tokenizer.json"),
    )  # fmt: skip
    np.testing.assert_array_equal(prepare.prepare(loaded).train, data.train)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "text_folder", "path": "/nonexistent/folder"}, "no such folder"),
        ({"hash": "deadbeef"}, "config.data.hash=deadbeef"),
        ({"name": "no_such_data_set"}, "config.data.name='no_such_data_set'"),
        ({"text_key": "body"}, "config.data.text_key='body'"),
        ({"unique_tokens": 10**9}, "config.data.unique_tokens"),
        ({"tokenizer": "bpe", "vocab_size": 300, "tokenizer_path": "/nope.json"}, "no such file"),
    ],
)
def test_bad_sources_are_refused_in_one_line(values, message):
    with pytest.raises(UserError) as caught:
        prepare.prepare(data_section(**values))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_empty_folder_and_binary_files_are_named(tmp_path):
    with pytest.raises(UserError, match="no non-empty file matches"):
        prepare.prepare(data_section(name="text_folder", path=str(tmp_path)))
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"a\.txt: not UTF-8"):
        prepare.prepare(data_section(name="text_folder", path=str(tmp_path)))
    with pytest.raises(UserError, match="NUL"):
        ByteTokenizer().encode_batch(["a\0b"])


def test_damaged_cache_is_named_and_left_alone(folder, tmp_path):
    section = data_section(
        name="text_folder", path=str(folder), valid_fraction=0.3, cache_dir=str(tmp_path)
    )
    data = prepare.prepare(section)
    path = data.folder / "train.bin"
    content = bytearray(path.read_bytes())
    content[10] ^= 1
    path.write_bytes(content)
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(UserError, match=r"train\.bin: damaged"):
        prepare.prepare(section)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before
    assert json.loads((data.folder / "meta.json").read_text())["sha256"]["train"] != before
    (data.folder / "meta.json").write_text("")
    with pytest.raises(UserError, match=r"meta\.json: damaged .*; delete .* and run again"):
        prepare.prepare(section)


def bpe_section(folder, tmp_path):
    return data_section(
        name="text_folder", path=str(folder), valid_fraction=0.3, cache_dir=str(tmp_path),
        tokenizer="bpe", vocab_size=300,
    )  # fmt: skip


def change_lengths(folder) -> None:
    lengths = np.load(folder / "byte_lengths.npy")
    lengths[40] += 1
    np.save(folder / "byte_lengths.npy", lengths)


def change_meta(folder, **values) -> None:
    path = folder / "meta.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("damage", "name"),
    [
        (change_lengths, "byte_lengths.npy"),
        (lambda f: (f / "byte_lengths.npy").write_bytes(b""), "byte_lengths.npy"),
        (lambda f: (f / "byte_lengths.npy").unlink(), "byte_lengths.npy"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer.json"),
        (lambda f: (f / "valid.bin").write_bytes(b"\0"), "valid.bin"),
        (lambda f: change_meta(f, dtype="int16"), "meta.json"),
        (lambda f: change_meta(f, others={}), "meta.json"),
        (lambda f: change_meta(f, tokens={"train": "many"}), "meta.json"),
        (lambda f: (f / "meta.json").write_text("[]"), "meta.json"),
        (lambda f: (f / "meta.json").write_text("{}"), "meta.json"),
        (lambda f: (f / "meta.json").write_text("[" * 100_000), "meta.json"),
        (lambda f: ((f / "meta.json").unlink(), (f / "meta.json").mkdir()), "meta.json"),
    ],
    ids=map(str, range(12)),
)
def test_every_file_of_the_cache_is_checked(folder, tmp_path, damage, name):
    section = bpe_section(folder, tmp_path)
    data = prepare.prepare(section)
    damage(data.folder)
    with pytest.raises(UserError, match=rf"{name}: damaged .*; delete .* and run again$") as caught:
        prepare.prepare(section)
    assert "\n" not in str(caught.value)


def test_a_folder_without_its_meta_json_is_named(folder, tmp_path):
    section = bpe_section(folder, tmp_path)
    data = prepare.prepare(section)
    (data.folder / "meta.json").unlink()
    with pytest.raises(UserError, match=r"a folder without meta\.json is there\); delete .*"):
        prepare.prepare(section)
    assert [path.name for path in data.folder.parent.iterdir()] == [data.folder.name]


def test_a_cache_of_an_older_version_opens_and_is_checked_by_its_tokenizer(folder, tmp_path):
    section = bpe_section(folder, tmp_path)
    data = prepare.prepare(section)
    meta = json.loads((data.folder / "meta.json").read_text())
    old = {k: v for k, v in meta.items() if k not in ("others", "seal")}
    (data.folder / "meta.json").write_text(json.dumps(old))
    change_lengths(data.folder)  # which no hash of then covers
    again = prepare.prepare(section)
    assert again.fingerprint == data.fingerprint
    np.testing.assert_array_equal(again.byte_lengths, data.byte_lengths)
    change_meta(data.folder, dtype="int16")
    with pytest.raises(UserError, match=r"meta\.json: damaged \(dtype=int16"):
        prepare.prepare(section)
    change_meta(data.folder, dtype="uint16", tokenizer="bpe:0123456789abcdef")
    with pytest.raises(UserError, match=r"tokenizer\.json: damaged"):
        prepare.prepare(section)


def test_documents_that_are_held_out_are_not_trained_on(tmp_path, monkeypatch):
    whole, again = ["alpha " * 30, "beta " * 30, "gamma " * 30], ["beta " * 30]
    monkeypatch.setattr(sources, "documents", lambda data, root: (whole, again))
    section = data_section(name="c4/en", valid_split="validation", cache_dir=str(tmp_path))
    data = prepare.prepare(section)
    text = bytes(data.train).decode()
    assert "alpha" in text and "gamma" in text and "beta" not in text
    assert "beta" in bytes(data.valid).decode()
    assert json.loads((data.folder / "meta.json").read_text())["equal_to_held_out"] == 1
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"valid_split='train' is config\.data\.train_split, too"):
        prepare.prepare(data_section(valid_split="train", cache_dir=str(tmp_path / "other")))


def test_a_tokenizer_whose_tokens_have_no_known_bytes_is_refused(folder, tmp_path):
    import tokenizers
    from tokenizers import decoders, models

    path = tmp_path / "tokenizer.json"
    tokenizer = tokenizers.Tokenizer(
        models.BPE(vocab={"</s>": 0} | {f"a{i}": i for i in range(1, 300)}, merges=[])
    )
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.save(str(path))
    section = data_section(
        name="text_folder", path=str(folder), tokenizer="bpe", vocab_size=300,
        tokenizer_path=str(path), cache_dir=str(tmp_path / "cache"),
    )  # fmt: skip
    with pytest.raises(UserError, match="its decoder is Metaspace, not ByteLevel"):
        prepare.prepare(section)


def test_a_failed_build_leaves_nothing_behind(tmp_path):
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "a.txt").write_text("only one document, so one split stays empty")
    section = data_section(name="text_folder", path=str(texts), cache_dir=str(tmp_path / "cache"))
    with pytest.raises(UserError, match="no document in the"):
        prepare.prepare(section)
    assert list((tmp_path / "cache" / "tokens").iterdir()) == []


def test_windows_of_one_document_are_one_draw():
    from scaling.fields import registry as fields

    config = config_lib.load("configs/mini.py", ["--config.eval.tokens=65536"])
    rows = fields.of("language").prepare(config).held_out(config)
    data = prepare.prepare(config.data)
    documents = np.split(data.valid, np.flatnonzero(data.valid == data.separator) + 1)
    assert rows.groups_N is not None and len(rows.groups_N) == len(rows.batch)
    for n in range(0, len(rows.batch), 97):
        begin = bytes(rows.batch[n][:8])
        assert begin in bytes(np.concatenate(documents[rows.groups_N[n] : rows.groups_N[n] + 2]))
    assert 1 < len(set(rows.groups_N)) < len(rows.groups_N)
