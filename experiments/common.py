"""What the experiments share: flags, training a list of runs, writing a table and a figure."""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from scaling import config as config_lib
from scaling import files, machine, results, sharding
from scaling.sweep import runner
from scaling.sweep.plan import PlannedRun


def add_flags(parser: argparse.ArgumentParser, *, config: str, workdir: str) -> None:
    parser.add_argument("--config", default=config)
    parser.add_argument("--workdir", default=workdir)


def load(args: argparse.Namespace, overrides: list[str]) -> ConfigDict:
    """The config with its overrides; sets up jax for it."""
    config = config_lib.load(args.config, overrides)
    sharding.configure_cpu_devices(config.parallel.cpu_devices)
    machine.enable_compilation_cache()
    return config


def run_id(run: PlannedRun) -> str:
    from scaling import train

    return train.run_id(run.config)


def train_all(
    runs: list[PlannedRun], config: ConfigDict, workdir: Path
) -> list[results.RunResult]:
    """All rows of the workdir's table after training what is missing."""
    runner.claim_workdir(config, workdir)
    outcome = runner.sweep(runs, workdir)
    for line in outcome.problems:
        print(f"warning: {line}")
    return outcome.results


def write_rows(path: Path, rows: Sequence[results.RunResult], columns: Sequence[str]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([getattr(r, c) for c in columns] for r in rows)
    files.write_bytes(path, text.getvalue().encode())


def write_figure(path: Path, draw: Callable) -> None:
    """`path` with .svg and .png."""
    from scaling.report import figures

    svg, png = figures.render(draw)
    files.write_bytes(path.with_suffix(".svg"), svg)
    files.write_bytes(path.with_suffix(".png"), png)
