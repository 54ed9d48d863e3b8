"""Recipes in every kind of sweep: the keys that they set, and those that the sweep keeps."""

from __future__ import annotations

import json

import pytest

from scaling import accounting, cli
from scaling.analysis import conditions, swept_keys
from scaling.config import load as config_lib
from scaling.sweep.plan import ladder, planner
from scaling.sweep.plan.run_recipe import RunRecipe, rows
from scaling.utils.errors import UserError
from tests.common import ROOT
from tests.sweep.plan.test_planner import python_text

TOKENS = (500_000, 2_000_000)
KINDS = {
    "compute": {},
    "params": {"sweep__tokens": TOKENS[:1]},
    "data": {"sweep__tokens": TOKENS},
    "ladder": {"sweep__tokens": TOKENS},
    "hyper": {"sweep__tokens": TOKENS, "sweep__lr_factors": (1.0,), "sweep__rungs": 7},
    "grid": {"sweep__grid_keys": ("train.tokens", "optim.weight_decay"),
             "sweep__grid_values": (TOKENS, (0.1, 0.2))},
    "random": {"sweep__random_ranges": (("train.tokens", "log", 2e5, 2e6),)},
    "design": {},
}  # fmt: skip
LR_GRID = {"sweep__grid_keys": ("optim.lr",), "sweep__grid_values": ((1e-3, 2e-3),)}


