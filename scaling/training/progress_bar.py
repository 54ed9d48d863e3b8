"""The progress line of runs while they train."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence

from tqdm import tqdm

from scaling.training.run import ActiveRun


@contextlib.contextmanager
def bar(runs: Sequence[ActiveRun], hidden: bool) -> Iterator[tqdm]:
    """A bar in tokens over all of them; unless `hidden`, shown where there is a terminal."""
    line = tqdm(
        total=sum(run.total * run.per_step for run in runs),
        initial=sum(run.done * run.per_step for run in runs),
        unit="tok",
        unit_scale=True,
        desc=", ".join(run.name for run in runs)[:40],
        disable=True if hidden else None,
    )
    try:
        yield line
    finally:
        line.close()


def figures(runs: Iterable[ActiveRun]) -> dict[str, str]:
    """What the line says besides tokens: the lowest training loss, the mean MFU of the newest dispatch."""
    losses = [run.last_loss for run in runs if run.last_loss is not None]
    mfus = [run.last_mfu for run in runs if run.last_mfu is not None]
    shown = {"loss": f"{min(losses):.4f}"} if losses else {}
    return {**shown, "mfu": f"{sum(mfus) / len(mfus):.0%}"} if mfus else shown
