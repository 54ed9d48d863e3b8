"""Fit a recipe for a study: train a small design, widen it where optima lie at its edge, fit twice.

The first fit goes through the optimum of each cell, the second is one surface over all runs. The
recipe takes the surface and reports both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from scaling import accounting, results
from scaling.config import field_traits
from scaling.config import load as config_lib
from scaling.laws import api as laws
from scaling.laws import response_surface
from scaling.laws.bootstrap import Interval
from scaling.laws.response_surface import Surface
from scaling.laws.table import CannotFit, Table
from scaling.recipes import fitted
from scaling.study import tune_design, tune_file
from scaling.study.tune_design import LENGTHS, MIN_STEPS, Design, Trial
from scaling.sweep.execute import runner
from scaling.sweep.shared import sweep_json
from scaling.sweep.shared.sweep_json import TUNE_NAME
from scaling.training import benchmark
from scaling.utils.errors import UserError

SCOUT_SHARE = 0.15  # of the time, for the rates of the cheapest cell
WIDENINGS = 3  # rounds in which cells with an optimum at their edge get one more rate
KNOWN = 0.5  # widest interval of an exponent that counts as identified
SMALLER_RATE = {"sp": 0.4}  # guess of the exponent of lr in N; 0 under other parametrisations
FACTOR = 2.0


@dataclass(frozen=True)
class Tuning:
    """The runs of a tuning and the rules that they give."""

    rows: list[results.RunResult]
    surface: Surface
    constant: list[tuple[str, str]]  # exponents of batch and tau that the runs do not identify
    grouped: dict[str, Any]  # rules through the optima of cells, or the reasons why there are none
    problems: list[str]


def tune(
    config: ConfigDict,
    workdir: Path,
    seconds: float,
    say: Callable[[str], None] = lambda line: None,
) -> Tuning:
    """Train a design that takes about `seconds`, and fit the rules.

    Runs that the workdir has are not trained again. Raises UserError if the time is too short or no
    rule can be fitted, Preempted after a signal.
    """
    config = config_lib.with_values(
        config, {"sweep.recipe": None, "sweep.lr_coefficient": None, "sweep.kind": "hyper"}
    )
    rungs = tune_design.sizes(config)
    tau, devices = tune_design.tau_of(config), jax.device_count()
    design = Design(config, rungs, 1.0, (config.optim.lr,) * 3, tau, devices)
    if (workdir / sweep_json.NAME).exists():
        raise UserError(f"--workdir={workdir} holds a sweep; choose a folder of the tuning's own")
    design = replace(design, shortest=_shortest(design, workdir, seconds))
    say(_describe(design))
    trained = _Trained(design, workdir)
    trained.train(list(tune_design.scout()))
    best = _best_rate(trained.rows)
    # from here on, rates are factors of the best
    trained.done = [(replace(t, lr=row.lr / best), row) for t, row in trained.done]
    exponent = SMALLER_RATE.get(config.model.parametrization, 0.0)
    guesses = tuple(best * (r.n_params / rungs[0].n_params) ** -exponent for r in rungs)
    trained.design = replace(design, guesses=guesses)
    trained.train(tune_design.trials())
    for _ in range(WIDENINGS):
        missing = [t for t in _at_edges(trained.done) if t not in trained.tried]
        if not missing:
            break
        trained.train(missing)
    return _fitted(trained.rows, list(trained.problems))


class _Trained:
    """The trials trained so far."""

    def __init__(self, design: Design, workdir: Path):
        self.design, self.workdir = design, workdir
        self.done: list[tuple[Trial, results.RunResult]] = []
        self.tried: set[Trial] = set()
        self.problems: dict[str, None] = {}

    @property
    def rows(self) -> list[results.RunResult]:
        """Return the finished runs, each once."""
        return list({row.run_id: row for _, row in self.done}.values())

    def train(self, trials: Sequence[Trial]) -> None:
        """Train the trials that the workdir does not have yet."""
        self.tried |= set(trials)
        runs = {trial: self.design.planned(trial) for trial in trials}
        distinct = list({run.run_id: run for run in runs.values()}.values())
        outcome = runner.sweep(distinct, self.workdir)
        self.problems |= dict.fromkeys(outcome.problems)
        rows = {r.run_id: r for r in outcome.results if r.status == "done"}
        self.done += [(t, rows[run.run_id]) for t, run in runs.items() if run.run_id in rows]


def _shortest(design: Design, workdir: Path, seconds: float) -> float:
    """Return the tokens of the shortest run such that the design takes about `seconds`.

    The workdir keeps it, so that the same command continues the same runs.
    """
    path, c, trials = workdir / TUNE_NAME, design.config, tune_design.trials()
    per_step = config_lib.targets_per_row(c) * design.rows * max(t.batch for t in trials)
    if path.exists():
        return tune_file.read(path, c, seconds, least=MIN_STEPS * per_step)
    measured = [benchmark.measure(design.planned(Trial(k, 0, 1.0)).config) for k in range(3)]
    programs = len({(t.size, t.batch) for t in trials})
    setup = programs * sum(m.setup_seconds for m in measured) / 3
    setup += sum(measured[t.size].evaluation_seconds for t in trials)
    per_token = sum(LENGTHS[t.length] / measured[t.size].tokens_per_second for t in trials)
    least = (setup + MIN_STEPS * per_step * per_token) / (1 - SCOUT_SHARE)
    if seconds < least:
        raise UserError(
            f"--time={seconds:g}s is too short for these models; give {math.ceil(least / 60)}m, or "
            "a smaller config.sweep.min_width, config.train.batch_size or config.data.seq_len"
        )
    shortest = (seconds * (1 - SCOUT_SHARE) - setup) / per_token
    tune_file.write(path, c, seconds, shortest)
    return shortest


def _describe(design: Design) -> str:
    names = ", ".join(f"{rung.n_params:,}" for rung in design.rungs)
    unit = field_traits.UNITS[design.config.data.field]
    lengths = ", ".join(f"{design.shortest * factor:,.0f}" for factor in LENGTHS)
    count = len(tune_design.trials())
    return f"{count} runs and more at edges: sizes {names} parameters, lengths {lengths} {unit}"


def _best_rate(rows: Sequence[results.RunResult]) -> float:
    if not rows:
        raise UserError("no run of the first rates ended; lower config.optim.lr")
    return min(rows, key=_loss).lr


def _loss(row: results.RunResult) -> float:
    return math.inf if row.loss is None else row.loss


def _at_edges(done: Sequence[tuple[Trial, results.RunResult]]) -> list[Trial]:
    """Return one more rate for each valley whose lowest loss is at the edge of its rates.

    Other taus have two rates, which are no valley.
    """
    valleys: dict[tuple, list[tuple[Trial, results.RunResult]]] = {}
    for trial, row in done:
        key = (trial.size, trial.length, trial.batch, trial.tau)
        valleys.setdefault(key, []).append((trial, row))
    more = []
    for members in (m for m in valleys.values() if len(m) > 2):
        members.sort(key=lambda pair: pair[0].lr)
        at = min(range(len(members)), key=lambda i: _loss(members[i][1]))
        if at in (0, len(members) - 1):
            more.append(tune_design.wider(members[at][0], lower=at == 0))
    return more


def table_of(rows: Sequence[results.RunResult]) -> Table:
    """Return the columns that the rules are fitted to."""
    tau = [r.batch_tokens / (r.lr * r.weight_decay * r.tokens) for r in rows]
    return laws.make_table(
        n_params=[r.n_params for r in rows],
        tokens=[r.tokens for r in rows],
        lr=[r.lr for r in rows],
        batch=[r.batch_tokens for r in rows],
        tau=tau,
        loss=[r.loss for r in rows],
    )


def _fitted(rows: list[results.RunResult], problems: list[str]) -> Tuning:
    table = table_of(rows)
    surface = response_surface.fit_surface(table)
    constant: list[tuple[str, str]] = []
    while unknown := _widest_unknown(surface, constant):
        constant.append(unknown)
        surface = response_surface.fit_surface(table, constant=constant)
    return Tuning(rows, surface, constant, grouped(table), problems)


def _widest_unknown(surface: Surface, constant) -> tuple[str, str] | None:
    """Return the exponent of batch or tau with the widest interval, None if all are identified."""
    widths = {
        (name, key): v.high - v.low
        for name, rule in surface.rules.items()
        for key, v in rule.items()
        if name != "lr" and key != "coefficient" and (name, key) not in constant
    }
    widest = max(widths, key=lambda exponent: widths[exponent], default=None)
    return widest if widest and not widths[widest] <= KNOWN else None


def grouped(table: Table) -> dict[str, Any]:
    """Return each rule through the optima of cells, or the reason why it has none.

    The rate is at the usual batch and tau, the batch at the usual tau with its own best rates, and
    tau at the usual batch with the best rate of each tau.
    """
    batch, tau = _middle(table["batch"]), _middle(table["tau"])
    usual_batch_N = table["batch"] == batch
    usual_tau_N = np.abs(np.log(table["tau"] / tau)) < np.log(1.5)
    found = {
        "lr": _through_optima(table.rows(usual_batch_N & usual_tau_N), "lr"),
        "batch_tokens": _through_optima(table.rows(usual_tau_N), "batch"),
    }
    by_tau: dict[tuple, tuple] = {}
    rows = table.rows(usual_batch_N)
    for n, d, t, loss in zip(rows.n_params, rows.tokens, rows["tau"], rows.loss, strict=True):
        key = n, d, round(np.log(t / tau), 1)
        by_tau[key] = min(by_tau.get(key, (np.inf,)), (loss, n, d, t))
    loss_N, n_N, d_N, tau_N = np.array(list(by_tau.values())).T
    best = laws.make_table(n_params=n_N, tokens=d_N, lr=tau_N, loss=loss_N)
    found["tau"] = _through_optima(best, "lr")  # a valley in tau, read as one in lr
    return found


def _through_optima(table: Table, hyper: str) -> dict[str, Any]:
    """Return a rule's numbers, verdict and warnings; "rule" is None with a reason."""
    others = {"batch": table["batch"]} if hyper == "batch" else {}
    plain = laws.make_table(
        n_params=table.n_params, tokens=table.tokens, lr=table["lr"], loss=table.loss, **others
    )
    try:
        law = laws.fit_optimum_of(plain, hyper)
    except CannotFit as error:
        return {"rule": None, "reason": str(error)}
    names = dict(zip(law.law, ("coefficient", "n_exponent", "d_exponent"), strict=True))
    rule = {names[k]: v.as_dict() for k, v in law.law.items()}
    return {"rule": rule, "verdict": law.verdict, "warnings": [str(w) for w in law.warnings]}


