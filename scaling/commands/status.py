"""`scaling status`: how far a sweep is, once, again and again, or as JSON; and its events for TensorBoard."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from scaling.sweep.execute import jobs, progress
from scaling.sweep.execute.snapshot import STATES, RunState, Snapshot
from scaling.sweep.plan import planner
from scaling.sweep.shared import sweep_json, workdir_url
from scaling.utils import units
from scaling.utils.errors import EXIT_INCOMPLETE, UserError

LINES = 40  # of runs, without --all


def run(args, config: ConfigDict | None, workdir: Path) -> int:
    """Print the state of the sweep in `workdir`; returns the exit code: 3 where results are damaged.

    With --watch until nothing is left to train, or Ctrl-C, which is its usual end.

    Raises UserError where the workdir holds no sweep, or not the one of `config`.
    """
    interval = _interval(args.watch)
    if config is None:
        config = sweep_json.read(workdir)
    sweep_json.require(config, workdir)
    if args.tensorboard:
        return _tensorboard(workdir)
    planned = jobs.runs_by_id(planner.plan(config), config.launch.share_trunks)
    look_at = progress.Progress(planned, workdir, config.launch.stale_seconds).look
    place = workdir_url.open_workdir(workdir)

    def look() -> Snapshot:
        return look_at(workdir_url.retry(workdir_url.live_runs, place, config.launch))

    try:
        now = look()
        _show(now, args, workdir, interval)
        while interval and not now.ended:
            time.sleep(interval)
            now = look()
            _show(now, args, workdir, interval)
    except KeyboardInterrupt:
        if not interval:
            raise
        print()
        return 0
    except BrokenPipeError:  # `scaling status | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    for line in [] if interval else now.damaged:
        print(f"warning: {line}", file=sys.stderr)
    return EXIT_INCOMPLETE if now.damaged else 0


def _interval(watch: str | None) -> float:
    """Seconds between two looks; 0 for one look. Raises UserError."""
    if watch is None:
        return 0.0
    try:
        seconds = float(watch)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 86400:
        raise UserError(f"--watch={watch}: not a number of seconds between 0.1 and 86400")
    return seconds


def _show(now: Snapshot, args, workdir: Path, interval: float) -> None:
    if args.json:
        print(json.dumps(as_dict(now, workdir), indent=None if interval else 1), flush=True)
        return
    most = None if args.all else LINES
    redraw = interval and sys.stdout.isatty()
    if redraw and not args.all:
        most = max(3, min(LINES, shutil.get_terminal_size().lines - 9))
    shown = list(lines(now, most))
    if interval:
        shown += [f"warning: {line}" for line in now.damaged]
    if redraw:
        shown = [line[: shutil.get_terminal_size().columns - 1] for line in shown]
    text = "\n".join(shown)
    if redraw:
        # cursor home, the text with each line's old rest erased, then what is below erased
        text = "\x1b[H" + text.replace("\n", "\x1b[K\n") + "\x1b[K\x1b[J"
    elif interval:
        text = f"{time.strftime('%H:%M:%S')}\n{text}\n"
    print(text, flush=True)


def lines(now: Snapshot, most: int | None = None) -> Iterator[str]:
    """The summary as text: at most `most` runs, those first that ask for attention."""
    order = {state: i for i, state in enumerate(STATES)}
    runs = sorted(now.runs, key=lambda r: order[r.state])
    if most is None:
        runs = now.runs
    for run in runs[:most]:
        yield f"{run.run_id:48} {run.state:9}{run.fraction:5.0%}  {_detail(run)}".rstrip()
    if len(runs) > len(runs[:most]):
        yield f"... and {len(runs) - len(runs[:most]):,} more; --all shows them"
    for row in now.others:
        loss = f"loss {row.loss:.4f}" if row.status == "done" else row.reason
        name = "held-out " if row.role == "holdout" else f"{row.role} "
        yield f"{name}{row.run_id}: {row.status} {loss}"
    yield ", ".join(f"{n:,} {state}" for state, n in now.counts.items())
    if now.best:
        yield f"lowest loss {now.best.loss:.4f} ({now.best.run_id})"
    yield (
        f"{now.spent:.3g} of {now.flops:.3g} FLOPs spent ({now.spent / now.flops:.0%}), "
        f"{now.left:.3g} left; {_outlook(now)}"
    )


def _detail(run: RunState) -> str:
    if run.state in ("failed", "diverged", "stopped"):
        return run.reason
    if run.loss is None:
        return ""
    if run.state == "done":
        return f"loss {run.loss:.4f}"
    left = f", {units.duration(run.seconds_left)} left" if run.seconds_left is not None else ""
    return f"loss {run.loss:.4f} (training{left})"


def _outlook(now: Snapshot) -> str:
    if now.ended:
        return "nothing left to train"
    workers = now.counts.get("running", 0)
    if not workers:
        return "no worker at it"
    if now.eta_seconds is None:
        return "time not known yet"
    rate = f", now {now.rate:.3g} FLOP/s" if now.rate else ""
    return f"about {units.duration(now.eta_seconds)} with {workers} running{rate}"


def as_dict(now: Snapshot, workdir: Path) -> dict[str, Any]:
    """The snapshot for other programs; FLOPs, seconds, nats per token, null where not known."""
    return {
        "workdir": workdir_url.open_workdir(workdir).name,
        "time": time.time(),
        "counts": now.counts,
        "flops": {"planned": now.flops, "spent": now.spent, "left": now.left},
        "flops_per_second": now.rate,
        "eta_seconds": now.eta_seconds,
        "runs": [dataclasses.asdict(r) for r in now.runs],
        "others": [
            {"run_id": r.run_id, "role": r.role, "state": r.status, "loss": r.loss}
            for r in now.others
        ],
        "damaged": now.damaged,
    }


def _tensorboard(workdir: Path) -> int:
    """Write the events over all runs, and say how to look at them."""
    from scaling import results
    from scaling.training import tensorboard

    found, damaged = results.collect(workdir)
    tensorboard.write(workdir, found)
    print(f"{len(found)} runs in TensorBoard: tensorboard --logdir {workdir}")
    for line in damaged:
        print(f"warning: {line}", file=sys.stderr)
    return EXIT_INCOMPLETE if damaged else 0
