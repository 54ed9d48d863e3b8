"""Strict overlays, checks that name the key, hashes that say which run it is."""

from __future__ import annotations

import ast
import re

import pytest

from scaling import accounting
from scaling.config import load as config_lib
from scaling.configs import algorithms, fields, sweeps
from scaling.sweep.plan import planner
from scaling.utils.errors import UserError
from tests.common import ROOT

CONFIGS = sorted(p for p in (ROOT / "configs").glob("*.py") if p.name != "__init__.py")


@pytest.mark.parametrize("study", [f"{f}.{k}" for f in fields.FIELDS for k in fields.SWEEPS])
def test_every_study_of_a_field_plans(study):
    runs = planner.plan(config_lib.load(f"{ROOT}/configs/fields.py:{study}"))
    n_params, tokens = ({getattr(run, name) for run in runs} for name in ("n_params", "tokens"))
    swept = n_params if study.endswith("params") else tokens
    assert max(swept) / min(swept) > 10**1.5
    assert sum(run.flops for run in runs) < 1e13


@pytest.mark.parametrize(
    "family", [f"{q}.{f}" for q, (_, families) in algorithms.QUESTIONS.items() for f in families]
)
def test_every_family_plans_the_same_computes(family):
    config = config_lib.load(f"{ROOT}/configs/algorithms.py:{family}")
    runs, rates = planner.plan(config), {"images.mlp": 4}.get(family, 3)
    assert len(runs) == 4 * 4 * rates and sum(run.flops for run in runs) < 1.5e13


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_config_is_valid_and_plans(path):
    config = config_lib.load(str(path))
    runs = planner.plan(config) if config.sweep.kind != "none" else [planner.plan_run(config)]
    for run in runs:
        assert run.flops > 0 and run.steps >= 1
        assert run.flops <= (run.budget or run.flops)


@pytest.mark.parametrize("study", sweeps.STUDIES)
def test_every_small_study_plans_and_is_affordable_on_two_cores(study):
    config = config_lib.load(f"{ROOT}/configs/sweeps.py:{study}")
    assert config.name == study and config.sweep.kind != "compute"
    assert (
        sum(run.flops for run in planner.plan(config)) < 2e13
    )  # 14 minutes at the quickstart's speed


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_study_states_its_command_time_and_result(path):
    doc = ast.get_docstring(ast.parse(path.read_text())) or ""
    if path.stem != "base":
        assert re.search(
            rf"^    (scaling \w+ --config=configs/{path.stem}.py|python -m)", doc, re.M
        )
        assert re.search(r"\nTime: .*\nResult: .", doc, re.S)
        assert re.search(r"\d", doc.split("\nTime: ")[1])


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_config_builds_its_model_abstractly(path):
    import jax

    from scaling.programs import train_step

    config = config_lib.load(str(path), ["--config.parallel.fsdp=1"])  # there are two devices
    programs = train_step.programs(config)
    sizes = [x.size for x in jax.tree.leaves(programs.state_like["params"])]
    counts = accounting.param_counts(accounting.shape_of(config))
    assert sum(sizes) == counts["n_params_total"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.optim.lrr=1", "did you mean config.optim.lr?"),
        ("--config.optimizer.lr=1", "no such key"),
        ("--config.optim.lr=fast", "config.optim.lr=fast"),
        ("--config.train.tokens=1.5", "config.train.tokens=1.5"),
        ("--config.model.head_dim=24", "config.model.width=64 is not a multiple"),
        ("--config.model.mlp=tanh", "choose one of gelu"),
        ("--config.train.tokens=100", "less than one step"),
        ("--config.optim.warmup_fraction=1.5", "between 0 and 1"),
        ("--config.train.log_every=7", "should divide"),
        ("--config.data.vocab_size=300", "byte tokenizer has 256"),
        ("--config.optim.lr=-1.0", "should be positive"),
        ("--config.optim.clip=0.0", "should be positive"),
        ("--config.optim.clip=nan", "config.optim.clip=nan: 'nan' is not a number"),
        ("--config.optim.clip=inf", "config.optim.clip=inf: 'inf' is not a number"),
        ("--config.optim.beta1=1.0", "should be 0 or more and less than 1"),
        ("--config.laws.confidence=1.0", "should be 0 or more and less than 1"),
        ("--config.optim.weight_decay=-1.0", "should be 0 or more"),
        ("--config.optim.warmup_tokens=-9", "should be positive, or None"),
        ("--config.data.unique_tokens=-5", "should be positive, or None"),
        ("--config.eval.every_tokens=-1", "should be positive, or None"),
        ("--config.laws.holdout_factor=-3.0", "should be above 1, or None"),
        ("--config.seed=-1", "should be from 0 to 2147483647"),
        ("--config.seed=3000000000", "should be from 0 to 2147483647"),
        ("--config.sweep.assumed_mfu=0.0", "should be positive"),
        ("--config.data.name=text_folder", "config.data.path is not set"),
    ],
)
def test_bad_overrides_name_the_key(override, message):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        config_lib.load("configs/base.py", [override])
    assert "\n" not in str(caught.value)


def test_decay_longer_than_the_run_is_refused():
    overrides = ["--config.optim.schedule=wsd", "--config.optim.decay_fraction=0.99"]
    with pytest.raises(UserError, match="longer than the run"):
        config_lib.load("configs/base.py", overrides)


def test_a_study_that_adds_a_key_is_refused(tmp_path):
    study = tmp_path / "study.py"
    study.write_text(
        "from scaling.configs import base\ndef get_config():\n"
        "    c = base.get_config()\n    c.optim.nesterov = True\n    return c\n"
    )
    with pytest.raises(UserError, match=r"study\.py.*nesterov"):
        config_lib.load(str(study))


def test_a_study_with_its_own_dict_is_held_to_the_keys_of_base(tmp_path):
    study = tmp_path / "study.py"
    study.write_text(
        "from ml_collections import ConfigDict\ndef get_config():\n"
        "    return ConfigDict({'optim': {'lr': 0.1}})\n"
    )
    with pytest.raises(UserError, match=r"config\.\S+ is missing"):
        config_lib.load(str(study))


def test_overrides_are_taken():
    config = config_lib.load("configs/base.py", ["--config.optim.lr=1e-4", "--config.seed=7"])
    assert (config.optim.lr, config.seed) == (1e-4, 7)


def test_json_round_trip():
    config = config_lib.load("configs/quickstart.py")
    again = config_lib.from_json(config_lib.to_json(config))
    assert config_lib.flatten(again) == config_lib.flatten(config)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"launch.cores": -1}, r"config\.launch\.cores=-1 should be positive"),
        (
            {"launch.resources": ("TPU", 4)},
            r"launch\.resources: 'TPU' should be a name and an amount",
        ),
        ({"launch.setup": (1,)}, r"launch\.setup=\(1,\) should be lines of a shell"),
    ],
)
def test_bad_launches_name_the_key(values, message):
    with pytest.raises(UserError, match=message):
        config_lib.with_values(config_lib.base_config(), values)
