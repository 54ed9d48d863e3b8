"""The kinds of sweep by name, and their curves on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ml_collections import ConfigDict

from scaling.analysis import conditions, epochs, grid, hyper, ladder, one_variable
from scaling.analysis.saved_curve import Analysis
from scaling.laws.table import make_table
from scaling.results import RunResult
from scaling.utils import files, notices

Analyser = Callable[[list[RunResult], Path, ConfigDict], Analysis]
KINDS: dict[str, Analyser] = {
    "params": one_variable.params,
    "data": epochs.data,
    "ladder": ladder.ladder,
    "design": ladder.ladder,
    "grid": grid.grid,
    "random": grid.grid,
    "hyper": hyper.hyper,
}


def write(analysis: Analysis, workdir: Path, config: ConfigDict) -> list[Path]:
    """Write every curve as JSON, CSV, SVG and PNG below `<workdir>/curves`; returns the pictures."""
    how = conditions.stated(analysis.used, config)
    table = make_table(
        names=[r.run_id for r in analysis.used], loss=[r.loss for r in analysis.used]
    )
    common = {
        "study": config.name,
        "kind": config.sweep.kind,
        "recipe": how,
        "n_params_convention": config.laws.n_params,
        "flops_convention": config.laws.flops,
        "confidence": config.laws.confidence,
        "table_sha256": table.hash(),
        "runs_used": [r.run_id for r in analysis.used],
        **notices.as_json("runs_left_out", analysis.left_out),
        "range_of_validity": analysis.ranges,
    }
    pictures = []
    for name, curve in analysis.curves.items():
        content = {"name": name, **common, **curve.law, "held_out": None}
        files.write_json(workdir / "curves" / f"{name}.json", content)
        pictures.append(curve.picture.write(workdir / "curves" / name, conditions.in_words(how)))
    return pictures
