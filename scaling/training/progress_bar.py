"""Show the progress of runs while they train: one line that fits 80 columns."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence

from tqdm import tqdm

from scaling.training.run import ActiveRun

# A narrow terminal cuts the right end of the line, so the names of the runs come last.
FORMAT = (
    "{percentage:3.0f}%|{bar:8}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}] {rate_fmt}{postfix}"
    " {desc}"
)


@contextlib.contextmanager
def bar(runs: Sequence[ActiveRun], hidden: bool) -> Iterator[tqdm]:
    """Open a bar in tokens over all runs, visible on a terminal unless `hidden`."""
    line = tqdm(
        total=sum(run.total * run.per_step for run in runs),
        initial=sum(run.done * run.per_step for run in runs),
        unit="tok",
        unit_scale=True,
        bar_format=FORMAT,
        disable=True if hidden else None,
    )
    line.set_description_str(", ".join(run.name for run in runs), refresh=False)
    try:
        yield line
    finally:
        line.close()


def figures(runs: Iterable[ActiveRun]) -> dict[str, str]:
    """Return the lowest training loss and the mean MFU of the newest dispatch, if known."""
    losses = [run.last_loss for run in runs if run.last_loss is not None]
    mfus = [run.last_mfu for run in runs if run.last_mfu is not None]
    shown = {"loss": f"{min(losses):.4f}"} if losses else {}
    return {**shown, "mfu": f"{sum(mfus) / len(mfus):.0%}"} if mfus else shown
