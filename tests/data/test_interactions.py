"""Test interactions: sequences in order of time, filters, held-out items, and windows."""

from __future__ import annotations

import io
import json
import keyword
import tokenize

import numpy as np
import pyarrow as pa
import pytest
from ml_collections import ConfigDict
from pyarrow import parquet

from scaling.config import load as config_lib
from scaling.data import corpus, interaction_tables, interactions
from scaling.data.sequence_batches import SequenceDispatches, held_out_sequences, held_out_users
from scaling.utils.errors import UserError
from tests.common import ROOT

# (user, item, time), not in order; "lone" has one interaction, "e" and "f" are used once
ROWS = [
    ("ann", "b", 20), ("ann", "a", 10), ("ann", "c", 30), ("ann", "e", 40), ("ann", "d", 50),
    ("bob", "d", 3), ("bob", "a", 1), ("bob", "b", 2), ("lone", "a", 5),
    ("cid", "c", 1), ("cid", "d", 2), ("cid", "f", 2), ("cid", "b", 3),
]  # fmt: skip


def section(**values):
    flat = {f"data.{k}": v for k, v in {"field": "recommend", **values}.items()}
    return config_lib.with_values(config_lib.base_config(), flat).data


@pytest.fixture
def table(tmp_path):
    """(path of a CSV of ROWS, config section that reads it)."""
    path = tmp_path / "rows.csv"
    path.write_text("item,timestamp,user\n" + "".join(f"{i},{t},{u}\n" for u, i, t in ROWS))
    return path, section(
        name="interaction_table", path=str(path), cache_dir=str(tmp_path / "c"), min_uses=1,
        vocab_size=7,
    )  # fmt: skip


def named(read, tokens):
    return ["".join(read.names[i - 1] if i else "." for i in row) for row in tokens]


def test_a_table_becomes_sequences_in_order_of_time(table, capsys):
    _, data = table
    read = interactions.prepare(data)
    assert "warning: 1 users of a single interaction left out" in capsys.readouterr().err
    assert named(read, np.split(read.items_I, read.begins_U1[1:-1])) == ["abced", "abd", "cdfb"]
    assert (read.n_items, read.single) == (6, 1)
    assert read.names[:2] == ("b", "d")  # three uses each; the users of a are two, without "lone"
    meta = json.loads((read.folder / "meta.json").read_text())
    assert (meta["users"], meta["interactions"], meta["single"]) == (3, 12, 1)
    assert interactions.prepare(data).fingerprint == read.fingerprint


def test_parquet_and_dates_give_the_same_sequences(table, tmp_path):
    _, data = table
    path = tmp_path / "rows.parquet"
    users, items, times = zip(*ROWS, strict=True)
    stamps = pa.array(times, pa.int64()).cast(pa.timestamp("s"))
    parquet.write_table(pa.table({"who": users, "what": items, "when": stamps}), path)
    other = section(**{**data.to_dict(), "path": str(path), "columns": ("who", "what", "when")})
    assert interactions.prepare(other).fingerprint == interactions.prepare(data).fingerprint


def test_the_last_item_is_held_out_and_every_other_but_the_first_is_a_target_once(table):
    read = interactions.prepare(table[1])
    s = SequenceDispatches(read, seq_len=2, batch_size=s_windows(read), steps=1, seed=0)
    assert sorted(named(read, s[0][0])) == sorted([".ab", "bce", ".ab", "cdf"])
    assert s[0].dtype == np.int32
    rows, users = held_out_sequences(read, seq_len=3, count=9)
    assert named(read, rows) == ["bced", ".abd", "cdfb"] and users.tolist() == [0, 1, 2]
    assert len(held_out_sequences(read, seq_len=3, count=2)[0]) == 2


def test_users_are_held_out_whole(table):
    read = interactions.prepare(table[1])
    bob = np.array([False, True, False])
    s = SequenceDispatches(read, seq_len=2, batch_size=1, steps=1, seed=0, held_out_U=bob)
    everything = [named(read, s[k][0])[0] for k in range(s.windows)]
    targets = "".join(w[1:].lstrip(".") if w[0] != "." else w[2:] for w in everything)
    assert sorted(targets) == sorted("bced" + "dfb")  # of ann and cid all but the first, once
    rows, users = held_out_sequences(read, seq_len=3, count=9, held_out_U=bob)
    assert named(read, rows) == ["..ab", ".abd"] and users.tolist() == [1, 1]
    one, of_user = held_out_sequences(read, seq_len=3, count=1, held_out_U=bob)
    assert named(read, one) == ["..ab"] and of_user.tolist() == [1]


def test_the_share_of_held_out_users_and_a_bad_split():
    data = section(name="python_identifiers", vocab_size=3379)
    read = interactions.prepare(data)
    held_out_U = held_out_users(read, 0.2)
    assert 0.15 < held_out_U.mean() < 0.25
    assert not (held_out_users(read, 0.1) & ~held_out_U).any()  # a smaller share is a subset
    with pytest.raises(UserError, match="None to hold out the last item of each"):
        config_lib.load("configs/recommend_quickstart.py", ["--config.data.valid_split=test"])


