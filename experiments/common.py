"""Flags, training, tables and figures that the experiments share."""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from scaling import results
from scaling.config import load as config_lib
from scaling.sweep.execute import runner
from scaling.sweep.plan.planner import PlannedRun
from scaling.sweep.shared import sweep_json
from scaling.utils import files, machine


def add_flags(parser: argparse.ArgumentParser, *, config: str, workdir: str) -> None:
    """Add --config and --workdir with these defaults."""
    parser.add_argument("--config", default=config)
    parser.add_argument("--workdir", default=workdir)


def load(args: argparse.Namespace, overrides: list[str]) -> ConfigDict:
    """Load the config with its overrides and set up jax for it. Raises UserError."""
    config = config_lib.load(args.config, overrides)
    machine.start_jax(config.parallel.cpu_devices)
    return config


def train_all(runs: list[PlannedRun], config: ConfigDict, workdir: Path) -> list[results.RunResult]:
    """Train the runs that the workdir does not have yet and return all rows of its table."""
    sweep_json.create_or_check(config, workdir)
    outcome = runner.sweep(runs, workdir)
    for line in outcome.problems:
        print(f"warning: {line}")
    return outcome.results


def write_rows(path: Path, rows: Sequence[results.RunResult], columns: Sequence[str]) -> None:
    """Write the named columns of the rows as a CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([getattr(r, c) for c in columns] for r in rows)
    files.write_bytes(path, text.getvalue().encode())


def write_figure(path: Path, draw: Callable) -> None:
    """Write the figure to `path` with the suffixes .svg and .png."""
    from scaling.report import style

    svg, png = style.render(draw)
    files.write_bytes(path.with_suffix(".svg"), svg)
    files.write_bytes(path.with_suffix(".png"), png)


def copy_curves(workdir: Path, out: Path, command: str) -> None:
    """Copy curves, table and summary of a workdir to `out` and record the command beside them."""
    curves = sorted((workdir / "curves").glob("*"))
    for path in [*curves, workdir / "runs.csv", workdir / "summary.txt"]:
        if path.is_file() and path.name != "inputs.json":
            files.write_bytes(out / path.name, path.read_bytes())
    files.write_bytes(out / "command.txt", f"{command}\n".encode())
    print(out)
