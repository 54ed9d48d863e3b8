"""Analyse ladders and designed runs: L(N, D) over sizes and lengths, and its frontier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from scaling.analysis import columns, compute, conditions, run_table
from scaling.analysis.saved_curve import Analysis, SavedCurve, parameter_lines, refused
from scaling.laws import api as laws
from scaling.laws.forms.registry import FORMS
from scaling.laws.table import CannotFit
from scaling.report import groups, sweep
from scaling.results import RunResult

SHOWN_SIZES = 9  # at most in the picture of loss against tokens, evenly spaced
OPTIMA = (
    "minimum of L(N, D) over N at equal compute (approach 3), a token costing what it costs the "
    "runs"
)
NAMES = ("n_params", "tokens", "flops")


def ladder(rows: list[RunResult], workdir: Path, config: ConfigDict) -> Analysis:
    """Return the curve `ladder` (loss against tokens), and those of L(N, D) and its optima.

    The law leaves out runs of fewer than config.laws.min_steps steps and lists them. Raises
    CannotFit if no run has finished.
    """
    used, left_out = columns.require_runs(rows)
    fits = _fits(rows, used, config)
    labels = columns.labels(config)
    curves = {n: SavedCurve(*entry) for n, entry in sweep.parametric(fits, labels).items()}
    for name, (law, picture) in sweep.optima(fits, None, None, labels).items():
        curves[name] = SavedCurve({**law, "estimator": OPTIMA}, picture)
    if fits.chinchilla:
        content = curves["chinchilla"].law
    else:
        content = refused(fits.refused["chinchilla"], FORMS["chinchilla"].equation)
    return Analysis(
        curves={"ladder": SavedCurve(content, _measured(used, fits, config)), **curves},
        lines=_summary(fits, used, config),
        used=used,
        left_out=left_out,
        ranges=columns.ranges(used, NAMES, config),
    )


def _fits(rows, used: list[RunResult], config: ConfigDict) -> compute.Fits:
    """Fit the parametric law alone.

    A ladder has no budgets for IsoFLOP, and its training curves differ in length.
    """
    table = run_table.sweep_table(rows, config)
    long_runs = run_table.sweep_table(rows, config, config.laws.min_steps)
    law, reasons = None, {}
    try:
        law = laws.fit_chinchilla(
            long_runs,
            delta=config.laws.huber_delta,
            bootstrap=config.laws.bootstrap,
            confidence=config.laws.confidence,
        )
    except CannotFit as error:
        reasons["chinchilla"] = str(error)
    return compute.Fits(
        table=table,
        long_runs=long_runs,
        curves=[],
        isoflop=None,
        chinchilla=law,
        envelope=None,
        frontier=compute.optima(law, table, config),
        refused=reasons,
        conditions=conditions.stated(used, config),
    )


def _measured(used: list[RunResult], fits: compute.Fits, config: ConfigDict):
    """Return the picture of loss against tokens, with a line per size."""
    runs = columns.run_series(used, ("n_params", "tokens"), config)
    sizes = np.unique(runs["n_params"])
    if len(sizes) > SHOWN_SIZES:
        sizes = sizes[np.linspace(0, len(sizes) - 1, SHOWN_SIZES).round().astype(int)]
        kept = np.isin(runs["n_params"], sizes)
        runs = {name: values[kept] for name, values in runs.items()}
    law, lines = fits.chinchilla, []
    for n_params in sizes:
        if law is None:
            break
        tokens = groups.grid(runs["tokens"][runs["n_params"] == n_params])
        line_columns = {"n_params": n_params, "tokens": tokens}
        lines.append(groups.law_line(law, np.asarray(n_params), tokens, columns=line_columns))
    return groups.picture(
        runs,
        {"law": groups.joined(lines)} if lines else {},
        x="tokens",
        line_key="n_params",
        title=law.equation if law else "",
        confidence=config.laws.confidence,
        labels=columns.labels(config),
    )


def _summary(fits: compute.Fits, used: list[RunResult], config: ConfigDict) -> list[str]:
    best = min(used, key=lambda r: (r.loss, r.run_id))
    lines = [
        f"{len(used)} runs; lowest loss {best.loss:.4f} at N = "
        f"{columns.number(best, 'n_params', config):,.0f}, D = {best.tokens:,}",
        FORMS["chinchilla"].equation,
    ]
    if fits.chinchilla is None:
        return [*lines, f"  refused: {fits.refused['chinchilla']}"]
    out = [*lines, *parameter_lines(fits.chinchilla), "Compute-optimal run of the law"]
    shown: list[Any] = fits.frontier[:: max(1, len(fits.frontier) // 5)]
    return out + [
        f"  {o.flops:9.2e} FLOPs: N* {o.n_params.brief()}  D* {o.tokens.brief()}  "
        f"loss {o.loss.brief()}"
        for o in shown
    ]
