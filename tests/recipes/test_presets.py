"""Presets against the equations of their sources, worked out by hand."""

from __future__ import annotations

import dataclasses
import re

import pytest

from scaling.recipes import describe, fitted, registry
from scaling.recipes.presets import PRESETS, power
from scaling.recipes.recipe import Base, Point, Settings, mismatches
from scaling.utils.errors import UserError
from tests.common import ROOT

# 2^27 parameters, 2^32 tokens, steps of 2^18 tokens; rates of a usual run
POINT = Point(2**27, 108e6 * 8, 2.0**30, 2.0**32, 2.0**32, 2.0**18, 256)
BASE = Base(POINT, lr=3e-3, weight_decay=0.1, eps=1e-8, beta1=0.9, beta2=0.95)


def settings(name: str, **changes) -> dict[str, float]:
    """Return what a preset sets for the point with these changes."""
    made = PRESETS[name].settings(dataclasses.replace(POINT, **changes), BASE)
    return {k: v for k, v in dataclasses.asdict(made).items() if v is not None}


ABSOLUTE = {
    # 2^27^-.713 = 2^-19.251, 2^32^.307 = 2^9.824, 2^32^.571 = 2^18.272
    ("steplaw",): {"lr": 1.79 * 2**-9.427, "batch_tokens": 0.58 * 2**18.272},
    # (8)^(-1/3) = 1/2, (8)^(2/3) = 4
    ("olmo",): {"lr": 0.001175, "batch_tokens": 1_310_720, "beta2": 0.99},
    ("olmo", ("batch_tokens", 524_288)): {"lr": 0.001175, "batch_tokens": 1_310_720, "beta2": 0.95},
    # C = 2^62: 2^-7.75 and 2^20.274
    ("deepseek",): {"lr": 0.3118 * 2**-7.75, "batch_tokens": 0.292 * 2**20.274},
    # at the source's own reference
    ("delphi", ("tokens", 2.5e9)): {
        "lr": 0.0063, "eps": 1.85e-8, "beta2": 0.9999, "warmup_fraction": 0.1,
        "decay_fraction": 0.2,
    },
    # four times the batch; 2^10 times the tokens: 2^-3
    ("delphi", ("tokens", 2.5e9 * 1024), ("batch_tokens", 2.0**20)): {
        "lr": 0.0063 * 2 / 8, "eps": 1.85e-8 * 16, "beta2": 0.99960006, "warmup_fraction": 0.1,
        "decay_fraction": 0.2,
    },
}  # fmt: skip


@pytest.mark.parametrize(("case", "expected"), ABSOLUTE.items(), ids=str)
def test_sources_that_state_constants_are_met(case, expected):
    name, *changes = case
    assert settings(name, **dict(changes)) == pytest.approx(expected, rel=1e-6)


def test_beta2_of_delphi_stays_in_its_limits():
    assert settings("delphi", batch_tokens=2.0**10)["beta2"] == 0.9999
    assert settings("delphi", batch_tokens=2.0**30)["beta2"] == 0.9


# of each proportionality: changes of the point -> what the settings are multiplied by
RATIOS = [
    ("sde", {}, {"lr": 1, "weight_decay": 1, "eps": 1}),
    ("sde", {"tokens": 2.0**34}, {"lr": 1 / 2, "weight_decay": 1 / 2, "eps": 2}),
    ("sde", {"batch_tokens": 2.0**20, "tokens": 2.0**33}, {"lr": 2**0.5, "eps": 2**-0.5}),
    ("tau_epoch", {}, {"weight_decay": 1}),
    ("tau_epoch", {"epoch_tokens": 2.0**34}, {"weight_decay": 1 / 4}),
    ("tau_epoch", {"lr": 6e-3, "batch_tokens": 2.0**20}, {"weight_decay": 2}),
    ("nanochat", {}, {"lr": 1, "weight_decay": 1, "batch_tokens": 1}),
    ("nanochat", {"tokens": 2.0**42}, {"batch_tokens": 2**3.83, "weight_decay": 2**-10}),
    ("nanochat", {"batch_tokens": 2.0**20}, {"lr": 2, "weight_decay": 2, "batch_tokens": 1}),
    ("powerlines", {}, {"weight_decay": 1, "batch_tokens": 1}),
    # tau falls by 2^-5.3, and D grows by 2^10
    ("powerlines", {"tokens": 2.0**42}, {"batch_tokens": 2**3.83, "weight_decay": 2**-4.7}),
    ("powerlines", {"n_params": 2.0**37, "lr": 6e-3}, {"weight_decay": 2**-6.3}),
]


