"""Test every kind of sweep: the runs that it plans, and its errors."""

from __future__ import annotations

import csv
import itertools
import math

import pytest

from scaling import cli, results
from scaling.config import load as config_lib
from scaling.sweep.plan import ladder, planner
from scaling.training import loop
from scaling.utils.errors import UserError
from tests.common import ROOT
from tests.sweep.plan.test_planner import python_text


def values(runs, *keys):
    return [tuple(r.values[k] for k in keys) for r in runs]


def test_run_ids_are_those_of_the_published_quickstart():
    rows, _ = results.read_table(ROOT / "docs" / "quickstart" / "runs.csv")
    published = {r.run_id for r in rows if r.role == "sweep"}
    assert {r.run_id for r in planner.plan(config_lib.load("configs/quickstart.py"))} == published


def test_a_planned_run_names_itself_as_training_does():
    for run in planner.plan(python_text(sweep__seeds=(0, 5))):
        assert run.run_id == loop.run_id(run.config)
        assert config_lib.flatten(run.config) == run.values and run.config.sweep.kind == "none"


def test_data_sweep_repeats_unique_tokens():
    runs = planner.plan(
        python_text(sweep__kind="data", sweep__tokens=(102_400, 409_600),
                   sweep__unique_tokens=(51_200, 204_800))
    )  # fmt: skip
    assert set(values(runs, "train.tokens", "data.unique_tokens")) == set(
        itertools.product((102_400, 409_600), (51_200, 204_800))
    )


def test_ladder_is_every_rung_at_every_length():
    config = python_text(sweep__kind="ladder", sweep__tokens=(200_000, 400_000))
    rungs = ladder.ladder(config)
    assert {(r.n_params, r.values["train.tokens"]) for r in planner.plan(config)} == {
        (rung.n_params, tokens) for rung in rungs for tokens in (200_000, 400_000)
    }
    runs = planner.plan(python_text(sweep__kind="ladder", sweep__tokens_per_param=(20, 80.0)))
    assert len(runs) == 2 * len(rungs)
    for run in runs:
        step = run.tokens / run.steps
        assert min(abs(run.tokens - ratio * run.n_params) for ratio in (20, 80)) <= step / 2
        assert run.values["optim.lr"] == pytest.approx(0.876 * run.n_params**-0.4, rel=1e-5)


def test_hyper_searches_rates_and_batches_around_the_rule_at_equal_lengths():
    config = python_text(
        sweep__kind="hyper", sweep__rungs=3, sweep__width_ratio=2.0, sweep__tokens=(300_000,),
        sweep__lr_factors=(0.5, 1.0, 2.0), sweep__batch_sizes=(4, 8, 16),
    )  # fmt: skip
    runs = planner.plan(config)
    assert len(runs) == 3 * 3 * 3
    for rung in ladder.ladder(config):
        of_rung = [r for r in runs if r.n_params == rung.n_params]
        rule = 0.876 * rung.n_params**-0.4
        points = {(r.values["train.batch_size"], round(r.values["optim.lr"] / rule, 4))
                 for r in of_rung}  # fmt: skip
        assert points == set(itertools.product((4, 8, 16), (0.5, 1.0, 2.0)))
        (tokens,) = {r.tokens for r in of_rung}
        assert abs(tokens / 300_000 - 1) < 0.01
    absolute = planner.plan(
        config_lib.with_values(config, {"sweep.lr_values": (1e-3,), "sweep.batch_sizes": ()})
    )
    assert set(values(absolute, "optim.lr", "train.batch_size")) == {(1e-3, 8)}


def test_grid_zips_the_keys_of_one_axis_and_multiplies_axes():
    runs = planner.plan(
        python_text(
            sweep__kind="grid", sweep__grid_keys=(("optim.lr", "train.batch_size"), "seed"),
            sweep__grid_values=(((1e-3, 8), (2e-3, 16)), (0, 1)),
        )
    )  # fmt: skip
    assert sorted(values(runs, "optim.lr", "train.batch_size", "seed")) == [
        (1e-3, 8, 0), (1e-3, 8, 1), (2e-3, 16, 0), (2e-3, 16, 1),
    ]  # fmt: skip


RANGES = (
    ("optim.lr", "log", 1e-4, 1e-2),
    ("optim.weight_decay", "uniform", 0.0, 0.2),
    ("model.depth", "uniform", 1, 3),
    (("train.batch_size", "optim.beta2"), "choice", (8, 0.99), (16, 0.95)),
)
KEYS = ("optim.lr", "optim.weight_decay", "model.depth", "train.batch_size", "optim.beta2")


def drawn(**changes):
    config = python_text(**{
        "sweep__kind": "random", "sweep__random_ranges": RANGES, "sweep__random_count": 200,
        **changes,
    })  # fmt: skip
    return set(values(planner.plan(config), *KEYS))


def test_random_draws_fill_their_ranges_and_are_seeded():
    runs = drawn()
    assert len(runs) == 200 and runs == drawn() and runs != drawn(sweep__random_seed=1)
    assert drawn(sweep__random_count=30) < runs
    rates, decays, depths = ([r[i] for r in runs] for i in range(3))
    assert min(rates) >= 1e-4 and max(rates) <= 1e-2
    assert 80 < sum(rate < 1e-3 for rate in rates) < 120  # half of them in each decade
    assert 80 < sum(decay < 0.1 for decay in decays) < 120 and max(decays) <= 0.2
    assert set(depths) == {1, 2, 3}
    assert {r[3:] for r in runs} == {(8, 0.99), (16, 0.95)}


