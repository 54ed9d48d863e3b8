"""The exponents that each convention of N and FLOPs must give, from laws with known answers."""

from __future__ import annotations

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest

from scaling import cli
from scaling.laws import api as laws
from scaling.laws.conventions import COST_OF_LAW, LAW, Case, at_equal_compute, compare
from scaling.laws.table import CannotFit, make_table
from scaling.utils.errors import EXIT_BAD_INPUT
from tests.common import SHARED

# L = E + A / N_T^alpha + B / D^beta of all parameters: Besiroglu et al. 2024, used by Pearce & Song
# 2024
A, B, E, ALPHA, BETA = 482.01, 2085.43, 1.8172, 0.3478, 0.3658
OMEGA = (
    47491.0  # N_T = N + omega N^(1/3): Pearce & Song's fit to the shapes of Hoffmann et al. 2022
)
SMALLEST, LARGEST = 768.0, 1.5e9  # Kaplan et al. 2020, N without embeddings
OPTIONS = dict(method="akima", delta=0.0, bootstrap=100, confidence=0.9, parametric=False)


def total(n):
    return n + OMEGA * n ** (1 / 3)


def loss_of(n, tokens):
    return E + A * total(n) ** -ALPHA + B * tokens**-BETA


def best(size, price, compute):
    """The size, counted by `size`, that minimises the loss at each compute where a token costs 6
    `price`(N).
    """
    n = np.geomspace(1, 1e12, 400_001)
    return np.array([size(n)[loss_of(n, c / (6 * price(n))).argmin()] for c in compute])


def slope(x, y):
    return np.polyfit(np.log(x), np.log(y), 1)[0]


@pytest.fixture(scope="module")
def runs():
    """(N without embeddings, D, C_T) of nine IsoFLOP groups, equal in compute of all parameters."""
    n = np.geomspace(1, 1e12, 400_001)
    tokens = (BETA * B / (ALPHA * A) * total(n) ** ALPHA) ** (1 / BETA)  # at the optimum
    optimal_compute = 6 * total(n) * tokens
    ends = np.interp([SMALLEST, LARGEST], n, optimal_compute)
    sizes, planned = [], []
    for compute in np.geomspace(*ends, 9):
        optimum = np.interp(compute, optimal_compute, n)
        sizes.append(optimum * np.exp(np.linspace(-2.5, 2.5, 9)))
        planned.append(np.full(9, compute))
    size, compute = np.concatenate(sizes), np.concatenate(planned)
    return size, compute / (6 * total(size)), compute


def case_of(runs, n_params, flops, noise=0.0):
    """One pair of conventions, each "total" or "without" embeddings, on equal runs and groups."""
    size, tokens, planned = runs
    count = {"total": total(size), "without": size}
    loss = loss_of(size, tokens) * np.exp(
        noise * np.random.default_rng(0).standard_normal(len(size))
    )
    table = make_table(
        n_params=count[n_params], tokens=tokens, flops=6 * count[flops] * tokens, loss=loss,
        budget=planned,
    )  # fmt: skip
    return Case("", n_params, flops, table, table)


@pytest.mark.slow
def test_pearce_and_song_each_convention_has_the_exponent_of_its_own_optimum(runs):
    """Kaplan's 0.73 and Chinchilla's 0.50 from one set of runs, as in Pearce & Song 2024."""
    counts = {"total": total, "without": lambda n: n}
    pairs = [(n, c) for n in counts for c in counts]
    rows = compare([case_of(runs, *pair) for pair in pairs], **OPTIONS)
    expected = {}
    for pair, row in zip(pairs, rows, strict=True):
        flops = case_of(runs, *pair).table.flops.reshape(9, 9)
        compute = np.exp(np.log(flops).mean(axis=1))
        expected[pair] = slope(compute, best(counts[pair[0]], counts[pair[1]], compute))
        assert row.minima == row.budgets == 9, row
        assert row.a.value == pytest.approx(expected[pair], abs=0.015), row
        assert bool(row.notes) == (pair[1] == "without")  # only then had runs to be moved
    # the closed form of Chinchilla's law, and the 0.78 that the paper finds for these constants
    assert expected["total", "total"] == pytest.approx(BETA / (ALPHA + BETA), abs=1e-3)
    assert expected["without", "without"] == pytest.approx(0.78, abs=0.015)
    ordered = np.sort(list(expected.values()))
    assert np.diff(ordered).min() > 0.05  # a pair taken for another one would fail above


