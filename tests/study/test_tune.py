"""`scaling tune`: its design, its rules from known losses, and a whole run (slow)."""

from __future__ import annotations

import json
import math
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from scaling import cli
from scaling.config import load as config_lib
from scaling.recipes import fitted
from scaling.study import tune, tune_design, tune_file
from scaling.study.tune_design import Design, Trial
from scaling.sweep.shared import sweep_json
from scaling.utils.errors import UserError
from tests.common import flags


@pytest.fixture(scope="module")
def design():
    config = config_lib.load("mini", flags({"sweep.lr_coefficient": None}))
    return Design(config, tune_design.sizes(config), 20_000.0, (0.02, 0.015, 0.01), 0.5, devices=2)


def test_the_design_has_three_values_of_everything():
    trials = tune_design.trials()
    assert len(trials) == len(set(trials))
    for name in ("size", "length", "batch", "tau"):
        assert len({getattr(t, name) for t in trials}) == 3
    cells = Counter((t.size, t.length) for t in trials if t.batch == t.tau == 1)
    assert len(cells) == 8 and set(cells.values()) == {5}


def test_sizes_are_rungs_about_equally_far_apart(design):
    sizes = [rung.n_params for rung in design.rungs]
    assert sizes[0] < sizes[1] < sizes[2]
    assert 1.5 < sizes[1] / sizes[0] < 4 and 1.5 < sizes[2] / sizes[1] < 4
    two = config_lib.with_values(design.config, {"sweep.rungs": 2, "sweep.width_ratio": 2.0})
    with pytest.raises(UserError, match="a recipe is fitted to three sizes"):
        tune_design.sizes(two)


@pytest.mark.parametrize(
    "trial", [Trial(0, 0, 1.0), Trial(1, 1, 0.5, batch=4.0), Trial(2, 0, 2, tau=0.25)]
)
def test_a_trial_has_its_rate_batch_length_and_tau(design, trial):
    run = design.planned(trial)
    c = run.config
    assert c.optim.lr == pytest.approx(design.guesses[trial.size] * trial.lr)
    assert c.train.batch_size == design.rows * trial.batch and c.train.batch_size % 2 == 0
    wanted = design.shortest * tune_design.LENGTHS[trial.length]
    assert abs(run.tokens - wanted) <= c.train.batch_size * c.data.seq_len / 2
    tau = c.train.batch_size * c.data.seq_len / (c.optim.lr * c.optim.weight_decay * run.tokens)
    assert tau == pytest.approx(0.5 * trial.tau, rel=1e-4)


def test_a_valley_with_its_lowest_loss_at_the_edge_gets_a_further_rate():
    def valley(losses, **values):
        rates = (0.25, 0.5, 1.0)
        return [
            (Trial(0, 0, lr, **values), SimpleNamespace(loss=loss))
            for lr, loss in zip(rates, losses, strict=True)
        ]

    done = [*valley([1, 2, 3]), *valley([2, 1, 3], batch=0.25), *valley([3, 2, 1], batch=4.0)]
    done += valley([1, 2, 3], tau=4.0)[:2]  # two rates are no valley
    assert tune._at_edges(done) == [Trial(0, 0, 0.125), Trial(0, 0, 2.0, batch=4.0)]


def known_runs(noise: float = 0.0005):
    """Runs of lr* = 0.4 N^-.3 B^.3, B* = 5 D^.4 and tau* = 0.5."""
    rng, rows = np.random.default_rng(0), []
    for n in (3e3, 9e3, 2.7e4):
        for d in (1e5, 2.5e5, 6e5):
            for batch in (256, 1024, 4096):
                for tau in (0.125, 0.5, 2.0):
                    best = 0.4 * n**-0.3 * batch**0.3
                    for factor in (0.35, 0.6, 1.0, 1.7, 2.8):
                        excess = (
                            0.02 * math.log(factor) ** 2
                            + 0.004 * math.log(batch / (5 * d**0.4)) ** 2
                            + 0.006 * math.log(tau / 0.5) ** 2
                        )
                        loss = 8 * (n * d) ** -0.06 * math.exp(excess + noise * rng.normal())
                        lr = best * factor
                        rows.append(
                            SimpleNamespace(
                                n_params=n, tokens=d, lr=lr, batch_tokens=batch, loss=loss,
                                weight_decay=batch / (lr * tau * d), flops_spent=6 * n * d,
                            )
                        )  # fmt: skip
    return rows