def _middle(values) -> float:
    return sorted(values)[len(values) // 2]


def content(config: ConfigDict, tuning: Tuning) -> dict[str, Any]:
    """Return the content of recipe.json, see `recipes/fitted.py`."""
    m, d, rows = config.model, config.data, tuning.rows
    labelled = d.field in field_traits.LABELLED
    found = tuning.surface.rules
    ranges = {
        "n_params": [r.n_params for r in rows],
        "tokens": [r.tokens for r in rows],
        "batch_tokens": [r.batch_tokens for r in rows],
    }
    made = {
        "schema": fitted.SCHEMA,
        "parametrization": m.parametrization,
        "base_width": m.base_width,
        "base_depth": m.base_depth,
        "optimizer": config.optim.name,
        "vocab_size": d.classes if labelled else accounting.shape_of(config).vocab_size,
        "field": d.field,
        "unit": field_traits.UNITS[d.field],
        "lr": _rule(found["lr"]),
        "batch_tokens": _rule(found.get("batch")),
        "tau": _rule(found.get("tau")),
        "range": {name: [min(values), max(values)] for name, values in ranges.items()},
        "loss_of_factor_2": tuning.surface.loss_of_factor("lr", FACTOR),
        "identified": identified(tuning),
        "grouped": tuning.grouped,
        "runs": len(rows),
        "flops": sum(r.flops_spent for r in rows),
        "residual": tuning.surface.residual,
    }
    fitted.parsed(made, "fitted")  # what is written can be read
    return made


def _rule(rule: dict[str, Interval] | None) -> dict[str, dict[str, float]] | None:
    if rule is None:
        return None
    return {k: {"value": v.value, "low": v.low, "high": v.high} for k, v in rule.items()}


def identified(tuning: Tuning) -> dict[str, bool]:
    """Return whether each exponent's interval is narrower than KNOWN."""
    return {
        f"{name}.{key}": v.high - v.low <= KNOWN and (name, key) not in tuning.constant
        for name, rule in tuning.surface.rules.items()
        for key, v in rule.items()
        if key != "coefficient"
    }


def proposals(tuning: Tuning) -> list[str]:
    """Return one line per exponent that is not identified: the runs that would narrow it."""
    rows, lines = tuning.rows, []
    beyond = {
        "n_exponent": ("size", "n_params", 3.0),
        "d_exponent": ("length", "tokens", 4.0),
        "batch_exponent": ("batch", "batch_tokens", 4.0),
    }
    for name, known in identified(tuning).items():
        if known:
            continue
        rule, key = name.split(".")
        interval = tuning.surface.rules[rule][key]
        word, column, factor = beyond[key]
        value = max(getattr(r, column) for r in rows) * factor
        held = (rule, key) in tuning.constant
        what = "held at 0" if held else interval.brief()
        lines.append(f"{name} is not identified: {what}; add a valley at {word} {value:,.3g}")
    return lines