def test_other_units_for_the_planned_minima_are_another_answer(runs):
    """Relabelled, the optimum at equal compute of all parameters has an exponent in between."""
    n = np.geomspace(SMALLEST, LARGEST, 1000)
    tokens = (BETA * B / (ALPHA * A) * total(n) ** ALPHA) ** (1 / BETA)
    compute = 6 * n * tokens
    even = np.geomspace(compute[0], compute[-1], 200)
    relabelled = slope(even, np.exp(np.interp(np.log(even), np.log(compute), np.log(n))))
    assert relabelled == pytest.approx(0.654, abs=0.002)
    (row,) = compare([case_of(runs, "without", "without")], **OPTIONS)
    assert row.a.value - relabelled > 0.1


def test_moved_runs_have_the_loss_of_their_new_length(runs):
    table = case_of(runs, "without", "without").table
    target = table.flops * np.linspace(0.3, 3, len(table))
    moved = at_equal_compute(table.with_columns(budget=target), B, BETA)
    np.testing.assert_allclose(moved.flops, 6 * table.n_params * moved.tokens)
    np.testing.assert_allclose(moved.loss, loss_of(runs[0], moved.tokens), rtol=1e-12)
    with pytest.raises(CannotFit, match="loss below 0"):
        at_equal_compute(table.with_columns(budget=1e9 * table.flops), 1e4 * B, BETA)


def test_the_planned_convention_is_fitted_as_ever(runs):
    case = case_of(runs, "total", "total", noise=0.002)
    (row,) = compare([case], **{**OPTIONS, "method": "parabola"})
    known = laws.fit_isoflop(case.table, bootstrap=100)
    assert row.a.value == pytest.approx(known.n_opt.exponent.value, rel=1e-9)
    assert row.b.value == pytest.approx(known.tokens_opt.exponent.value, rel=1e-9)
    assert (row.a.low, row.a.high) == pytest.approx(
        (known.n_opt.exponent.low, known.n_opt.exponent.high), rel=1e-6
    )


def test_the_law_has_one_line_per_count_of_parameters(runs):
    pairs = [(n, c) for n in ("total", "without") for c in ("total", "without")]
    rows = compare([case_of(runs, *pair) for pair in pairs], **{**OPTIONS, "parametric": True})
    assert [(r.n_params, r.flops) for r in rows] == [
        *pairs[:2], ("total", COST_OF_LAW), *pairs[2:], ("without", COST_OF_LAW),
    ]  # fmt: skip
    law = rows[2]
    assert law.estimator == LAW
    assert law.a.value == pytest.approx(BETA / (ALPHA + BETA), abs=1e-3)
    assert law.a.value + law.b.value == pytest.approx(1)
    assert rows[5].a.value > 0.7
    assert law.b.low <= law.b.value <= law.b.high


def test_the_uncertainty_of_the_law_widens_the_intervals_of_moved_profiles(runs, monkeypatch):
    from scaling.laws import conventions

    def row_with(factors):
        """The line of a law whose refits have B off by `factors`."""
        law = SimpleNamespace(
            values={"B": B, "beta": BETA},
            form=SimpleNamespace(parameters=("B", "beta")),
            draws=np.array([(f * B, BETA) for f in factors]),
        )
        monkeypatch.setattr(conventions, "fit_chinchilla", lambda *args, **options: law)
        return compare([case_of(runs, "without", "without")], **OPTIONS | {"bootstrap": 20})[0]

    sure, unsure = row_with(np.ones(20)), row_with(np.linspace(0.4, 1.6, 20))
    # float64 fits of the same runs: the draws do not enter, the BLAS kernel may round differently
    assert sure.a.value == pytest.approx(unsure.a.value, rel=1e-12)
    assert unsure.a.se > 1.2 * sure.a.se
    assert unsure.a.high - unsure.a.low > sure.a.high - sure.a.low


def test_a_pair_that_cannot_be_fitted_keeps_its_line_with_the_reason(runs):
    good, other = (case_of(runs, c, c) for c in ("total", "without"))
    few = Case("", "without", "without", other.table, other.table.rows(slice(0, 4)))
    rows = compare([good, few], **OPTIONS)
    assert not rows[0].refused and np.isnan(rows[1].a.value)
    assert "differ in without compute" in rows[1].refused and "4 usable rows" in rows[1].refused
    with pytest.raises(CannotFit, match="differ in without compute"):
        compare([few], **OPTIONS)
    ungrouped = good.table.with_columns(budget=np.zeros(len(good.table)))
    with pytest.raises(CannotFit, match="no row has a budget"):
        compare([Case("", "total", "total", ungrouped, ungrouped)], **OPTIONS)


