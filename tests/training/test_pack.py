"""Runs of one program side by side, and forked runs, have the numbers of runs alone."""

from __future__ import annotations

import shutil

import jax
import numpy as np
import pytest

from scaling.config import load as config_lib
from scaling.programs import backend, train_step
from scaling.training import loop
from scaling.training.spec import RunSpec
from scaling.utils import files
from tests.common import STEP

EXACT = ("loss", "loss_se", "bits_per_byte", "train_loss", "tokens")


def variants(config):
    """Three runs of one program that differ in rate, seed, horizon, warm-up and weight decay."""
    values = (
        {"optim.lr": 1e-3, "train.tokens": STEP * 40},
        {"optim.lr": 1e-2, "seed": 1, "train.tokens": STEP * 23, "optim.warmup_tokens": STEP * 8},
        {"optim.lr": 3e-3, "optim.weight_decay": 0.0, "train.tokens": STEP * 50},
    )
    return [config_lib.with_values(config, v) for v in values]


def rows(folder, name="metrics.jsonl"):
    read = files.read_lines(folder / name, "step")  # the checksum names the run
    return [{k: v for k, v in row.items() if k != files.CHECKSUM} for row in read]


def test_packed_runs_get_the_numbers_they_have_alone(tmp_path, config):
    configs = variants(config)
    packed = loop.train_runs(
        [RunSpec(c, tmp_path / "pack" / str(i)) for i, c in enumerate(configs)]
    )
    for i, (c, result) in enumerate(zip(configs, packed, strict=True)):
        alone = loop.train_run(c, tmp_path / "alone" / str(i))
        assert result.loss == pytest.approx(alone.loss, rel=2e-5)
        assert (result.tokens, result.lr, result.seed) == (alone.tokens, alone.lr, alone.seed)
        ours, theirs = (rows(tmp_path / k / str(i)) for k in ("pack", "alone"))
        assert [r["step"] for r in ours] == [r["step"] for r in theirs]
        np.testing.assert_allclose(
            [r["loss"] for r in ours], [r["loss"] for r in theirs], rtol=2e-5
        )
        assert result.packed == 3 and alone.packed == 1


def test_a_pack_that_lost_results_and_checkpoints_ends_with_the_same_bits(tmp_path, config):
    """As a kill leaves it: one run ended, one at an older checkpoint, one at none."""
    configs = variants(config)
    specs = [RunSpec(c, tmp_path / str(i)) for i, c in enumerate(configs)]
    first = loop.train_runs(specs)
    (tmp_path / "1" / "result.json").unlink()
    shutil.rmtree(max((tmp_path / "1" / "checkpoints").glob("[0-9]*"), key=lambda p: int(p.name)))
    shutil.rmtree(tmp_path / "2")
    again = loop.train_runs(specs)
    for a, b in zip(first, again, strict=True):
        assert [getattr(a, k) for k in EXACT] == [getattr(b, k) for k in EXACT]


def test_vectorised_runs_agree_to_float_tolerance(tmp_path, config, monkeypatch):
    configs = variants(config)
    mapped = loop.train_runs([RunSpec(c, tmp_path / "map" / str(i)) for i, c in enumerate(configs)])
    monkeypatch.setattr(backend, "RUN_AXIS", {"cpu": "vmap"})
    train_step.clear_caches()
    vmapped = loop.train_runs([RunSpec(c, tmp_path / "v" / str(i)) for i, c in enumerate(configs)])
    train_step.clear_caches()
    for a, b in zip(mapped, vmapped, strict=True):
        assert a.loss == pytest.approx(b.loss, rel=1e-4) and a.tokens == b.tokens


def test_a_pack_diverges_and_fails_run_by_run(tmp_path, config):
    good, wild, foreign = (
        config,
        config_lib.with_values(
            config, {"optim.schedule": "constant", "optim.lr": 1e30, "optim.weight_decay": 0.0}
        ),
        config_lib.with_values(config, {"seed": 5}),
    )
    wild, good, foreign = (
        config_lib.with_values(c, {"optim.schedule": "constant"}) for c in (wild, good, foreign)
    )
    files.write_json(tmp_path / "2" / "config.json", config_lib.to_json(good))
    found = loop.train_runs(
        [RunSpec(c, tmp_path / str(i)) for i, c in enumerate((good, wild, foreign))]
    )
    assert found[0].status == "done" and found[1].status == "diverged"
    assert "at step" in found[1].reason and "belongs to another run" in str(found[2])


@pytest.fixture
def wsd(config):
    values = {
        "optim.schedule": "wsd",
        "optim.warmup_tokens": STEP * 4,
        "optim.decay_fraction": 0.25,
    }
    return config_lib.with_values(config, values)


def test_a_forked_run_equals_the_same_run_alone_to_the_bit(tmp_path, wsd):
    """Trunk of 60 steps; a run of 37 forks at 24, the last row before its decay, in a dispatch."""
    long, short = (config_lib.with_values(wsd, {"train.tokens": STEP * n}) for n in (60, 37))
    assert config_lib.schedule_steps(short)["decay"] == 9
    loop.train_run(long, tmp_path / "long", keep_steps=(28,))
    forked = loop.train_run(short, tmp_path / "forked", trunk=tmp_path / "long", fork_step=28)
    alone = loop.train_run(short, tmp_path / "alone")
    assert [getattr(forked, k) for k in EXACT] == [getattr(alone, k) for k in EXACT]
    assert rows(tmp_path / "forked") == rows(tmp_path / "alone")
    assert forked.trunk == "long" and alone.trunk == ""
    per_step = alone.flops_exact / 37
    assert alone.flops_spent == pytest.approx(alone.flops_exact)
    assert forked.flops_spent == pytest.approx(9 * per_step)
    longer = loop.train_run(long, tmp_path / "uninterrupted")
    assert longer.loss == loop.train_run(long, tmp_path / "long").loss


def test_a_run_pauses_and_goes_on(tmp_path, config):
    spec = RunSpec(config, tmp_path / "run", until=20)
    assert loop.train_runs([spec]) == [None]
    assert rows(tmp_path / "run")[-1]["step"] == 20
    assert loop.train_runs([spec]) == [None]
    whole = loop.train_run(config, tmp_path / "run")
    alone = loop.train_run(config, tmp_path / "alone")
    assert whole.loss == alone.loss and rows(tmp_path / "run") == rows(tmp_path / "alone")


def test_init_of_a_pack_is_the_init_of_a_run(config):
    packed, single = train_step.programs(config, 2), train_step.programs(config)
    for a, b in zip(jax.tree.leaves(packed.init(3)), jax.tree.leaves(single.init(3)), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
