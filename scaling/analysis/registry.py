"""Analyse a sweep by its kind and write its curves to disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ml_collections import ConfigDict

from scaling.analysis import compute, conditions, epochs, grid, hyper, ladder, one_variable
from scaling.analysis.saved_curve import Analysis
from scaling.laws.table import make_table
from scaling.results import RunResult
from scaling.utils import files, notices

Analyser = Callable[[list[RunResult], Path, ConfigDict], Analysis]
KINDS: dict[str, Analyser] = {
    "compute": compute.compute,
    "params": one_variable.params,
    "data": epochs.data,
    "ladder": ladder.ladder,
    "design": ladder.ladder,
    "grid": grid.grid,
    "random": grid.grid,
    "hyper": hyper.hyper,
}


def analyse(rows: list[RunResult], workdir: Path, config: ConfigDict) -> Analysis:
    """Fit the laws of the sweep's kind and draw its curves. Raises CannotFit without any law."""
    return KINDS[config.sweep.kind](rows, workdir, config)


def write(analysis: Analysis, workdir: Path, config: ConfigDict) -> list[Path]:
    """Write every curve as JSON, CSV, SVG and PNG below `<workdir>/curves`; return the pictures.

    The JSON states the equation, the estimator, the parameters with intervals, the runs used, those
    left out with the reason, diagnostics, the range of validity, predictions and measurements. The
    CSV holds every number in the picture.
    """
    recipe = conditions.stated(analysis.used, config)
    table = analysis.table
    if table is None:
        table = make_table(
            names=[r.run_id for r in analysis.used], loss=[r.loss for r in analysis.used]
        )
    common = {
        "study": config.name,
        "kind": config.sweep.kind,
        "recipe": recipe,
        "n_params_convention": config.laws.n_params,
        "flops_convention": config.laws.flops,
        "confidence": config.laws.confidence,
        "table_sha256": table.hash(),
        "runs_used": [r.run_id for r in analysis.used],
        **notices.as_json("runs_left_out", analysis.left_out),
        "range_of_validity": analysis.ranges,
    }
    folder, caption, pictures = workdir / "curves", conditions.in_words(recipe), []
    for name, curve in analysis.curves.items():
        content = {"name": name, **common, **curve.law, "held_out": analysis.held_out}
        files.write_json(folder / f"{name}.json", content)
        pictures.append(curve.picture.write(folder / name, caption))
    return pictures
