"""Ladders: a known L(N, D) is recovered with its frontier; too few runs are refused but drawn."""

from __future__ import annotations

import numpy as np
import pytest

from scaling.analysis import ladder as surface
from scaling.analysis import registry
from scaling.config import load as config_lib
from tests.analysis.known import row
from tests.common import ROOT


@pytest.fixture(scope="module")
def config():
    return config_lib.with_values(
        config_lib.load(str(ROOT / "configs" / "mini.py")),
        {"laws.bootstrap": 20, "laws.min_steps": 150},
    )


def ladder(sizes=(3e3, 1e4, 3e4, 1e5), lengths=(2e5, 4e5, 8e5, 1.6e6), **values):
    rng = np.random.default_rng(0)
    return [
        row(
            i,
            n_params=int(n),
            tokens=int(d),
            loss=float(
                (1.2 + 12 * n**-0.35 + 300 * d**-0.45) * np.exp(2e-4 * rng.standard_normal())
            ),
            **values,
        )
        for i, (n, d) in enumerate((n, d) for n in sizes for d in lengths)
    ]


def test_surface_and_frontier(config, tmp_path):
    rows = [*ladder(), row(99, tokens=50_000, loss=9.0)]
    found = surface.ladder(rows, tmp_path, config)
    assert set(found.curves) == {
        "ladder", "chinchilla", "chinchilla_contours", "chinchilla_predicted",
        "chinchilla_bootstrap",
        "frontier", "n_opt", "tokens_opt",
    }  # fmt: skip
    law = found.curves["ladder"].law
    assert law["parameters"]["alpha"]["value"] == pytest.approx(0.35, abs=0.02)
    assert law["parameters"]["beta"]["value"] == pytest.approx(0.45, abs=0.02)
    assert law["runs_left_out"] == ["run-99: 48 steps, fewer than config.laws.min_steps=150"]
    optima = found.curves["n_opt"].law["predictions"]
    growth = np.log(optima[-1]["n_params"]["value"] / optima[0]["n_params"]["value"])
    a = growth / np.log(optima[-1]["flops"] / optima[0]["flops"])
    assert a == pytest.approx(0.45 / 0.8, abs=0.03)
    columns = found.curves["ladder"].picture.columns
    assert (columns["series"] == "run").sum() == 17
    assert registry.write(found, tmp_path, config)


def test_too_few_sizes_leave_the_points_and_the_reason(config, tmp_path):
    found = surface.ladder(ladder(sizes=(3e3, 1e4)), tmp_path, config)
    assert set(found.curves) == {"ladder"}
    assert (
        "column n_params has 2 distinct value(s)"
        in found.curves["ladder"].law["diagnostics"]["refused"]
    )
    assert any(line.startswith("  refused: chinchilla") for line in found.lines)
    assert registry.write(found, tmp_path, config)[0].stat().st_size > 10_000