@pytest.fixture
def by(tmp_path):
    """Return the config of a kind of sweep by a recipe, with changes."""

    def config(recipe, kind, **changes):
        if kind == "design":
            path = tmp_path / "design.csv"
            path.write_text("n_params,tokens\n5000,5e5\n30000,2e6\n")
            changes = {"sweep__design_file": str(path), **changes}
        rule = {} if recipe in (None, "power") else {"sweep__lr_coefficient": None}
        return python_text(
            sweep__kind=kind, sweep__recipe=recipe, **{**rule, **KINDS[kind], **changes}
        )

    return config


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_follows_a_recipe_of_constants(by, kind):
    config = by("steplaw", kind)
    runs = planner.plan(config)
    batches = {run.config.train.batch_size for run in runs}
    assert len(batches) > 1 or kind == "params"
    for run in runs:
        c = run.config
        assert c.optim.lr == pytest.approx(
            1.79 * run.n_params**-0.713 * c.train.tokens**0.307, rel=1e-5
        )
        ideal = 0.58 * c.train.tokens**0.571 / c.data.seq_len
        # of lengths that are rounded to steps, the batch was chosen before
        assert 0.7 <= c.train.batch_size / ideal <= 1.45
        assert run.tokens == run.steps * config_lib.tokens_per_step(c)
        assert c.sweep.kind == "none" and c.sweep.recipe == "steplaw"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_follows_a_proportionality_but_keeps_what_it_sweeps(by, kind):
    config = by("nanochat", kind, train__tokens=10**6)
    for run in planner.plan(config):
        c = run.config
        batch = c.train.batch_size / 8
        assert c.optim.lr == pytest.approx(3e-3 * batch**0.5, rel=1e-5)
        if kind == "grid":
            assert c.optim.weight_decay in (0.1, 0.2)
        else:
            decay = 0.1 * batch**0.5 * 1e6 / c.train.tokens
            assert c.optim.weight_decay == pytest.approx(decay, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_power_by_name_holds_in_every_kind(by, kind):
    for run in planner.plan(by("power", kind)):
        assert run.config.optim.lr == pytest.approx(0.876 * run.n_params**-0.4, rel=1e-5)


@pytest.mark.parametrize("kind", ["compute", "params", "ladder", "hyper", "design"])
def test_power_by_name_plans_the_runs_of_the_old_key(by, kind):
    named, old = by("power", kind), by(None, kind)
    assert [r.run_id for r in planner.plan(named)] == [r.run_id for r in planner.plan(old)]
    assert config_lib.sweep_hash(named) != config_lib.sweep_hash(old)


@pytest.mark.parametrize("kind", ["data", "grid", "random"])
def test_the_old_key_alone_keeps_the_rate_of_other_kinds(by, kind):
    runs = planner.plan(by(None, kind))
    assert {run.config.optim.lr for run in runs} == {3e-3}


def test_a_search_multiplies_the_rate_and_keeps_its_batches(by):
    factors, batches = (0.5, 1.0, 2.0), (4, 8)
    config = by(
        "tau_epoch", "hyper", sweep__lr_factors=factors, sweep__batch_sizes=batches,
        sweep__rungs=7, optim__lr=0.01,
    )  # fmt: skip
    runs = planner.plan(config)
    assert {r.config.optim.lr for r in runs} == {0.005, 0.01, 0.02}
    assert {r.config.train.batch_size for r in runs} == set(batches)
    base = 8 * 128 / (0.01 * 0.1 * 1e6)
    for run in runs:  # tau holds at every rate and batch
        c = run.config
        per_step = config_lib.tokens_per_step(c)
        tau = per_step / (c.optim.lr * c.optim.weight_decay * c.train.tokens)
        assert tau == pytest.approx(base, rel=1e-5)
    values = planner.plan(by("steplaw", "hyper", sweep__lr_values=(1e-3,)))
    assert {r.config.optim.lr for r in values} == {1e-3}


def test_swept_keys_win_over_the_recipe(by):
    config = by(
        "delphi", "grid", sweep__grid_keys=("optim.lr", "optim.warmup_tokens"),
        sweep__grid_values=((1e-3, 2e-3), (10_000, 20_000)),
    )  # fmt: skip
    runs = planner.plan(config)
    points = {(r.config.optim.lr, r.config.optim.warmup_tokens) for r in runs}
    assert points == {(a, b) for a in (1e-3, 2e-3) for b in (10_000, 20_000)}
    assert {r.config.optim.warmup_fraction for r in runs} == {0.05}
    free = by("delphi", "data", optim__warmup_tokens=10_000)
    for run in planner.plan(free):
        o = run.config.optim
        assert (o.warmup_tokens, o.warmup_fraction, o.decay_fraction) == (None, 0.1, 0.2)


def test_runs_of_a_budget_spend_it_in_steps_of_the_chosen_batch(by):
    for run in planner.plan(by("steplaw", "compute")):
        step = accounting.flops_per_token(accounting.shape_of(run.config), "exact")
        step *= config_lib.tokens_per_step(run.config)
        assert run.budget - step < run.flops <= run.budget


def test_the_held_out_run_follows_the_recipe(by):
    config = by("steplaw", "compute")
    run = planner.at_budget(config, ladder.rung_of_width(config, 72), 3e12)
    assert run.config.optim.lr == pytest.approx(
        1.79 * run.n_params**-0.713 * run.tokens**0.307, rel=1e-5
    )
    assert run.config.train.batch_size == 16
    stored = config_lib.from_json(config_lib.to_json(run.config))
    assert planner.plan_run(stored).run_id == run.run_id  # not applied again


@pytest.mark.parametrize(
    ("accumulate", "batch", "expected"),
    [(1, 1.0, 1), (1, 128 * 11, 8), (1, 128 * 12, 16), (3, 128 * 11, 12), (3, 1.0, 3)],
)
def test_batches_are_powers_of_two_times_accumulate(accumulate, batch, expected):
    assert rows(python_text(train__accumulate=accumulate, train__batch_size=24), batch) == expected


def test_a_batch_of_examples_is_counted_in_rows():
    config = config_lib.load("configs/vision_quickstart.py")
    config = config_lib.with_values(
        config, {"sweep.lr_coefficient": None, "sweep.recipe": "nanochat"}
    )
    assert rows(config, 100.0) == 128 and planner.plan(config)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sweep__recipe": "steplow", "sweep__lr_coefficient": None},
         "config.sweep.recipe='steplow': no such recipe; did you mean steplaw?"),
        ({"sweep__recipe": "mine", "sweep__lr_coefficient": None},
         "no such recipe; choose one of power, sde, delphi"),
        ({"sweep__recipe": "sde"}, "lr_coefficient=0.876 both set the learning rate; set"),
        ({"sweep__recipe": "power", "sweep__lr_coefficient": None},
         "config.sweep.recipe='power' needs config.sweep.lr_coefficient"),
        ({"sweep__recipe": "sde", "sweep__lr_coefficient": None, "sweep__kind": "data",
          "sweep__tokens": (50_000,)},
         "seed=0 by recipe sde: recipe sde: B/D is 20 times that of the config's own run"),
        ({"sweep__recipe": "sde", "sweep__lr_coefficient": None, "sweep__kind": "grid",
          "sweep__grid_keys": ("train.tokens",), "sweep__grid_values": (("many",),)},
         "config.train.tokens='many' should be of type int"),
    ],
)  # fmt: skip
def test_bad_recipes_are_one_line(changes, words):
    with pytest.raises(UserError) as caught:
        planner.plan(python_text(**changes))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_the_plan_states_the_recipe_and_the_values_that_differ(capsys):
    flags = ["--config.sweep.kind=ladder", "--config.sweep.tokens=500000,2000000"]
    flags += ["--config.sweep.lr_coefficient=None", "--config.sweep.recipe=nanochat"]
    quick = ["plan", f"--config={ROOT}/configs/python_text.py"]
    assert cli.main([*quick, *flags]) == 0
    out = capsys.readouterr().out
    assert "weight_decay" in out.splitlines()[0] and " lr " in out.splitlines()[0]
    assert "recipe nanochat: B ~ D^.383; lr ~ B^.5; lambda ~ B^.5/D (nanochat, scripts/" in out
    assert "the config's own run is its reference: N 98,624, D 1,000,000, B 1,024" in out
    assert (
        cli.main([*quick, *flags[:2], *flags[2:3], "--config.sweep.recipe=delphi", "--json"]) == 0
    )
    content = json.loads(capsys.readouterr().out)
    assert content["recipe"]["name"] == "delphi" and "eps" in content["runs"][0]
    assert any(
        "config.optim.name='adamh', and this study has 'adamw'" in n for n in content["notes"]
    )
    single = ["--config.sweep.kind=none", *flags[2:]]
    assert cli.main([*quick, *single]) == 0
    assert "'nanochat' sets nothing of a single run" in capsys.readouterr().out


