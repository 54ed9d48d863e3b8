"""Fitted recipes: what the file holds, and every fault in it as one line."""

from __future__ import annotations

import copy
import json
import re

import pytest

from scaling.config import load as config_lib
from scaling.recipes import fitted
from scaling.sweep.plan import planner
from scaling.utils.errors import UserError
from tests.sweep.plan.test_planner import python_text


def value(v: float) -> dict[str, float]:
    return {"value": v, "low": v - 0.1, "high": v + 0.1}


RECIPE = {
    "schema": 1, "parametrization": "sp", "base_width": 64, "base_depth": 2, "optimizer": "adamw",
    "vocab_size": 256, "field": "language", "unit": "tokens",
    "lr": {"coefficient": value(0.5), "n_exponent": value(-0.5), "d_exponent": value(-0.25),
           "batch_exponent": value(0.5)},
    "batch_tokens": {"coefficient": value(1.0), "n_exponent": value(0.0), "d_exponent": value(0.5)},
    "tau": {"coefficient": value(0.5), "n_exponent": value(0.0), "d_exponent": value(0.0)},
    "range": {"n_params": [2e3, 1e5], "tokens": [1e5, 1e7], "batch_tokens": [128, 4096]},
    "loss_of_factor_2": 0.012,
    "fitted_on": {"runs": ["a"]},
}  # fmt: skip
LADDER = {
    "sweep__kind": "ladder", "sweep__tokens": (2**20,), "sweep__lr_coefficient": None,
    "sweep__width_ratio": 1.5, "sweep__rungs": 7,
}  # fmt: skip


@pytest.fixture
def plan(tmp_path):
    """Return a planner of the quickstart's ladder by a recipe.json of this content."""

    def plan_runs(content, **changes):
        path = tmp_path / "recipe.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return planner.plan(python_text(sweep__recipe=f"fitted:{path}", **LADDER, **changes))

    return plan_runs


def test_a_fitted_recipe_sets_rate_batch_and_weight_decay(plan):
    for run in plan(RECIPE):
        c = run.config
        assert c.train.batch_size == 8  # 1,024 tokens, the root of 2^20
        lr = 0.5 * run.n_params**-0.5 * 2**-5 * 2**5
        assert c.optim.lr == pytest.approx(lr, rel=1e-5)
        tau = 1024 / (c.optim.lr * c.optim.weight_decay * 2**20)
        assert tau == pytest.approx(0.5, rel=1e-5)


def test_rules_that_were_not_fitted_leave_the_config_alone(plan):
    for run in plan({**RECIPE, "batch_tokens": None, "tau": None, "loss_of_factor_2": None}):
        assert run.config.optim.weight_decay == 0.1 and run.config.train.batch_size == 8


def test_a_file_is_stated_by_its_rules():
    recipe = fitted.parsed(RECIPE, "fitted:recipe.json")
    assert recipe.equation == ("lr = 0.5 N^-0.5 D^-0.25 B^0.5; B = 1 D^0.5; B/(lr lambda D) = 0.5")
    assert recipe.notes == ("a factor of 2 in lr costs 1.20% of the loss",)


def changed(key: str, new) -> dict:
    """Return the recipe with a dotted key replaced, or removed for `...`."""
    content = copy.deepcopy(RECIPE)
    *path, last = key.split(".")
    inner = content
    for part in path:
        inner = inner[part]
    if new is ...:
        del inner[last]
    else:
        inner[last] = new
    return content


