"""Searches per size: planted optima of lr and batch give back their power laws; edges and single
groups are said.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from scaling.analysis import hyper, registry
from scaling.config import load as config_lib
from scaling.utils.errors import UserError
from tests.analysis.known import row
from tests.common import ROOT


@pytest.fixture(scope="module")
def config():
    return config_lib.with_values(
        config_lib.load(str(ROOT / "configs" / "mini.py")), {"laws.bootstrap": 100}
    )


def best_lr(n, d):
    return 2.0 * n**-0.6 * d**0.05


def best_batch(d):
    return 1.5 * d**0.5


def searched(sizes, lengths, lrs, batches, noise=0.0, seeds=(0,)):
    rng, rows = np.random.default_rng(0), []
    for n in sizes:
        for d in lengths:
            for x in lrs:
                for b in batches:
                    for seed in seeds:
                        lr, batch = best_lr(n, d) * x, best_batch(d) * b
                        bowl = 0.03 * np.log(x) ** 2 + 0.01 * np.log(b) ** 2
                        loss = (1.2 + 10 * n**-0.3) * np.exp(bowl + noise * rng.standard_normal())
                        given = {
                            "n_params": int(n),
                            "tokens": int(d),
                            "lr": float(lr),
                            "seed": seed,
                        }
                        rows.append(
                            row(len(rows), loss=float(loss), batch_tokens=int(batch), **given)
                        )
    return rows


SIZES, LENGTHS = (2_000, 8_000, 32_000), (1_000_000, 4_000_000, 16_000_000)
FACTORS = tuple(2.0 ** (k / 2) * 1.1 for k in range(-4, 4))


def test_both_laws_are_recovered(config, tmp_path):
    rows = searched(SIZES, LENGTHS, FACTORS, (0.25, 0.5, 1.0, 2.0, 4.0), noise=5e-4)
    found = hyper.hyper(rows, tmp_path, config)
    assert set(found.curves) == {"lr_valleys", "lr_optimum", "batch_valleys", "batch_optimum"}
    lr, batch = (found.curves[f"{name}_optimum"].law for name in ("lr", "batch"))
    assert lr["equation"] == "lr(N, D) = k N^p D^q"
    assert lr["parameters"]["p"]["value"] == pytest.approx(-0.6, abs=0.05)
    assert lr["parameters"]["q"]["value"] == pytest.approx(0.05, abs=0.05)
    assert batch["parameters"]["q"]["value"] == pytest.approx(0.5, abs=0.08)
    assert lr["verdict"] == "good" and len(lr["groups"]) == 9
    registry.write(found, tmp_path, config)
    assert json.loads((tmp_path / "curves" / "lr_optimum.json").read_text())["runs_used"]
    assert (tmp_path / "curves" / "batch_valleys.png").stat().st_size > 10_000


def test_one_length_gives_a_law_of_size_with_seeds_as_bars(config, tmp_path):
    rows = searched(SIZES, LENGTHS[:1], FACTORS, (1.0,), noise=2e-3, seeds=(0, 1))
    found = hyper.hyper(rows, tmp_path, config)
    assert set(found.curves) == {"lr_valleys", "lr_optimum"}
    law = found.curves["lr_optimum"].law
    assert law["equation"] == "lr(N) = k N^p"
    assert law["parameters"]["p"]["value"] == pytest.approx(-0.6, abs=0.1)
    columns = found.curves["lr_valleys"].picture.columns
    mean = columns["series"] == "mean"
    assert (
        mean.sum() == 24 and set(columns["count"][mean]) == {2} and (columns["sd"][mean] > 0).all()
    )
    assert registry.write(found, tmp_path, config)


def test_optima_at_the_edge_leave_the_valleys_and_the_reasons(config, tmp_path):
    rows = searched(SIZES, LENGTHS[:1], (2.0, 4.0, 8.0, 16.0), (1.0,))
    found = hyper.hyper(rows, tmp_path, config)
    law = found.curves["lr_optimum"].law
    assert law["verdict"] == "refused" and "try smaller ones" in law["diagnostics"]["refused"]
    assert all("edge of the grid" in g["problem"] for g in law["groups"])
    columns = found.curves["lr_optimum"].picture.columns
    assert (columns["series"] == "left out").sum() == 3
    assert registry.write(found, tmp_path, config)
    assert any(line.startswith("  refused: lr_law: 0 of 3 groups") for line in found.lines)


def test_one_group_has_an_optimum_but_no_law(config, tmp_path):
    found = hyper.hyper(searched(SIZES[:1], LENGTHS[:1], FACTORS, (1.0,)), tmp_path, config)
    law = found.curves["lr_optimum"].law
    assert "vary one for a law" in law["diagnostics"]["refused"]
    assert law["groups"][0]["lr"]["value"] == pytest.approx(best_lr(2000, 1e6), rel=0.02)
    assert registry.write(found, tmp_path, config)


def test_a_length_that_follows_the_size_gives_a_law_of_size(config, tmp_path):
    rows = [r for n in SIZES for r in searched((n,), (20 * n,), FACTORS, (1.0,))]
    law = hyper.hyper(rows, tmp_path, config).curves["lr_optimum"].law
    assert law["equation"] == "lr(N) = k N^p"
    assert law["parameters"]["p"]["value"] == pytest.approx(-0.55, abs=0.02)


def test_nothing_to_tune_is_refused(config, tmp_path):
    with pytest.raises(UserError, match="neither the learning rate nor the batch size"):
        hyper.hyper([row(1), row(2, seed=1)], tmp_path, config)
