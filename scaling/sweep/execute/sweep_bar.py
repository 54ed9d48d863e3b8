"""Show the progress of a whole sweep, trained in this process or by workers elsewhere.

Both bars count FLOPs, since runs differ in cost by orders of magnitude. Off a terminal they print
one line to stderr per run that ends.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from scaling import results
from scaling.sweep.execute.jobs import Job, JobRun
from scaling.sweep.execute.progress import Progress
from scaling.sweep.execute.snapshot import ENDED, RunState, Snapshot


class LocalBar:
    """A bar over the jobs that this process trains. Use as a context manager.

    It keeps a position per run, so that a run counts once: its saved and its trained part together
    are at most the run, however often a failed pack begins again.
    """

    def __init__(self, jobs: Sequence[Job], workdir: Path, hidden: bool = False):
        self._flops = {run.run_id: run.flops for job in jobs for run in job}
        self._position = {run.run_id: _saved(run, workdir) for job in jobs for run in job}
        self._ended = {name for name in self._flops if _has_result(workdir, name)}
        self._hidden = hidden
        # disable=None: a bar on a terminal only
        self._bar = tqdm(
            total=sum(self._flops.values()),
            initial=sum(self._position.values()),
            unit="FLOP",
            unit_scale=True,
            desc="sweep",
            disable=True if hidden else None,
        )

    def __enter__(self) -> LocalBar:
        return self

    def __exit__(self, *exception) -> None:
        self._bar.close()

    @property
    def counted(self) -> float:
        """FLOPs counted so far."""
        return sum(self._position.values())

    @property
    def total(self) -> float:
        """FLOPs of all runs, without those that a stopped run leaves out."""
        return sum(self._flops.values())

    def trained(self, job: Job, tokens: int) -> None:
        """Count tokens that the runs of a job have trained together."""
        for run in job:
            flops = tokens / len(job) * run.run.flops / run.run.tokens
            name = run.run_id
            self._position[name] = min(self._position[name] + flops, self._flops[name])
        self._redraw()

    def ended(self, run: JobRun, outcome: results.RunResult | str) -> None:
        """Count a run that has ended, by its result or the reason of its failure."""
        name = run.run_id
        self._ended.add(name)
        if isinstance(outcome, str):
            return
        if outcome.status == "stopped":
            self._flops[name] = outcome.flops_spent
        self._position[name] = self._flops[name]
        loss = f"{outcome.loss:.4f}" if outcome.loss is not None else outcome.status
        count = f"{len(self._ended)}/{len(self._flops)}"
        self._bar.set_postfix_str(f"{count} loss {loss}", refresh=False)
        self._redraw()
        if self._bar.disable and not self._hidden:
            mfu = f"  MFU {outcome.mfu:.0%}" if outcome.mfu is not None else ""
            line = f"[{count}] {name}  loss {loss}  {outcome.wall_time:.1f} s{mfu}"
            print(line, file=sys.stderr, flush=True)

    def _redraw(self) -> None:
        self._bar.total = self.total
        self._bar.update(self.counted - self._bar.n)


def _has_result(workdir: Path, name: str) -> bool:
    return (workdir / "runs" / name / "result.json").exists()


def _saved(run: JobRun, workdir: Path) -> float:
    """Return the FLOPs of a run that need no training: all, or those up to its checkpoint."""
    if _has_result(workdir, run.run_id):
        return run.flops
    names = (p.name for p in (workdir / "runs" / run.run_id / "checkpoints").glob("*"))
    step = max((int(name) for name in names if name.isdigit()), default=0)
    return run.flops * run.fraction(step * (run.run.tokens // run.run.steps)) if step else 0.0


class Display:
    """A bar over a sweep that workers train. Each `update` redraws it from the workdir.

    Use as a context manager.
    """

    def __init__(self, planned: Mapping[str, JobRun], workdir: Path, stale_seconds: float):
        self._progress = Progress(planned, workdir, stale_seconds)
        self._ended: set[tuple[str, str]] | None = None  # (run_id, state)
        self._last = ""
        self._drawn = 0.0
        total = sum(run.flops for run in planned.values())
        # disable=None: a bar on a terminal only
        self._bar = tqdm(total=total, unit="FLOP", unit_scale=True, desc="sweep", disable=None)

    def __enter__(self) -> Display:
        self.update()
        return self

    def __exit__(self, *exception) -> None:
        self._bar.close()

    def redraw(
        self,
        alive: Callable[[], Collection[str] | None] = lambda: None,
        every: float = 1.0,
    ) -> None:
        """Call `update` at most once in `every` seconds, with the runs that `alive` returns."""
        if time.monotonic() - self._drawn >= every:
            self.update(alive())

    def update(self, alive: Collection[str] | None = None) -> Snapshot:
        """Look at the workdir and redraw. Return what was seen. `alive` as in `Progress.look`."""
        now = self._progress.look(alive)
        self._drawn = time.monotonic()
        ended = {(r.run_id, r.state): r for r in now.runs if r.state in (*ENDED, "failed")}
        new = [] if self._ended is None else [r for k, r in ended.items() if k not in self._ended]
        self._ended = set(ended)
        count = f"{now.counts.get('done', 0)}/{len(now.runs)}"
        losses = [r.loss for r in new if r.state == "done" and r.loss is not None]
        if losses:
            self._last = f", last {losses[-1]:.4f}"
        best = f", best {now.best.loss:.4f}" if now.best else ""
        if self._bar.disable:
            for run in new:
                print(f"[{count}] {run.run_id}  {_ending(run)}", file=sys.stderr, flush=True)
        else:
            self._bar.n = now.flops - now.left
            self._bar.set_postfix_str(f"{count} done{best}{self._last}")
        return now


def _ending(run: RunState) -> str:
    return f"loss {run.loss:.4f}" if run.state == "done" else f"{run.state}: {run.reason}"
