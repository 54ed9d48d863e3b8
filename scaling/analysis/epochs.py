"""Fit the worth of repeated data: loss against tokens and unique tokens (Muennighoff et al. 2023).

    D' = U_D + U_D R_D* (1 - exp(-R_D / R_D*)),   R_D = D / U_D - 1 repeats

Three sizes or more share one law L(N, D, U), form `data_constrained`. With fewer, each size has a
law of its own, form `data_constrained_one_size`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from scaling.analysis import columns, one_variable
from scaling.analysis.saved_curve import Analysis, SavedCurve, fitted, parameter_lines, refused
from scaling.laws import api as laws
from scaling.laws.bootstrap import interval
from scaling.laws.forms.registry import FORMS
from scaling.laws.table import CannotFit, Table, make_table
from scaling.report import excess, groups
from scaling.results import RunResult
from scaling.utils import precision

MANY_SIZES, ONE_SIZE = FORMS["data_constrained"], FORMS["data_constrained_one_size"]
WORTH_AT = (2.0, 4.0, 8.0, 16.0, 32.0)  # epochs at which the law gives their worth
INPUTS = ("n_params", "tokens", "unique_tokens")


@dataclass(frozen=True)
class Part:
    """The runs of one law, and the law, None if it was refused."""

    table: Table
    law: laws.Fit | None
    content: dict[str, Any]

    def predict(self, n_params, tokens, unique_tokens) -> np.ndarray:
        """Return the loss that the law expects, of the shape that the inputs broadcast to."""
        assert self.law is not None
        inputs = {"n_params": n_params, "tokens": tokens, "unique_tokens": unique_tokens}
        return np.asarray(self.law.predict(*(inputs[name] for name in self.law.form.inputs)))


def data(rows: list[RunResult], workdir: Path, config: ConfigDict) -> Analysis:
    """Return the curves of a sweep of lengths: L(D), or `epochs` if unique data differ too."""
    used, _ = columns.require_runs(rows)
    if len({r.unique_tokens for r in used}) == 1:
        return one_variable.data(rows, workdir, config)
    return analyse(rows, config)


def analyse(rows: list[RunResult], config: ConfigDict) -> Analysis:
    """Return the curve `epochs` and, if every law could be fitted, `epochs_excess`.

    Raises CannotFit if no run has finished.
    """
    used, left_out = columns.require_runs(rows)
    sizes = columns.numbers(used, "n_params", config)
    together = len(set(sizes)) >= MANY_SIZES.distinct
    members = [used] if together else [_of_size(used, sizes, n) for n in sorted(set(sizes))]
    parts = [_part(group, MANY_SIZES if together else ONE_SIZE, config) for group in members]
    content = parts[0].content if len(parts) == 1 else _by_size(parts)
    runs = columns.run_series(used, (*INPUTS, "epochs"), config)
    fits = [part for part in parts if part.law]
    lines = [line for part in fits for line in _law_lines(part)]
    fresh = [line for part in fits for line in _without_repeats(part)]
    picture = groups.picture(
        runs,
        {"law": groups.joined(lines), "no repeats": groups.joined(fresh)} if lines else {},
        x="tokens",
        line_key="unique_tokens",
        panels="n_params" if len(set(sizes)) > 1 else "",
        confidence=config.laws.confidence,
        labels=columns.labels(config),
    )
    curves = {"epochs": SavedCurve(content, picture)}
    if len(fits) == len(parts):
        curves["epochs_excess"] = SavedCurve(content, excess.picture(*_excess(parts)))
    return Analysis(
        curves=curves,
        lines=[line for part in parts for line in _summary(part)],
        used=used,
        left_out=left_out,
        ranges=columns.ranges(used, (*INPUTS, "epochs"), config),
    )


def _of_size(rows: list[RunResult], sizes: np.ndarray, n_params: float) -> list[RunResult]:
    return [r for r, size in zip(rows, sizes, strict=True) if size == n_params]


def _part(rows: list[RunResult], form: laws.Form, config: ConfigDict) -> Part:
    values = {name: columns.numbers(rows, name, config) for name in (*INPUTS, "loss", "seed")}
    table = make_table(names=[r.run_id for r in rows], **values)
    robust = laws.Objective(delta=config.laws.huber_delta)
    squares = laws.Objective("least_squares")
    options = {"bootstrap": config.laws.bootstrap, "confidence": config.laws.confidence}
    try:
        law = laws.fit(table, form, objective=robust if form is MANY_SIZES else squares, **options)
    except CannotFit as error:
        return Part(table, None, refused(str(error), form.equation))
    content = fitted(law)
    content["worth"] = [{"epochs": e, "fresh_tokens_per_token": _worth(law, e)} for e in WORTH_AT]
    return Part(table, law, content)


def _worth(law: laws.Fit, epochs: float) -> dict[str, float]:
    """Return D' / D after `epochs`, the worth of a token against a fresh one, with its interval."""

    def share(decay):
        return (1 - decay * np.expm1(-(epochs - 1) / decay)) / epochs

    column = law.form.parameters.index("R_D")
    with np.errstate(invalid="ignore", over="ignore"):
        refits = share(law.draws[:, column])
    value = share(law.values["R_D"])
    return interval(value, refits, law.confidence, law.freedom).as_dict()


