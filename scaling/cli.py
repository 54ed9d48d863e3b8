"""The `scaling` command: flags and one call each. Heavy packages are imported by the calls."""

from __future__ import annotations

import argparse
import contextlib
import logging
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from scaling.commands import plan_flags, table_flags
from scaling.config import constraints
from scaling.utils import huge_pages, units
from scaling.utils.errors import (
    EXIT_BAD_INPUT,
    EXIT_INCOMPLETE,
    EXIT_PREEMPTED,
    Preempted,
    UserError,
)

COMMANDS = {
    "plan": "print the resolved runs, their sizes, tokens, FLOPs and time; trains nothing",
    "train": "train the one run that the config describes",
    "sweep": "train all runs of the config's sweep and write the table",
    "work": "take runs of a begun sweep until none is left; what launchers start",
    "fit": "fit the laws and write the curves, of a workdir or of any CSV",
    "conventions": "exponents under every convention of N and FLOPs, of a workdir or of any CSV",
    "gain": "how much more compute one family of runs needs to match another, from CSVs",
    "design": "which runs next: those that narrow a prediction the most for what they cost",
    "holdout": "seal the forecast, train the held-out run, compare",
    "curves": "sweep, fit, holdout and report in one; goes on where it stopped",
    "status": "runs by state, loss so far, FLOPs spent and left, time to go",
    "report": "print the summary of what is on disk",
}
TIMED = ("train", "sweep", "work", "holdout", "curves", "plan")  # those that train, or time steps


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code (0 done, 2 bad input, 3 incomplete, 75 stopped by a signal)."""
    if argv is None and sys.argv[1:2] and sys.argv[1] in TIMED:
        huge_pages.restart()
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    _stop_by_exception()
    try:
        return _run(sys.argv[1:] if argv is None else argv)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except Preempted as stop:
        print(f"stopped by {stop}; the same command goes on", file=sys.stderr)
        return EXIT_PREEMPTED
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return EXIT_PREEMPTED


def _stop_by_exception() -> None:
    """Between runs SIGTERM raises, so that it ends like Ctrl-C; a run in progress saves first."""

    def stop(number, frame):
        raise Preempted(signal.Signals(number).name)

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)


def _run(argv: list[str]) -> int:
    overrides = [a for a in argv if a.startswith("--config.")]
    rest = [a for a in argv if not a.startswith("--config.")]
    args = _parser().parse_args(rest)
    table_flags.check(args)
    _check_uses(args, overrides)
    if args.command == "fit" and args.table:
        from scaling.commands import fit

        return fit.run(args)
    if args.command == "conventions":
        return _conventions(args, overrides)
    if args.command == "gain":
        from scaling.commands import gain

        return gain.run(args)
    if args.command == "design":
        from scaling.commands import design

        return design.run(args)
    if args.command == "work":
        from scaling.sweep.execute import runner

        with _workdir(args) as workdir:
            return _problems(runner.work(workdir, args.launch, table_flags.place(args)))
    from scaling.config import load as config_lib

    stored = args.command in ("status", "report") and not args.config
    config = None if stored else config_lib.load(args.config, overrides)
    if args.command == "status":
        from scaling.commands import status

        with _workdir(args) as workdir:
            return status.run(args, config, workdir)
    if args.command == "plan":
        from scaling.commands import plan as plan_table

        with _workdir(args) if args.workdir else contextlib.nullcontext() as workdir:
            return plan_table.run(args, config, workdir)
    if args.command in ("train", "sweep"):
        from scaling.parallel import multiprocess

        multiprocess.start(table_flags.place(args), config)
    with _workdir(args) as workdir:
        if getattr(args, "budget", ""):
            from scaling.parallel import multiprocess
            from scaling.study import budget

            if multiprocess.count() > 1:
                raise UserError(
                    "--budget is measured by one process; give it to `scaling plan`, and leave it out here"
                )
            budget.check(config, args.budget, workdir, with_holdout=args.command == "curves")
        if getattr(args, "print_commands", False):
            return _print_commands(config, workdir)
        if args.command == "train":
            return _train(config, workdir, table_flags.traced_dispatches(args))
        return _commands()[args.command](config, workdir)


def _check_uses(args, overrides: list[str]) -> None:
    """Raises UserError at a flag that the command, called in this way, would not look at."""
    command, of_csv = args.command, bool(getattr(args, "table", ""))
    if command in ("fit", "conventions"):
        unset = vars(_parser().parse_args([command]))
        study = ("config", "workdir")
        for name, value in vars(args).items():
            if value == unset[name] or name == "table" or (name in study) != of_csv:
                continue
            if of_csv:
                raise UserError(f"--{name} belongs to a study, not to a CSV; leave it out")
            raise UserError(
                f"--{name} belongs to a CSV, `scaling {command} FILE.csv`; a study's table and its "
                "config.laws say the rest"
            )
    stored = command in ("status", "report") and not args.config
    if overrides and (of_csv or stored or command in ("gain", "design", "work")):
        mend = "give --config, too" if stored else "leave it out"
        raise UserError(f"{overrides[0]}: `scaling {command}` reads no config here; {mend}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scaling", description="Scaling laws, from a config to a fitted and tested law."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, help_text in COMMANDS.items():
        sub = commands.add_parser(name, help=help_text, description=help_text)
        if name in ("gain", "design"):
            (table_flags.gain if name == "gain" else table_flags.design)(sub)
            continue
        if name != "work":  # which goes by the launch's own
            sub.add_argument(
                "--config",
                default="",
                help="a study, e.g. configs/quickstart.py; --config.key=value overrides a key",
            )
        sub.add_argument(
            "--workdir", default="", help="folder of the study's results, or s3:// or gs://"
        )
        if name == "work":
            sub.add_argument("--launch", default="by-hand", help="which launch's settings to use")
        if name == "fit":
            sub.add_argument("table", nargs="?", default="", help="a CSV from elsewhere")
            table_flags.fit(sub)
        if name in ("train", "sweep", "work"):
            table_flags.processes(sub)
        if name == "train":
            table_flags.train(sub)
        if name in ("plan", "sweep", "curves"):
            table_flags.budget(sub)
        if name == "plan":
            plan_flags.add(sub)
        if name == "sweep":
            table_flags.sweep(sub)
        if name == "status":
            table_flags.status(sub)
        if name == "conventions":
            sub.add_argument("table", nargs="?", default="", help="a CSV from elsewhere")
            table_flags.conventions(sub)
    return parser


@contextlib.contextmanager
def _workdir(args) -> Iterator[Path]:
    """The folder to work in: of a URL its scratch folder, fetched before and pushed after the command."""
    from scaling.sweep.shared import workdir_url

    if not args.workdir:
        raise UserError("--workdir is missing; name a folder for the results, or s3:// or gs://")
    place = workdir_url.open_workdir(
        args.workdir, create=args.command in ("plan", "train", "sweep", "curves")
    )
    workdir_url.retry(place.pull_results)
    try:
        yield place.path
        if args.command not in ("work", "status", "report"):
            workdir_url.retry(place.push_table)
    except UserError as error:
        named = str(error).replace(f"--workdir={place.path}", f"--workdir={place.name}")
        raise UserError(named) from error


def _commands():
    return {
        "sweep": _sweep,
        "fit": _fit,
        "holdout": _holdout,
        "curves": _curves,
        "report": _report,
    }


def _start_jax(config) -> None:
    from scaling.utils import machine

    machine.start_jax(config.parallel.cpu_devices)


def _train(config, workdir: Path, trace: int) -> int:
    from scaling.parallel import multiprocess
    from scaling.sweep.shared import workdir_url
    from scaling.training import loop, profiler

    _start_jax(config)
    place, folder = workdir_url.open_workdir(workdir), workdir / "runs" / loop.run_id(config)
    if multiprocess.count() > 1 and workdir_url.is_remote(place.name):
        raise UserError(f"--workdir={place.name}: several processes need a folder that all mount")
    workdir_url.retry(place.pull, folder)
    if trace:
        profiler.check(config, folder, trace)
    try:
        result = loop.train_run(
            config,
            folder,
            before_writing=lambda: workdir_url.push_if_reachable(place, [folder]),
            trace=trace,
        )
    finally:
        workdir_url.retry(place.push, folder)
    if not multiprocess.writer():
        return 0 if result.status == "done" else EXIT_INCOMPLETE
    if result.status != "done":
        print(f"error: {result.run_id} {result.status}: {result.reason}", file=sys.stderr)
        return EXIT_INCOMPLETE
    print(_in_words(result))
    if trace:
        print(profiler.found(folder))
    return 0


def _in_words(result) -> str:
    target = constraints.UNITS[result.field].removesuffix("s")
    bits = "" if result.bits_per_byte is None else f"{result.bits_per_byte:.4f} bits per byte, "
    accuracy = result.metrics.get("accuracy")
    right = "" if accuracy is None else f"accuracy {accuracy:.2%}, "
    mfu = "" if result.mfu is None else f", MFU {result.mfu:.0%}"
    return (
        f"{result.run_id}: loss {units.with_error(result.loss, result.loss_se)} nats/{target}, "
        f"{bits}{right}{result.flops_exact:.3g} FLOPs{mfu}"
    )


def _trained(config, workdir: Path):
    from scaling.parallel import multiprocess
    from scaling.sweep.execute import runner
    from scaling.sweep.plan import planner
    from scaling.sweep.shared import sweep_json

    runs = planner.plan(config)
    _start_jax(config)
    with multiprocess.raise_on_all():
        sweep_json.create_or_check(config, workdir)
    return runner.sweep(runs, workdir, config=config)


def _print_commands(config, workdir: Path) -> int:
    from scaling.config import load as config_lib
    from scaling.sweep.execute import runner
    from scaling.sweep.launchers import tpu
    from scaling.sweep.plan import planner
    from scaling.sweep.shared import sweep_json, workdir_url

    runs = planner.plan(config)
    sweep_json.create_or_check(config, workdir)
    name = workdir_url.open_workdir(workdir).name
    shared = name if workdir_url.is_remote(name) else str(workdir.absolute())
    # what suits this machine is not measured for others: packs are as the config says, else none
    there = config_lib.with_values(config, {"launch.pack": config.launch.pack or 1})
    for line in tpu.commands(shared, runner.begin(runs, workdir, there)):
        print(line)
    return 0


def _sweep(config, workdir: Path) -> int:
    from scaling.parallel import multiprocess

    outcome = _trained(config, workdir)
    from scaling.sweep.shared import workdir_url

    if multiprocess.writer():
        print(f"{len(outcome.results)} runs in {workdir_url.open_workdir(workdir).name}/runs.csv")
    return _problems(outcome.problems)


def _problems(problems: list[str]) -> int:
    for line in problems:
        print(f"warning: {line}", file=sys.stderr)
    return EXIT_INCOMPLETE if problems else 0


def _fit(config, workdir: Path) -> int:
    from scaling.study import pipeline

    problems: list[str] = []
    done = pipeline.fit_and_write(config, workdir, problems)
    pipeline.show(done)
    return _problems(problems)


def _conventions(args, overrides: list[str]) -> int:
    from scaling.commands import conventions
    from scaling.config import load as config_lib
    from scaling.sweep.shared import sweep_json

    if args.table:
        return conventions.of_table(args)
    problems: list[str] = []
    with _workdir(args) as workdir:
        if args.config or overrides:
            config = config_lib.load(args.config, overrides)
            sweep_json.require(config, workdir)
        else:
            config = sweep_json.read(workdir)
        conventions.of_study(config, workdir, args, problems)
    return _problems(problems)


def _holdout(config, workdir: Path) -> int:
    from scaling.study import pipeline

    _start_jax(config)
    problems: list[str] = []
    pipeline.hold_out(config, workdir, problems)
    pipeline.show(pipeline.fit_and_write(config, workdir, problems))
    return _problems(problems)


def _curves(config, workdir: Path) -> int:
    from scaling.study import pipeline

    outcome = _trained(config, workdir)
    problems = list(outcome.problems)
    if config.laws.holdout_factor and pipeline.has_forecast(config):
        pipeline.hold_out(config, workdir, problems)
    elif config.laws.holdout_factor:
        print(pipeline.no_forecast(config))
    pipeline.show(pipeline.fit_and_write(config, workdir, problems))
    return _problems(problems)


def _report(config, workdir: Path) -> int:
    from scaling.report import saved_summary

    for line in saved_summary.summary(workdir):
        print(line)
    return 0