def test_known_losses_give_the_recipe_that_made_them(design):
    tuning = tune._fitted(known_runs(), [])
    made = tune.content(design.config, tuning)
    assert made["lr"]["n_exponent"]["value"] == pytest.approx(-0.3, abs=0.03)
    assert made["lr"]["batch_exponent"]["value"] == pytest.approx(0.3, abs=0.03)
    assert made["batch_tokens"]["d_exponent"]["value"] == pytest.approx(0.4, abs=0.08)
    assert made["tau"]["n_exponent"]["value"] == pytest.approx(0, abs=0.05)
    assert made["loss_of_factor_2"] == pytest.approx(math.expm1(0.02 * math.log(2) ** 2), rel=0.05)
    grouped = {name: found["rule"] for name, found in made["grouped"].items()}
    assert grouped["lr"]["n_exponent"]["value"] == pytest.approx(-0.3, abs=0.1)
    assert grouped["batch_tokens"]["d_exponent"]["value"] == pytest.approx(0.4, abs=0.15)
    assert grouped["tau"]["coefficient"]["low"] < 0.5 < grouped["tau"]["coefficient"]["high"]
    assert all(made["identified"].values()) and tune.proposals(tuning) == []
    assert fitted.parsed(json.loads(json.dumps(made)), "fitted").ranges["tokens"] == (1e5, 6e5)


def test_exponents_that_noise_hides_are_held_at_0_and_named(design):
    tuning = tune._fitted(known_runs(noise=0.03), [])
    made = tune.content(design.config, tuning)
    hidden = [name for name, known in made["identified"].items() if not known]
    assert any(name.startswith(("tau", "batch")) for name in hidden)
    for rule, key in tuning.constant:
        name = {"batch": "batch_tokens"}.get(rule, rule)
        assert made[name] is None or made[name][key]["value"] == 0
    assert len(tune.proposals(tuning)) == len(hidden)


def test_a_tuning_continues_only_as_it_began(design, tmp_path):
    path = tmp_path / sweep_json.TUNE_NAME
    tune_file.write(path, design.config, 60.0, 5e4)
    assert tune_file.read(path, design.config, 60.0, least=5e4) == 5e4
    with pytest.raises(UserError, match="holds a tuning of 60s; give that time"):
        tune_file.read(path, design.config, 3600.0, least=5e4)
    other = config_lib.with_values(design.config, {"optim.lr": 0.5})
    with pytest.raises(UserError, match="holds the tuning of another study"):
        tune_file.read(path, other, 60.0, least=5e4)
    with pytest.raises(UserError, match="holds a tuning"):
        sweep_json.create_or_check(design.config, tmp_path)
    path.write_text(path.read_text().replace("50000.0", "-5"))
    with pytest.raises(UserError, match=r"tune\.json"):
        tune_file.read(path, design.config, 60.0, least=5e4)
    tune_file.write(path, design.config, 60.0, -5.0)
    with pytest.raises(UserError, match="shortest_tokens=-5 is not"):
        tune_file.read(path, design.config, 60.0, least=5e4)


def test_time_is_needed(capsys):
    assert cli.main(["tune", "--config=mini", "--workdir=nowhere"]) == 2
    assert capsys.readouterr().err.startswith("error: --time is missing")


@pytest.mark.slow
def test_a_recipe_is_tuned_continued_and_used(tmp_path, capsys):
    command = ["tune", "--config=mini", f"--workdir={tmp_path}", "--json"]
    assert cli.main([*command, "--time=1s"]) == 2
    assert "--time=1s is too short" in capsys.readouterr().err
    assert cli.main([*command, "--time=3m"]) in (0, 3)
    first = json.loads(capsys.readouterr().out)
    assert first == json.loads((tmp_path / "recipe.json").read_text()) and first["runs"] > 80
    assert cli.main([*command, "--time=3m"]) in (0, 3)
    assert json.loads(capsys.readouterr().out) == first, "nothing was trained again"
    recipe = f"--config.sweep.recipe=fitted:{tmp_path / 'recipe.json'}"
    assert cli.main(["plan", "--config=mini", "--config.sweep.lr_coefficient=None", recipe]) == 0
    assert "recipe fitted:" in capsys.readouterr().out