def _by_size(parts: list[Part]) -> dict[str, Any]:
    """Return the JSON of several sizes, each with a law of its own."""
    by_size = {f"N={part.table.n_params[0]:.0f}": part.content for part in parts}
    keys = ("estimator", "parameters", "verdict", "diagnostics")
    return {
        "equation": ONE_SIZE.equation,
        **{key: {n: content[key] for n, content in by_size.items()} for key in keys},
        "worth": {n: content.get("worth", []) for n, content in by_size.items()},
    }


def _groups(table: Table) -> list[tuple[float, float]]:
    """Return the distinct (n_params, unique_tokens) in ascending order."""
    return sorted(set(zip(table.n_params.tolist(), table["unique_tokens"].tolist(), strict=True)))


def _law_lines(part: Part) -> list[dict]:
    """Return the law's line for each size and number of unique tokens."""
    lines = []
    assert part.law is not None
    for n_params, unique in _groups(part.table):
        rows = (part.table.n_params == n_params) & (part.table["unique_tokens"] == unique)
        values = {
            "n_params": n_params,
            "tokens": groups.grid(part.table.tokens[rows]),
            "unique_tokens": unique,
        }
        inputs = [np.asarray(values[name]) for name in part.law.form.inputs]
        lines.append(groups.law_line(part.law, *inputs, columns=values))
    return lines


def _without_repeats(part: Part) -> list[dict]:
    """Return the law's line of each size if every token is fresh."""
    lines = []
    tokens = groups.grid(part.table.tokens)
    most = part.table["unique_tokens"].max()
    for n_params in np.unique(part.table.n_params):
        loss = part.predict(n_params, tokens, tokens)
        lines.append({"n_params": n_params, "tokens": tokens, "unique_tokens": most, "loss": loss})
    return lines


def _excess(parts: list[Part]) -> tuple[dict, dict]:
    """Return (runs, lines): the excess of losses over fresh tokens, measured and by the law."""
    runs: dict[str, list] = {
        "run_id": [],
        "n_params": [],
        "unique_tokens": [],
        "epochs": [],
        "excess": [],
    }
    lines = []
    for part in parts:
        t = part.table
        fresh = part.predict(t.n_params, t.tokens, t.tokens)
        runs["run_id"] += t.names
        runs["excess"] += (t.loss / fresh - 1).tolist()
        runs["epochs"] += np.maximum(t.tokens / t["unique_tokens"], 1.0).tolist()
        for name in ("n_params", "unique_tokens"):
            runs[name] += t[name].tolist()
        for n_params, unique in _groups(t):
            rows = (t.n_params == n_params) & (t["unique_tokens"] == unique)
            tokens = np.geomspace(unique, max(t.tokens[rows].max(), unique * 1.001), groups.POINTS)
            expected = part.predict(n_params, tokens, unique) / part.predict(
                n_params, tokens, tokens
            )
            lines.append(
                {
                    "n_params": n_params,
                    "unique_tokens": unique,
                    "epochs": tokens / unique,
                    "excess": expected - 1,
                }
            )
    return {name: np.array(values) for name, values in runs.items()}, groups.joined(lines)


def _summary(part: Part) -> list[str]:
    sizes = np.unique(part.table.n_params)
    heading = f"{part.content['equation']} at N = {', '.join(f'{n:,.0f}' for n in sizes)}"
    if part.law is None:
        return [heading, f"  refused: {part.content['diagnostics']['refused']}"]
    worth = [
        f"  {w['epochs']:.0f} epochs are worth {_percent(w['fresh_tokens_per_token'])} of as many "
        "fresh tokens"
        for w in part.content["worth"]
    ]
    return [heading, *parameter_lines(part.law), *worth]


def _percent(interval: dict[str, float]) -> str:
    return f"{precision.of_dict({key: 100 * part for key, part in interval.items()})} %"