def test_the_conditions_of_a_curve_name_the_recipe(by):
    config = by("sde", "ladder")
    stated = conditions.stated([], config)["rule"]
    assert stated["name"] == "sde" and "2512.22382" in stated["source"]
    assert stated["sets"] == ["lr", "weight_decay", "eps", "beta1", "beta2"]
    assert conditions.set_by_rule(by("steplaw", "grid", **LR_GRID)) == {"train.batch_size"}
    gone = config_lib.with_values(config, {"sweep.recipe": "fitted:gone.json"})
    assert conditions.stated([], gone)["rule"]["name"] == "fitted:gone.json"
    assert conditions.stated([], by(None, "data"))["rule"] is None


def test_a_grid_shows_the_keys_that_it_sweeps_and_not_those_that_follow_by_the_recipe(by):
    lengths = (500_000, 600_000, 2_000_000)  # of 8, 8 and 16 rows
    config = by("steplaw", "grid", sweep__grid_values=(lengths, (0.1, 0.2)))
    flat = [config_lib.flatten(run.config) for run in planner.plan(config)]
    axes = swept_keys.axes(flat, conditions.set_by_rule(config))
    assert [axis.keys for axis in axes] == [("optim.weight_decay",), ("train.tokens",)]
    assert len(swept_keys.axes(flat)) == 3


def test_no_recipe_adds_nothing():
    config = python_text(sweep__lr_coefficient=None)
    recipe = RunRecipe(config)
    assert recipe.recipe is None and recipe.notes(planner.plan(config)) == []
    assert {run.config.optim.lr for run in planner.plan(config)} == {3e-3}
