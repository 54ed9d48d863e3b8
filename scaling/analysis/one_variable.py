"""Fit L(N) at one length of training, or L(D) of one size: a power law towards a floor.

    L(x) = E + k x^-a     (Hestness et al. 2017; Henighan et al. 2020), least squares on log loss

Repeated seeds enter the fit as rows of equal x. The picture shows their mean and standard
deviation.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from scaling.analysis import columns, run_table
from scaling.analysis.saved_curve import (
    Analysis,
    SavedCurve,
    fitted,
    parameter_lines,
    refused,
    renamed,
)
from scaling.laws import api as laws
from scaling.laws.forms.registry import FORMS
from scaling.laws.table import CannotFit, Table, make_table
from scaling.report import bootstrap, groups, residuals
from scaling.results import RunResult
from scaling.utils import notices, precision

FORM = FORMS["power_offset"]
AHEAD = (3.0, 10.0)  # multiples of the largest x at which the law predicts a new run


@dataclass(frozen=True)
class Part:
    """The runs of one length (or size) and their law, None if it was refused."""

    fixed: float
    table: Table  # x, loss, seed
    law: laws.Fit | None
    content: dict[str, Any]


def params(rows: list[RunResult], workdir: Path, config: ConfigDict) -> Analysis:
    """Return the curves of a sweep of sizes: L(N), with a law per length of training."""
    return analyse(rows, config, x="n_params", fixed="tokens")


def data(rows: list[RunResult], workdir: Path, config: ConfigDict) -> Analysis:
    """Return the curves of a sweep of lengths: L(D), with a law per size."""
    return analyse(rows, config, x="tokens", fixed="n_params")


def analyse(rows: list[RunResult], config: ConfigDict, *, x: str, fixed: str) -> Analysis:
    """Return the curves `loss_of_<x>`. `x` and `fixed` are n_params and tokens, or the reverse.

    If a law is refused, its curve has only the measured points. Raises CannotFit if no run of the
    sweep has finished.
    """
    used, left_out = columns.require_runs(rows)
    values = columns.numbers(used, fixed, config)
    parts = [
        _part([r for r, v in zip(used, values, strict=True) if v == value], x, fixed, config)
        for value in sorted(set(values))
    ]
    letters, labels = {"x": columns.LETTERS[x]}, columns.labels(config)
    lines = []
    for part in parts:
        if part.law:
            grid = groups.grid(part.table["x"])
            lines.append(groups.law_line(part.law, grid, columns={fixed: part.fixed, x: grid}))
    picture = groups.picture(
        columns.run_series(used, (fixed, x), config),
        {"law": groups.joined(lines)} if lines else {},
        x=x,
        line_key=fixed,
        title=renamed(FORM.equation, letters) if lines else "",
        confidence=config.laws.confidence,
        labels=labels,
    )
    name, content = f"loss_of_{x}", _joint(parts, fixed)
    curves = {name: SavedCurve(content, picture)}
    if len(parts) == 1 and parts[0].law:
        axis_labels = {"x": labels[x], "loss": labels["loss"]}
        law, table = parts[0].law, parts[0].table
        curves[f"{name}_residuals"] = SavedCurve(
            content, residuals.picture(law, table, axis_labels)
        )
        if len(law.draws_BP):
            curves[f"{name}_bootstrap"] = SavedCurve(content, bootstrap.picture(law, labels))
    return Analysis(
        curves=curves,
        lines=[line for part in parts for line in _summary(part, x, fixed)],
        used=used,
        left_out=left_out,
        ranges=columns.ranges(used, (x,), config),
    )


def _part(rows: list[RunResult], x: str, fixed: str, config: ConfigDict) -> Part:
    table = make_table(
        names=[r.run_id for r in rows],
        x=columns.numbers(rows, x, config),
        loss=[r.loss for r in rows],
        seed=[r.seed for r in rows],
    )
    letters, law = {"x": columns.LETTERS[x]}, None
    try:
        law = laws.fit(
            table,
            FORM,
            objective=laws.Objective("least_squares"),
            bootstrap=config.laws.bootstrap,
            confidence=config.laws.confidence,
        )
        content = fitted(law, letters)
        points = [factor * float(table["x"].max()) for factor in AHEAD]
        content["predictions"] = [
            {x: v, "loss": law.prediction_interval(v).as_dict()} for v in points
        ]
    except CannotFit as error:
        content = refused(str(error), FORM.equation, letters)
    for key, items in notices.as_json("warnings", run_table.repeated(rows)).items():
        content["diagnostics"][key] += items
    value = columns.number(rows[0], fixed, config)
    return Part(value, table, law, {**content, fixed: value})


def _joint(parts: list[Part], fixed: str) -> dict[str, Any]:
    """Return the JSON of a single part, or of several by their length or size."""
    if len(parts) == 1:
        return parts[0].content
    by_group = {f"{columns.LETTERS[fixed]}={part.fixed:.0f}": part.content for part in parts}
    first = parts[0].content
    return {
        "estimator": next((p.content["estimator"] for p in parts if p.law), first["estimator"]),
        "equation": first["equation"],
        **{
            key: {group: content[key] for group, content in by_group.items()}
            for key in ("parameters", "verdict", "diagnostics")
        },
        "predictions": {group: c.get("predictions", []) for group, c in by_group.items()},
        fixed: [part.fixed for part in parts],
    }


def _summary(part: Part, x: str, fixed: str) -> list[str]:
    heading = f"{part.content['equation']} at {columns.LETTERS[fixed]} = {part.fixed:,.0f}"
    if part.law is None:
        return [heading, f"  refused: {part.content['diagnostics']['refused']}"]
    predictions = [
        f"  {columns.LETTERS[x]} {p[x]:.4g}: loss {precision.of_dict(p['loss'])} for a new run"
        for p in part.content["predictions"]
    ]
    return [heading, *parameter_lines(part.law), *predictions]
