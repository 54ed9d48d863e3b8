"""Fit the best learning rate and batch size by size and length, such as lr* = k N^p D^q.

Runs of equal size and length are a group. A quadratic in log lr and log batch near its lowest loss
gives its optimum. A weighted fit through the optima gives the law (`laws/lr_batch_law.py`). A
hyperparameter that does not vary has no curve.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from scaling.analysis import columns
from scaling.analysis.saved_curve import Analysis, SavedCurve, refused
from scaling.laws import api as laws
from scaling.laws import checks, to_text
from scaling.laws.forms.registry import power_product
from scaling.laws.lr_batch_law import NEAR
from scaling.laws.lr_batch_optima import Tuned, tuned
from scaling.laws.table import CannotFit, Table, make_table
from scaling.report import tuned_law, valleys
from scaling.results import RunResult
from scaling.utils import notices

COLUMNS = {"lr": "lr", "batch": "batch_tokens"}
INPUTS = ("n_params", "tokens")
VARIES = 0.1  # a law needs a larger range of log size or log tokens over the groups


@dataclass(frozen=True)
class Search:
    """One hyperparameter: the optimum of every group, and the law through them, None if refused."""

    name: str
    groups: tuple[Tuned, ...]
    law: laws.HyperFit | None
    content: dict[str, Any]


def hyper(rows: list[RunResult], workdir: Path, config: ConfigDict) -> Analysis:
    """Return the curves `<name>_valleys` and `<name>_optimum`, if lr or batch varies.

    Raises CannotFit if no run has finished, or neither varies.
    """
    used, left_out = columns.require_runs(rows)
    table = make_table(
        names=[r.run_id for r in used],
        excluded=left_out,
        loss=[r.loss for r in used],
        seed=[r.seed for r in used],
        **{name: columns.numbers(used, name, config) for name in (*INPUTS, "flops")},
        **{name: columns.numbers(used, column, config) for name, column in COLUMNS.items()},
    )
    names = [name for name in COLUMNS if _varies_in_a_group(table, name)]
    if not names:
        raise CannotFit("neither the learning rate nor the batch size differs between the runs")
    loss_se = np.array([r.loss_se for r in used], float)
    curves: dict[str, SavedCurve] = {}
    lines: list[str] = []
    for name in names:
        search = _search(table, name, config)
        labels = columns.labels(config)
        picture = valleys.picture(table, search.groups, name, loss_se, labels)
        curves[f"{name}_valleys"] = SavedCurve(search.content, picture)
        curves[f"{name}_optimum"] = SavedCurve(
            search.content,
            tuned_law.picture(
                table, search.groups, search.law, name, config.laws.confidence, labels
            ),
        )
        lines += _summary(search)
    return Analysis(
        curves=curves,
        lines=lines,
        used=used,
        left_out=left_out,
        ranges=to_text.ranges(table, (*INPUTS, *names)),
    )


def _varies_in_a_group(table: Table, name: str) -> bool:
    """Return whether runs of equal size and length differ; a recipe may vary it between groups."""
    points = np.unique(np.stack([table[key] for key in (*INPUTS, name)], axis=1), axis=0)
    return len(points) > len(np.unique(points[:, :-1], axis=0))


def _search(table: Table, name: str, config: ConfigDict) -> Search:
    options = {
        "near": NEAR,
        "bootstrap": config.laws.bootstrap,
        "confidence": config.laws.confidence,
    }
    groups = tuple(tuned(table, name, **options))
    inputs = law_inputs(groups)
    try:
        if not inputs:
            raise CannotFit(
                f"{name}_law: size and length are the same in every group; vary one for a law of "
                "the optimum"
            )
        law = laws.fit_optimum_of(table, name, of=inputs, **options)
    except CannotFit as error:
        content = refused(str(error), power_product(name, inputs or ("n_params",)).equation)
        content["groups"] = [_group(g, name) for g in groups]
        return Search(name, groups, None, content)
    written = to_text.tuned(law, table)
    content = {
        key: written[key]
        for key in ("equation", "source", "domain", "estimator", "groups", "scatter", "verdict")
    }
    content["parameters"] = written["params"]
    content["factor_that_costs_1_percent"] = law.wrong_by
    content["diagnostics"] = {"refused": None, **notices.as_json("warnings", law.warnings)}
    return Search(name, law.groups, law, content)


def law_inputs(groups: tuple[Tuned, ...]) -> tuple[str, ...]:
    """Return the inputs of the law: size and tokens if both vary independently, else one.

    Empty if neither varies. Size alone if the length follows it.
    """
    logs = {name: np.log([g.inputs[name] for g in groups]) for name in INPUTS}
    varying = tuple(name for name in INPUTS if np.ptp(logs[name]) > VARIES)
    if len(varying) < 2:
        return varying
    try:
        checks.require_apart({name: np.exp(logs[name]) for name in varying}, "")
    except CannotFit:  # the length follows the size
        return ("n_params",)
    return varying


def _group(g: Tuned, name: str) -> dict[str, Any]:
    return {
        **g.inputs,
        "rows": g.n_runs,
        name: g.optimum.as_dict(),
        "loss_opt": g.loss,
        "problem": str(g.problem or ""),
    }


def _summary(search: Search) -> list[str]:
    lines = [f"Best {search.name} of every group"]
    for g in search.groups:
        outcome = g.problem or f"{g.optimum.brief()}, loss {g.loss:.4f}"
        lines.append(f"  N {g.inputs['n_params']:10,.0f}  D {g.inputs['tokens']:12,.0f}  {outcome}")
    lines.append(search.content["equation"])
    if search.law is None:
        return [*lines, f"  refused: {search.content['diagnostics']['refused']}"]
    lines += [f"  {name:6} {i.brief()}" for name, i in search.law.law.items()]
    lines.append(
        f"  within a factor {search.law.wrong_by:.2g} of the optimum costs less than 1% of the loss"
    )
    return [
        *lines,
        f"  verdict: {search.law.verdict}",
        *(f"  warning: {w}" for w in search.law.warnings),
    ]
