"""Show a snapshot of a sweep: as lines, redrawn on a terminal, or for other programs."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scaling import results
from scaling.commands import output
from scaling.commands.output import Output, Table
from scaling.sweep.execute.snapshot import STATES, RunState, Snapshot
from scaling.sweep.shared import workdir_url
from scaling.utils import units

LINES = 40  # of runs, without --all
OPTIONAL = ("n_params", "seconds_left", "flops")


def show(now: Snapshot, args, workdir: Path, interval: float) -> None:
    """Print the snapshot, on a terminal over the last one if `interval` is not 0."""
    chosen = output.format_of(args)
    if chosen == "json":
        print(json.dumps(as_dict(now, workdir), indent=None if interval else 1), flush=True)
        return
    if chosen != "text":
        output.show(args, Output({}, [Table("Runs", rows(now), OPTIONAL)], list(_sums(now))))
        return
    most = None if args.all else LINES
    redraw = interval and sys.stdout.isatty()
    if redraw and not args.all:
        most = max(3, min(LINES, shutil.get_terminal_size().lines - 9))
    shown = [output.clipped(line, args.wide) for line in lines(now, most)]
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
    """Yield the summary as text: at most `most` runs, those first that need attention."""
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
        name = "held-out " if row.role == "holdout" else f"{_role(row)} "
        yield f"{name}{row.run_id}: {row.status} {loss}"
    yield from _sums(now)


def rows(now: Snapshot) -> list[dict[str, Any]]:
    """Return one row per run of the sweep, then those of other roles, such as the held-out run."""
    unknown = dict.fromkeys(field.name for field in dataclasses.fields(RunState))
    return [
        *({**dataclasses.asdict(run), "role": "sweep"} for run in now.runs),
        *(
            {**unknown, "run_id": r.run_id, "state": r.status, "loss": r.loss, "role": _role(r)}
            for r in now.others
        ),
    ]


def _role(row: results.RunResult) -> str:
    """Return the role of a row outside the plan: the sweep has removed its own runs."""
    return "removed" if row.role == "sweep" else row.role


def _sums(now: Snapshot) -> Iterator[str]:
    """Yield the counts, the lowest loss and the FLOPs."""
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
    """Return the time to go, or the reason why it is not known."""
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
    """Return the snapshot for other programs: FLOPs, seconds, nats per token, None if not known."""
    return {
        "workdir": workdir_url.open_workdir(workdir).name,
        "time": time.time(),
        "counts": now.counts,
        "flops": {"planned": now.flops, "spent": now.spent, "left": now.left},
        "flops_per_second": now.rate,
        "eta_seconds": now.eta_seconds,
        "runs": [dataclasses.asdict(r) for r in now.runs],
        "others": [
            {"run_id": r.run_id, "role": _role(r), "state": r.status, "loss": r.loss}
            for r in now.others
        ],
        "damaged": now.damaged,
    }