def s_windows(read) -> int:
    return SequenceDispatches(read, seq_len=2, batch_size=1, steps=1, seed=0).windows


def test_batches_do_not_depend_on_hosts_or_history_and_hide_items_by_place(table):
    read = interactions.prepare(table[1])
    options = {"seq_len": 3, "batch_size": 4, "steps": 3, "seed": 5, "drop_items": 0.5}
    whole = SequenceDispatches(read, **options)
    parts = [SequenceDispatches(read, **options, host=h, hosts=2)[7] for h in range(2)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole[7])
    plain = SequenceDispatches(read, **{**options, "drop_items": 0.0})[7]
    assert ((whole[7] == plain) | (whole[7] == 0)).all() and (whole[7] != plain).any()
    np.testing.assert_array_equal(whole[7][..., -1], plain[..., -1])


def test_the_core_has_no_rare_users_or_items():
    user = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    item = np.array([0, 1, 2, 0, 3, 0, 1, 2])
    # item 3 has one use and is removed, so user 1 has one left and is removed, too
    assert interactions.core(user, item, 2).tolist() == [True] * 3 + [False] * 2 + [True] * 3
    assert not interactions.core(user, item, 4).any()


def test_identifiers_are_those_of_pythons_own_tokenizer():
    text = "x = 1e7 # y\nz = f\"a\\\"\" + rb'''b''' if x else q"
    assert interaction_tables.identifiers(text) == ["x", "z", "q"]
    for _, content in corpus.source_files()[::60]:
        names = names_of_tokenize(content.decode())
        expected = [n for n in dict.fromkeys(names) if n not in keyword.kwlist]
        assert interaction_tables.identifiers(content.decode()) == expected


def names_of_tokenize(text: str) -> list[str]:
    """Return NAME tokens outside f-strings, which Python 3.12 and newer split."""
    depth, names = 0, []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        kind = tokenize.tok_name[token.type]
        depth += (kind == "FSTRING_START") - (kind == "FSTRING_END")
        if kind == "NAME" and not depth:
            names.append(token.string)
    return names


def test_the_embedded_table_is_rebuilt_from_the_embedded_corpus():
    read = interactions.prepare(section(vocab_size=3379))
    assert (read.n_items, len(read.items_I), len(read.begins_U1) - 1) == (3378, 78_196, 824)
    assert read.fingerprint == FINGERPRINT
    assert np.diff(read.begins_U1).min() >= 5 and np.bincount(read.items_I)[1:].min() >= 5


FINGERPRINT = "21b07bd89fb384e2"  # changing it changes every study of this table


@pytest.mark.parametrize(
    ("text", "values", "message"),
    [
        ("user,item\na,b\n", {}, "has user, item"),
        ("user,item,timestamp\na,b,1\na,,2\n", {}, "'item' has no value in 1 rows, first in row 2"),
        ("user,item,timestamp\na,b,soon\n", {}, "holds string, not numbers or dates"),
        ("user,item,timestamp\na,b\n", {}, "not readable as a table"),
        ("user,item,timestamp\na,b,1\n", {}, "no user of two or more interactions"),
        ("user,item,timestamp\n", {}, "the table has no row"),
        ("user,item,timestamp\na,b,1\na,c,2\n", {"min_uses": 3}, "lower config.data.min_uses=3"),
        ("user,item,timestamp\na,b,1\na,c,2\n", {}, "set config.data.vocab_size=3"),
        ("user,item,timestamp\na,b,1\na,c,2\n", {"hash": "beef"}, "config.data.hash=beef"),
        ("", {"path": "/nonexistent.csv"}, "no such .csv or .parquet file"),
        ("", {"name": "no_such_table"}, "config.data.name='no_such_table'"),
    ],
)
def test_bad_tables_are_refused_in_one_line(table, text, values, message):
    path, data = table
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        interactions.prepare(section(**{**data.to_dict(), **values}))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_damaged_cache_is_named(table):
    folder = interactions.prepare(table[1]).folder
    path = folder / "items.bin"
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")
    with pytest.raises(UserError, match=r"items\.bin: damaged"):
        interactions.prepare(table[1])


def test_installed_sources_start_with_the_corpus_and_depend_on_versions(monkeypatch):
    files = corpus.installed_files()
    own = corpus.source_files()
    assert files[: len(own)] == own and len(files) > 2 * len(own)
    data = config_lib.load(str(ROOT / "configs" / "recommend_quickstart.py")).data
    read = interactions.prepare(data)  # raises unless the config has the right number of items
    assert len(read.items_I) > 140_000 and len(read.begins_U1) > 2_000
    before = interaction_tables.identity(ConfigDict({"name": "installed_identifiers"}))
    monkeypatch.setattr(corpus, "MORE", ("no-such-package",))
    with pytest.raises(UserError, match="no-such-package is not installed; pip install"):
        interaction_tables.identity(ConfigDict({"name": "installed_identifiers"}))
    assert before["packages"]["sympy"] == corpus.PACKAGES["sympy"]
