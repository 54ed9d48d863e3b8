"""Test the cleaning and deduplication of documents: each step by its switch, with its count."""

from __future__ import annotations

import json
import unicodedata

import numpy as np
import pytest

from scaling.config import load as config_lib
from scaling.data import near, prepare, text_steps
from scaling.utils.errors import UserError
from tests.common import run_python


def section(**values):
    flat = {f"data.{k}": v for k, v in values.items()}
    return config_lib.with_values(config_lib.base_config(), flat).data


def steps(**values):
    return text_steps.from_config(section(**values))


def words(begin: int, count: int, changed: int = -1) -> str:
    """Return a text of numbered words, one of them changed."""
    return " ".join(f"w{begin + i}" if i != changed else "other" for i in range(count))


def fates(documents, held_out=None, fraction=0.0, **values):
    plan = text_steps.plan(documents, held_out, fraction, steps(**values))
    return list(plan.fates), dict(plan.removed)


def test_each_step_removes_and_counts_its_own():
    kept = "a text of letters"
    documents = ["ab", kept, "x" * 50, "#!%$ &*()= ab", ""]
    assert fates(documents, min_chars=3) == ([2, 0, 0, 0, 2], {"min_chars": 2})
    assert fates(documents, max_chars=40) == ([0, 0, 2, 0, 0], {"max_chars": 1})
    assert fates(documents, min_letters=0.6) == ([0, 0, 0, 2, 2], {"min_letters": 2})
    assert text_steps.letters("ab #") == 0.75 and text_steps.letters("नमस्ते") == 1.0


def test_exact_duplicates_are_found_after_nfc():
    nfc, nfd = "grüße", unicodedata.normalize("NFD", "grüße")
    assert fates([nfc, nfd, "x", nfc], dedupe="exact")[0] == [0, 0, 0, 2]
    assert fates([nfc, nfd, "x", nfc], dedupe="exact", clean=True) == ([0, 2, 0, 2], {"exact": 2})


def test_near_duplicates_are_removed_and_far_ones_stay():
    base, near_one, far = words(0, 400), words(0, 400, changed=200), words(300, 400)
    # one changed word changes 5 of 396 runs: the index is 391 / 401; the far one shares 96 of 696
    a, b = ({*near.runs(t)} for t in (base, near_one))
    assert len(a & b) / len(a | b) == 391 / 401
    assert fates([base, far, near_one, base], dedupe="near") == (
        [0, 0, 2, 2],
        {"near": 1, "exact": 1},
    )
    assert fates([base, near_one], dedupe="near", near_threshold=1.0)[0] == [0, 0]


def test_bands_find_almost_all_pairs_at_the_threshold():
    assert near.bands(0.8) == (21, 6)  # 1 - (1 - 0.8^6)^21 = 0.998; with 7 rows 18 bands give 0.986
    assert near.bands(1.0) == (2, 64) and near.bands(0.01) == (128, 1)


def test_a_held_out_document_stays_and_similar_ones_are_removed():
    base, like = words(0, 400), words(0, 400, changed=10)
    assert fates([like, "z"], held_out=[base], dedupe="near") == ([1, 2, 0], {"near": 1})
    assert fates([like, "z"], held_out=[base], dedupe="split") == (
        [1, 2, 0], {"near a held-out document": 1},
    )  # fmt: skip


def test_similar_documents_stay_on_one_side_of_the_split():
    # 40 families of 4, each a chain: neighbours are similar, its ends less so
    documents = [words(1000 * f, 200, changed=50 * m) for m in range(4) for f in range(40)]
    apart, _ = fates(documents, fraction=0.5, dedupe="none", clean=True)
    together, removed = fates(documents, fraction=0.5, dedupe="split")
    families = [{together[40 * m + f] for m in range(4)} for f in range(40)]
    assert all(len(sides) == 1 for sides in families) and not removed
    assert 8 < sum(sides == {text_steps.VALID} for sides in families) < 32
    assert any(len({apart[40 * m + f] for m in range(4)}) == 2 for f in range(40))
    assert together[:40] == apart[:40]  # the hash of the first of a family decides


def test_clusters_are_joined_over_chains():
    clusters = text_steps.Clusters()
    for number, others in ((0, []), (1, []), (2, [1]), (3, [0, 2])):
        clusters.join(number, others)
    assert [clusters.first(i) for i in range(4)] == [0] * 4


def test_steps_change_the_fingerprint_and_are_counted_on_disk(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    for i in range(60):
        (folder / f"{i:02}.txt").write_text(words(0 if i < 20 else 1000 * i, 100))
    common = {
        "name": "text_folder", "path": str(folder), "cache_dir": str(tmp_path / "c"),
        "valid_fraction": 0.3,
    }  # fmt: skip
    plain = prepare.prepare(section(**common))
    assert "steps" not in json.loads((plain.folder / "meta.json").read_text())
    fingerprints = {plain.fingerprint}
    for values in (
        {"dedupe": "exact"},
        {"dedupe": "near"},
        {"dedupe": "near", "near_threshold": 0.7},
    ):
        data = prepare.prepare(section(**common, **values))
        meta = json.loads((data.folder / "meta.json").read_text())
        assert meta["steps"]["removed"] == {"exact": 19}
        assert data.documents_hash == plain.documents_hash  # that of the unchanged documents
        assert len(data.train) + len(data.valid) < len(plain.train) + len(plain.valid)
        raw = bytes(data.train.tolist() + data.valid.tolist())
        assert (
            len({*raw.split(b"\0")}) == len(raw.split(b"\0")) == 42
        )  # 41 and what follows the last
        fingerprints.add(data.fingerprint)
        assert prepare.prepare(section(**common, **values)).fingerprint == data.fingerprint
    assert len(fingerprints) == 4


def test_the_error_of_a_missing_package_names_the_command_that_installs_it():
    code = (
        "import sys\nsys.modules['datasketch'] = None\n"
        "from scaling.data import near\nnear.NearIndex(0.8)"
    )
    done = run_python(code)
    assert "pip install 'scaling[dedupe]'" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("values", [{"dedupe": "all"}, {"min_letters": 2.0}, {"min_chars": -1}])
def test_bad_switches_are_named(values):
    (key,) = values
    with pytest.raises(UserError, match=rf"config\.data\.{key}="):
        section(**values)


def test_another_split_seed_holds_out_other_documents():
    documents = [f"document {n}" for n in range(400)]
    held_out = {
        seed: {d for d in documents if text_steps.draw(d, seed) < 0.2} for seed in (0, 1, 2)
    }
    assert all(50 < len(chosen) < 110 for chosen in held_out.values())
    assert len(held_out[0] & held_out[1]) < 40 and held_out[1] != held_out[2]
    plan = text_steps.plan(documents, None, 0.2, steps(), seed=1)
    assert {d for d, fate in zip(documents, plan.fates, strict=True) if fate} == held_out[1]


def test_the_split_seed_is_part_of_the_data(tmp_path):
    for number in range(40):
        (tmp_path / f"{number}.txt").write_text(f"document {number} " * 20)
    source = {"name": "text_folder", "path": str(tmp_path), "valid_fraction": 0.3}
    source["cache_dir"] = str(tmp_path / "cache")
    data = [prepare.prepare(section(**source, split_seed=seed)) for seed in (0, 0, 1)]
    assert data[0].fingerprint == data[1].fingerprint != data[2].fingerprint
    assert not np.array_equal(data[0].valid[:500], data[2].valid[:500])
