"""What the experiments share: flags, training a list of runs, a law of one variable, tables, style."""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from scaling import config as config_lib
from scaling import files, laws, machine, results
from scaling.errors import UserError
from scaling.sweep import plan, runner
from scaling.sweep.plan import PlannedRun


def add_flags(parser: argparse.ArgumentParser, *, config: str, workdir: str) -> None:
    parser.add_argument("--config", default=config)
    parser.add_argument("--workdir", default=workdir)


def load(args: argparse.Namespace, overrides: list[str]) -> ConfigDict:
    """The config with its overrides; sets up jax for it."""
    config = config_lib.load(args.config, overrides)
    machine.start_jax(config.parallel.cpu_devices)
    return config


def train_all(runs: list[PlannedRun], config: ConfigDict, workdir: Path) -> list[results.RunResult]:
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
    from scaling.report import style

    svg, png = style.render(draw)
    files.write_bytes(path.with_suffix(".svg"), svg)
    files.write_bytes(path.with_suffix(".png"), png)


def one_variable(argv: list[str], *, doc: str, kind: str, x: str, x_label: str, fixed: str) -> int:
    """Train a sweep of one variable and write its curve `<workdir>/curves/loss_of_<x>`.

    The law is L = E + k x^-a (form `power_offset` of `laws.fit`); where E is not identified the curve says so.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_flags(parser, config="configs/quickstart.py", workdir=f"results/{kind}")
    args, overrides = parser.parse_known_args(argv)
    config = load(args, overrides)
    if config.sweep.kind != kind:
        raise UserError(f"config.sweep.kind={config.sweep.kind!r}: this experiment needs {kind!r}")
    runs, workdir = plan.plan(config), Path(args.workdir)
    rows = [r for r in train_all(runs, config, workdir) if r.status == "done"]
    rows.sort(key=lambda r: getattr(r, x))
    law = laws.fit(
        laws.make_table(x=[getattr(r, x) for r in rows], loss=[r.loss for r in rows]),
        "power_offset",
        objective=laws.Objective("least_squares"),
        bootstrap=config.laws.bootstrap,
        confidence=config.laws.confidence,
    )
    out = workdir / "curves" / f"loss_of_{x}"
    write_rows(
        out.with_suffix(".csv"),
        rows,
        ("run_id", "n_params", "tokens", "flops_exact", "lr", "loss", "loss_se", "seed"),
    )
    files.write_json(
        out.with_suffix(".json"),
        {
            "name": out.name,
            "estimator": law.described,
            "equation": law.equation.replace("x", x),
            "parameters": {k: i.as_dict() for k, i in law.intervals.items()},
            "verdict": law.verdict,
            fixed: sorted({getattr(r, fixed) for r in rows}),
            "range_of_validity": {x: [getattr(rows[0], x), getattr(rows[-1], x)]},
            "runs_used": [r.run_id for r in rows],
            "confidence": config.laws.confidence,
        },
    )
    write_figure(out, lambda: _draw(rows, law, x, x_label))
    for name, i in law.intervals.items():
        print(f"{name}  {i.value:.4g}  [{i.low:.4g}, {i.high:.4g}]")
    print(f"verdict: {law.verdict}")
    print(out.with_suffix(".png"))
    return 0


def _draw(rows, law, x: str, x_label: str):
    from scaling.report import style

    axes = style.new_axes(law.equation.replace("x", x), x_label, "held-out loss, nats/token")
    values = np.array([getattr(r, x) for r in rows], float)
    axes.errorbar(
        values,
        [r.loss for r in rows],
        yerr=[r.loss_se for r in rows],
        fmt="o",
        color=style.ORANGE,
        capsize=3,
        label="runs, standard error of the held-out loss",
    )
    grid = np.geomspace(values.min(), values.max() * 3, 100)
    axes.plot(grid, law.predict(grid), "-", color=style.BLUE, label="law")
    style.loss_ticks(axes)
    axes.legend(fontsize=8)
    return axes
