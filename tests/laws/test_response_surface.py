"""The response surface finds the rules that made its table, and says what is not determined."""

from __future__ import annotations

import numpy as np
import pytest

from scaling.laws import api as laws
from scaling.laws.response_surface import fit_surface
from scaling.laws.table import CannotFit

LR = {"coefficient": 0.9, "n_exponent": -0.4, "d_exponent": 0.1, "batch_exponent": 0.5}
BATCH = {"coefficient": 0.7, "n_exponent": 0.0, "d_exponent": 0.5}
TAU = {"coefficient": 3.0, "n_exponent": 0.2, "d_exponent": -0.2}


def rule(values, n, d, b=0.0):
    exponents = {k: values.get(k, 0.0) for k in ("n_exponent", "d_exponent", "batch_exponent")}
    return (
        np.log(values["coefficient"])
        + exponents["n_exponent"] * n + exponents["d_exponent"] * d
        + exponents["batch_exponent"] * b
    )  # fmt: skip


def table(noise: float, batches=(-1.4, 0, 1.4), taus=(-1.4, 0, 1.4)):
    rng, rows = np.random.default_rng(0), []
    for n in np.log([1e4, 3e4, 9e4]):
        for d in np.log([2e5, 6e5, 2e6]):
            for off_b in batches:
                b = rule(BATCH, n, d) + off_b
                for off_t in taus:
                    for off_lr in (-1.4, -0.7, 0, 0.7, 1.4):
                        excess = 0.02 * off_lr**2 + 0.006 * off_b**2 + 0.005 * off_t**2
                        log_loss = 0.5 - 0.07 * (n + d) + excess + noise * rng.normal()
                        lr = np.exp(rule(LR, n, d, b) + off_lr)
                        tau = np.exp(rule(TAU, n, d) + off_t)
                        rows.append((np.exp(n), np.exp(d), lr, np.exp(b), tau, np.exp(log_loss)))
    names = ("n_params", "tokens", "lr", "batch", "tau", "loss")
    return laws.make_table(**dict(zip(names, np.array(rows).T, strict=True)))


def test_exact_tables_give_the_rules():
    found = fit_surface(table(0.0), near=10.0, bootstrap=20)
    for name, values in (("lr", LR), ("batch", BATCH), ("tau", TAU)):
        got = {key: found.rules[name][key].value for key in values}
        assert got == pytest.approx(values, rel=1e-5, abs=1e-6)
    assert found.curvature == pytest.approx({"lr": 0.04, "batch": 0.012, "tau": 0.01}, rel=1e-5)
    assert found.loss_of_factor("lr", 2) == pytest.approx(np.expm1(0.02 * np.log(2) ** 2), rel=1e-5)


def test_intervals_hold_the_rules_under_noise():
    found = fit_surface(table(0.003), near=0.2, bootstrap=300)
    for name, values in (("lr", LR), ("batch", BATCH), ("tau", TAU)):
        for key in values:
            estimate = found.rules[name][key]
            half = (estimate.high - estimate.low) / 2
            assert abs(estimate.value - values[key]) < 2 * half, (name, key)
            assert key == "coefficient" or 0 < half < 0.3


def test_what_does_not_vary_has_no_rule():
    """A batch and a tau that follow from N and D are no search of them."""
    found = fit_surface(table(0.001, batches=(0,), taus=(0,)), near=0.2, bootstrap=20)
    assert set(found.rules) == {"lr"}
    # along batch ~ D^.5, lr ~ N^-.4 D^.1 B^.5 is N^-.4 D^.35
    assert found.rules["lr"]["d_exponent"].value == pytest.approx(0.35, abs=0.02)


def test_too_few_rows_are_refused():
    with pytest.raises(CannotFit, match="do not determine"):
        fit_surface(table(0.0).rows(np.arange(3)), near=10.0)
    rows = np.flatnonzero(np.isclose(np.arange(len(table(0.0))) % 5, 2))
    one_rate = table(0.0, batches=(0,)).rows(rows[rows < 135])
    with pytest.raises(CannotFit, match="fewer than three values"):
        fit_surface(one_rate, near=10.0)