FAULTS = [
    *((key, ..., f"'{key}' is missing") for key in RECIPE if key != "fitted_on"),
    ("lr.batch_exponent", ..., "'lr.batch_exponent' is missing"),
    ("range.tokens", ..., "'range.tokens' is missing"),
    ("schema", "1", "schema='1' should be a whole number"),
    ("lr", None, "lr=None should be an object"),
    ("lr.coefficient", 0.5, "lr.coefficient.value is not a finite number"),
    ("lr.coefficient.value", float("nan"), "lr.coefficient.value is not a finite number"),
    ("tau.n_exponent.high", "x", "tau.n_exponent.high is not a finite number"),
    ("lr.coefficient.low", 0.9, "lr.coefficient does not lie in its interval"),
    ("lr.coefficient", value(-1.0), "lr.coefficient=-1 should be positive"),
    ("range.n_params", [3, 2], "range.n_params=[3, 2] should be [low, high], positive"),
    ("range.n_params", 3, "range.n_params=3 should be [low, high], positive"),
    ("field", "sound", "field='sound': choose one of language, vision"),
    ("unit", "images", "unit should be 'tokens' for field 'language'"),
    ("vocab_size", 256.0, "vocab_size=256.0 should be a whole number"),
    ("base_width", 0, "base_width=0 should be 1 or more"),
    ("loss_of_factor_2", -0.1, "loss_of_factor_2=-0.1 should be 0 or more, or null"),
]


@pytest.mark.parametrize(("key", "new", "words"), FAULTS)
def test_a_fault_is_one_line_that_names_file_and_key(plan, key, new, words):
    with pytest.raises(UserError) as caught:
        plan(changed(key, new))
    line = str(caught.value)
    assert words in line and "recipe.json: damaged (" in line and "\n" not in line
    assert line.endswith("write it again with `scaling tune`")


@pytest.mark.parametrize(
    ("content", "words"), [("{", "not JSON"), ("[]", "list, not an object"), ("", "not JSON")]
)
def test_a_file_that_is_no_object_is_refused(plan, content, words):
    with pytest.raises(UserError, match=words):
        plan(content)


@pytest.mark.parametrize(
    ("name", "words"), [("nowhere.json", "no such file"), (".", "it is a folder")]
)
def test_a_path_without_a_file_is_named(name, words):
    with pytest.raises(UserError, match=rf"recipe=fitted:{re.escape(name)}: {words}; name"):
        planner.plan(python_text(sweep__recipe=f"fitted:{name}", **LADDER))


def test_a_file_of_a_newer_version_is_not_called_damaged(plan):
    with pytest.raises(UserError, match=r"newer version of scaling \(schema 2, this one") as caught:
        plan({**RECIPE, "schema": 2})
    assert "damaged" not in str(caught.value) and "recipe.json was written" in str(caught.value)


@pytest.mark.parametrize(
    ("key", "new", "words"),
    [
        ("optimizer", "lion", "is for config.optim.name='lion', and this study has 'adamw'"),
        ("vocab_size", 512, "is for config.data.vocab_size=512, and this study has 256"),
        ("parametrization", "mup", "is for config.model.parametrization='mup', and this study has"),
    ],
)
def test_a_recipe_of_another_study_is_refused(plan, key, new, words):
    with pytest.raises(UserError) as caught:
        plan({**RECIPE, key: new})
    line = str(caught.value)
    assert words in line and "\n" not in line and "fit one for this study" in line


def test_a_recipe_of_another_field_is_refused(plan):
    other = {**RECIPE, "field": "vision", "unit": "images"}
    with pytest.raises(UserError, match=r"data\.field='vision', and this study has 'language'"):
        plan(other)


def test_values_outside_the_range_are_stated_with_their_factor(tmp_path):
    from scaling.sweep.plan.run_recipe import RunRecipe

    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(changed("range.tokens", [2**22, 2**23])))
    config = config_lib.with_values(python_text(**LADDER), {"sweep.recipe": f"fitted:{path}"})
    runs = planner.plan(config)
    notes = RunRecipe(config).notes(runs)
    below = f"tokens 4 times below the recipe's range (4.194e+06 to 8.389e+06), in {len(runs)} of"
    assert any(below in note for note in notes)
    over = max(run.n_params for run in runs) / 1e5
    assert over > 1 and any(f"n_params {over:.3g} times above" in note for note in notes)
    assert sum("batch_tokens" in note for note in notes) == 0
