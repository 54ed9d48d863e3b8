"""What the experiments share: flags, a study from config to curves, training a list of runs, tables."""

from __future__ import annotations

import argparse
import csv
import io
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from scaling import cli, results
from scaling.config import load as config_lib
from scaling.sweep.execute import runner
from scaling.sweep.plan.planner import PlannedRun
from scaling.sweep.shared import sweep_json
from scaling.utils import files, machine
from scaling.utils.errors import EXIT_BAD_INPUT, EXIT_INCOMPLETE, UserError


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
    sweep_json.claim(config, workdir)
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


def study(argv: list[str], *, doc: str, name: str, kinds: Sequence[str], config: str = "") -> int:
    """`scaling curves` of a study whose sweep is one of `kinds`; with --out its curves are copied there.

    Where no --config is given `config` runs, or the study of that `name` in configs/sweeps.py. Returns the exit code.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add_flags(parser, config=config or f"configs/sweeps.py:{name}", workdir=f"results/{name}")
    parser.add_argument("--out", default="", help="folder to copy curves, table and summary to")
    args, overrides = parser.parse_known_args(argv)
    try:
        kind = config_lib.load(args.config, overrides).sweep.kind
        if kind not in kinds:
            raise UserError(
                f"config.sweep.kind={kind!r}: this experiment needs {' or '.join(kinds)}"
            )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    flags = [f"--config={args.config}", f"--workdir={args.workdir}", *overrides]
    code = cli.main(["curves", *flags])
    if args.out and code in (0, EXIT_INCOMPLETE):
        publish(Path(args.workdir), Path(args.out), shlex.join(["scaling", "curves", *flags]))
    return code


def publish(workdir: Path, out: Path, command: str) -> None:
    """Copy curves, table and summary of a workdir to `out`, beside the command that made them."""
    found = sorted((workdir / "curves").glob("*"))
    for path in [*found, workdir / "runs.csv", workdir / "summary.txt"]:
        if path.is_file() and path.name != "inputs.json":
            files.write_bytes(out / path.name, path.read_bytes())
    files.write_bytes(out / "command.txt", f"{command}\n".encode())
    print(out)