def write_csv(path, runs):
    size, tokens, planned = runs
    columns = {
        "N": size, "all": total(size), "D": tokens, "plan": planned, "C": 6 * size * tokens,
        "C_all": 6 * total(size) * tokens, "loss": loss_of(size, tokens),
    }  # fmt: skip
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*columns, "seed"])
        for seed in ("b", "a"):
            writer.writerows([*row, seed] for row in zip(*columns.values(), strict=True))


def test_columns_of_a_csv_are_crossed_and_rows_split_in_order_of_appearance(runs, tmp_path, capsys):
    write_csv(tmp_path / "t.csv", runs)
    code = cli.main(
        ["conventions", str(tmp_path / "t.csv"), "--n_params=N,all", "--flops=C_all,C",
        "--tokens=D",
         "--budget=plan", "--by=seed", "--method=akima", "--bootstrap=10", "--wide",
         f"--out={tmp_path}"]
    )  # fmt: skip
    out = capsys.readouterr().out
    assert code == 0 and len(out.splitlines()) == 1 + 8 + 1
    with open(tmp_path / "conventions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["label"], r["n_params"], r["flops"]) for r in rows] == [
        (seed, n, c) for seed in "ba" for n in ("N", "all") for c in ("C_all", "C")
    ]
    exponents = {(r["n_params"], r["flops"]): float(r["a"]) for r in rows}
    assert exponents["all", "C_all"] == pytest.approx(0.5126, abs=0.005)
    assert exponents["N", "C"] == pytest.approx(0.78, abs=0.015)
    content = json.loads((tmp_path / "conventions.json").read_text())
    assert [r["a"]["value"] for r in content["rows"]] == [float(r["a"]) for r in rows]
    assert (tmp_path / "conventions.png").read_bytes().startswith(b"\x89PNG")
    assert "</svg>" in (tmp_path / "conventions.svg").read_text()


def test_several_columns_need_the_tokens_that_were_measured(runs, tmp_path, capsys):
    write_csv(tmp_path / "t.csv", runs)
    code = cli.main(["conventions", str(tmp_path / "t.csv"), "--n_params=N", "--flops=C,C_all"])
    err = capsys.readouterr().err
    assert code == EXIT_BAD_INPUT and err.startswith("error: --tokens is missing")
    assert len(err.splitlines()) == 1


def test_without_a_column_flops_are_six_n_d(runs, tmp_path, capsys):
    write_csv(tmp_path / "t.csv", runs)
    code = cli.main(
        ["conventions", str(tmp_path / "t.csv"), "--n_params=all", "--tokens=D", "--bootstrap=10"]
    )
    assert code == 0 and "6 N D" in capsys.readouterr().out


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is not there")
def test_porian_path_from_kaplan_to_chinchilla(tmp_path):
    folder = SHARED / "porian2024_refinedweb"
    code = cli.main(
        ["conventions", str(folder / "isoflop_points.csv"), "--n_params=N", "--tokens=D",
         "--flops=flops", "--loss=loss_val", "--by=hparams,warmup,decay,param_count,loss",
         "--method=akima", "--bootstrap=300", "--confidence=0.95", f"--out={tmp_path}"]
    )  # fmt: skip
    assert code == 0
    with open(folder / "published_exponents.csv", newline="") as file:
        published = list(csv.DictReader(file))
    with open(tmp_path / "conventions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    keys = ("hparams", "warmup", "decay", "param_count", "loss")
    assert [r["label"] for r in rows] == [", ".join(p[k] for k in keys) for p in published]
    inside = 0
    for row, known in zip(rows, published, strict=True):
        assert float(row["a"]) == pytest.approx(float(known["a_pub"]), abs=0.01), row
        inside += float(row["a_low"]) <= float(known["a_pub"]) <= float(row["a_high"])
    assert inside >= 4
    assert [f"{float(r['a']):.1f}" for r in rows] == ["0.8", "0.7", "0.6", "0.6", "0.5"]
    assert (tmp_path / "conventions.svg").is_file() and (tmp_path / "conventions.png").is_file()
