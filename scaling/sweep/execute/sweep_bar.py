"""The bar over a whole sweep, for a launcher that waits for workers of its own or elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from tqdm import tqdm

from scaling.sweep.execute.jobs import JobRun
from scaling.sweep.execute.progress import Progress
from scaling.sweep.execute.snapshot import ENDED, RunState, Snapshot


class Display:
    """Redrawn from the workdir by each `update`. Use as a context manager.

    In FLOPs, since runs differ in cost by orders of magnitude. Off a terminal it prints one line per
    run that ends instead.
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
        """`update` for a waiting loop: at most once in `every` seconds, when `alive` is asked first."""
        if time.monotonic() - self._drawn >= every:
            self.update(alive())

    def update(self, alive: Collection[str] | None = None) -> Snapshot:
        """Look again and redraw; as often as the launcher likes. `alive` as in `Progress.look`."""
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
                print(f"[{count}] {run.run_id}  {_ending(run)}", flush=True)
        else:
            self._bar.n = now.flops - now.left
            self._bar.set_postfix_str(f"{count} done{best}{self._last}")
        return now


def _ending(run: RunState) -> str:
    return f"loss {run.loss:.4f}" if run.state == "done" else f"{run.state}: {run.reason}"