def test_a_stored_sweep_plans_the_same_runs():
    for changes in (
        {"sweep__kind": "random", "sweep__random_ranges": RANGES},
        {"sweep__kind": "grid", "sweep__grid_keys": (("optim.lr", "seed"), "optim.beta2"),
         "sweep__grid_values": (((1, 0), (2e-3, 1)), (0.9, 0.99))},
    ):  # fmt: skip
        config = python_text(**changes)
        stored = config_lib.from_json(config_lib.to_json(config))
        assert planner.plan(stored) == planner.plan(config)


def test_random_sweep_skips_repeated_draws():
    one = (("train.batch_size", "choice", 2, 4, 8),)
    runs = planner.plan(
        python_text(sweep__kind="random", sweep__random_ranges=one, sweep__random_count=3)
    )
    assert {r.values["train.batch_size"] for r in runs} == {2, 4, 8}


@pytest.fixture
def design(tmp_path):
    """Return a planner of rows (n_params, tokens) through a design.csv."""

    def plan_rows(rows, **changes):
        path = tmp_path / "design.csv"
        lines = ["n_params,tokens,flops", *(f"{n},{d},{6 * n * d}" for n, d in rows)]
        path.write_text("\n".join(lines) + "\n")
        return python_text(sweep__kind="design", sweep__design_file=str(path), **changes)

    return plan_rows


def test_design_plans_each_row_at_the_nearest_size_and_notes_the_difference(design):
    rows = [(5_000.0, 200_000.0), (30_000.0, 200_000.0), (61_000.0, 900_000.0)]
    config = design(rows)
    runs = planner.plan(config)
    sizes = [ladder.rung_of_width(config, width).n_params for width in range(8, 200, 8)]
    for (n, d), run in zip(rows, runs, strict=True):
        assert run.n_params == min(sizes, key=lambda size: abs(math.log(size / n)))
        per_step = run.tokens / run.steps
        assert abs(run.tokens - n * d / run.n_params) <= per_step / 2, "N D is kept"
        assert f"({run.n_params / n - 1:+.1%})" in run.note
        assert f"({run.tokens / d - 1:+.1%})" in run.note


def test_design_repeats_a_row_with_further_seeds(design):
    runs = planner.plan(design([(30_000, 200_000)] * 3 + [(30_001, 200_001)], sweep__seeds=(0, 1)))
    assert sorted(r.values["seed"] for r in runs) == list(range(8))
    assert len({(r.n_params, r.tokens) for r in runs}) == 1


def test_a_proposal_of_the_design_command_is_a_sweep(tmp_path):
    out = tmp_path / "round"
    flags = ["--max_flops=1e12", "--total_flops=3e12", "--max_runs=6", "--at=1e13", "--careful"]
    assert cli.main(["design", *flags, f"--out={out}"]) == 0
    runs = planner.plan(
        python_text(sweep__kind="design", sweep__design_file=str(out / "design.csv"))
    )
    with open(out / "design.csv", newline="") as file:
        assert len(runs) == len(list(csv.DictReader(file)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file; write one with `scaling design --out`"),
        ("n_params,tokens\n", "a header and no row"),
        ("n_params\n30000\n", "row 2: column tokens is missing"),
        ("n_params,tokens\n30000,many\n", "row 2: tokens='many' is not a count"),
        ("n_params,tokens\n30000,2e5\n3,2e5\n", "row 3: n_params=3, but the nearest size has"),
        ("n_params,tokens\n1e300,2e5\n", "row 2: n_params=1e+300: config.sweep."),
        ("n_params,tokens\n30000,1e25\n", "row 2: tokens=1e+25 is more than a run may have"),
        ("n_params,tokens\n30000,2\n", "row 2: tokens=2 is less than one step of 1024 tokens"),
    ],
)
def test_bad_design_files_name_file_and_row(tmp_path, text, message):
    path = tmp_path / "design.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError) as caught:
        planner.plan(python_text(sweep__kind="design", sweep__design_file=str(path)))
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert "no runs" in message or str(path) in str(caught.value)


@pytest.mark.parametrize(
    "overrides",
    [
        ["kind=ladder", "tokens_per_param=(20,)"],
        ["kind=hyper", "batch_sizes=(4,8)"],
        ["kind=random", "random_count=3", "random_ranges=(('optim.lr','log',1e-4,1e-2),)"],
        ["kind=grid", "grid_keys=(('optim.lr','seed'),)", "grid_values=(((1e-3,0),(2e-3,1)),)"],
        ["kind=data", "tokens=(200000,)", "unique_tokens=(50000,100000)"],
    ],
    ids=lambda overrides: overrides[0],
)
def test_plan_prints_every_kind(overrides, capsys):
    flags = [f"--config.sweep.{o}" for o in overrides]
    assert cli.main(["plan", "--config=configs/python_text.py", *flags]) == 0
    config = config_lib.load("configs/python_text.py", flags)
    out = capsys.readouterr().out
    assert f"\n{len(planner.plan(config))} runs, " in out