@pytest.mark.parametrize(("name", "changes", "ratios"), RATIOS)
def test_sources_that_state_proportionalities_are_met(name, changes, ratios):
    base = {**dataclasses.asdict(BASE), "batch_tokens": POINT.batch_tokens}
    made = settings(name, **changes)
    assert {k: made[k] / base[k] for k in ratios} == pytest.approx(ratios, rel=1e-9)


def test_betas_of_the_sde_scale_from_one():
    made = settings("sde", tokens=2.0**33)
    assert made["beta1"] == pytest.approx(0.95) and made["beta2"] == pytest.approx(0.975)


def test_batch_and_rate_depend_on_no_batch_and_rate_that_are_given():
    """So that a plan may ask for the batch first, then for the rate, then for the rest."""
    for name in PRESETS:
        one, other = settings(name), settings(name, batch_tokens=2.0**10)
        assert one.get("batch_tokens") == other.get("batch_tokens")
        assert one.get("lr") == settings(name, lr=1.0).get("lr")


def test_power_is_the_rule_of_the_first_sweeps():
    assert power(0.876, 0.4).settings(POINT, BASE) == Settings(lr=0.876 * (2**27) ** -0.4)
    assert power(1.0, -0.5).equation == "lr = 1 N^0.5"
    with pytest.raises(UserError, match="lr_n_exponent=-1e\\+09: the learning rate of"):
        power(1.0, -1e9).settings(POINT, BASE)


def test_settings_that_are_no_numbers_are_refused_in_a_line():
    with pytest.raises(UserError, match="recipe sde: no finite settings") as caught:
        PRESETS["sde"].settings(dataclasses.replace(POINT, batch_tokens=0.0), BASE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "point", "base", "words"),
    [
        ("sde", {"tokens": 2.0**28}, {}, "B/D is 16 times that of the config's own run"),
        ("tau_epoch", {}, {"weight_decay": 0.0}, "scales config.optim.weight_decay, which is 0"),
        ("powerlines", {}, {"weight_decay": 0.0}, "scales config.optim.weight_decay, which is 0"),
    ],
)
def test_a_base_that_a_preset_cannot_scale_is_refused_with_the_key_to_change(
    name, point, base, words
):
    with pytest.raises(UserError, match=words):
        PRESETS[name].settings(
            dataclasses.replace(POINT, **point), dataclasses.replace(BASE, **base)
        )


def test_a_preset_names_the_conditions_that_it_was_not_made_for():
    text = {"optim.name": "adamw", "data.field": "language"}
    assert mismatches(PRESETS["steplaw"], text) == []  # older configs have no parametrization
    (line,) = mismatches(PRESETS["steplaw"], {**text, "model.parametrization": "mup"})
    assert "config.model.parametrization='sp', and this study has 'mup'" in line
    (line,) = mismatches(PRESETS["nanochat"], {**text, "optim.name": "sgd"})
    assert "config.optim.name='adamw' or 'muon', and this study has 'sgd'" in line


def test_the_docs_state_every_preset_as_the_code_does():
    text = (ROOT / "docs" / "recipes.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", text, re.MULTILINE))
    assert list(rows) == list(registry.NAMES)
    ours = {name: fitted.read(path, name) for name, path in registry.STUDIES.items()}
    for name, recipe in {**PRESETS, **ours}.items():
        equation, source, sets = rows[name].split(" | ")
        assert (equation.strip("`"), source) == (recipe.equation, recipe.source)
        assert sets.replace(" ", "_").split(",_") == list(describe.chosen(recipe))
