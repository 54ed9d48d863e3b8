"""Repeated data: a planted decay is recovered, by size or over sizes; one amount of data is a plain
L(D).
"""

from __future__ import annotations

import numpy as np
import pytest

from scaling.analysis import epochs, registry
from scaling.config import load as config_lib
from tests.analysis.known import row
from tests.common import ROOT

DECAY = 8.0


@pytest.fixture(scope="module")
def config():
    return config_lib.with_values(
        config_lib.load(str(ROOT / "configs" / "mini.py")),
        {"sweep.kind": "data", "laws.bootstrap": 20},
    )


def worth(tokens, unique):
    unique = min(tokens, unique)
    return unique * (1 - DECAY * np.expm1(-(tokens / unique - 1) / DECAY))


def repeated(floors, amounts=(2e5, 8e5, 3.2e6), lengths=(1e5, 4e5, 1.6e6, 6.4e6)):
    return [
        row(
            i,
            n_params=n,
            tokens=int(d),
            unique_tokens=int(u),
            loss=float(floor + 300 * worth(d, u) ** -0.45),
        )
        for i, (n, floor, u, d) in enumerate(
            (n, f, u, d) for n, f in floors.items() for u in amounts for d in lengths
        )
    ]


def test_the_decay_of_one_size(config, tmp_path):
    found = epochs.data(repeated({10_000: 1.5}), tmp_path, config)
    law = found.curves["epochs"].law
    assert law["parameters"]["R_D"]["value"] == pytest.approx(DECAY, rel=1e-3)
    four = law["worth"][1]
    assert four["epochs"] == 4 and four["fresh_tokens_per_token"]["value"] == pytest.approx(
        worth(4e5, 1e5) / 4e5, rel=1e-3
    )
    columns = found.curves["epochs_excess"].picture.columns
    runs = columns["series"] == "run"
    assert columns["epochs"][runs].max() == pytest.approx(32)
    once = runs & (columns["epochs"] == 1)
    assert np.abs(columns["excess"][once]).max() < 1e-6
    assert columns["excess"][runs].max() > 0.05
    assert len(registry.write(found, tmp_path, config)) == 2


def test_two_sizes_are_fitted_apart(config, tmp_path):
    found = epochs.data(repeated({10_000: 1.5, 40_000: 1.3}), tmp_path, config)
    law = found.curves["epochs"].law
    assert law["parameters"]["N=40000"]["E"]["value"] == pytest.approx(1.3, rel=1e-3)
    assert len(registry.write(found, tmp_path, config)) == 2


@pytest.mark.slow
def test_three_sizes_share_one_law(config, tmp_path):
    floors = {n: 1.2 + 8 * n**-0.3 for n in (3_000, 10_000, 30_000, 100_000)}
    law = epochs.data(repeated(floors), tmp_path, config).curves["epochs"].law
    assert law["equation"].startswith("L(N, D, U)")
    assert law["parameters"]["R_D"]["value"] == pytest.approx(DECAY, rel=0.1)


def test_one_amount_of_data_is_a_law_of_tokens(config, tmp_path):
    rows = repeated({10_000: 1.5}, amounts=(1e9,), lengths=np.geomspace(1e5, 6.4e6, 5))
    found = epochs.data(rows, tmp_path, config)
    assert "loss_of_tokens" in found.curves and "epochs" not in found.curves


def test_too_few_runs_leave_the_points(config, tmp_path):
    found = epochs.data(repeated({10_000: 1.5}, lengths=(1e5,)), tmp_path, config)
    assert set(found.curves) == {"epochs"}
    assert found.curves["epochs"].law["verdict"] == "refused"
    assert registry.write(found, tmp_path, config)
