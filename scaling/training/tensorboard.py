"""Write TensorBoard's files for all runs of a workdir: `tensorboard --logdir WORKDIR`.

Every run has its training curves, `Curves`, written while it trains. Results add:

- in each run's folder its hyperparameters and final losses, for the HParams tab (table, parallel
  coordinates, scatter plots over all runs);
- in `<workdir>/tensorboard/` the final losses against size and compute as curves, one per budget
and
  seed. TensorBoard's axis is linear, so their steps are 1000 log10 of n_params and of FLOPs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from pathlib import Path

from scaling.results import RunResult
from scaling.training import event_file
from scaling.utils import files

HYPERPARAMETERS = (
    "n_params", "tokens", "flops_exact", "depth", "width", "lr", "batch_tokens", "weight_decay",
    "warmup_tokens", "decay_tokens", "schedule", "epochs", "seed", "budget", "role", "status",
)  # fmt: skip
METRICS = ("loss", "bits_per_byte", "train_loss", "wall_time", "tokens_per_second", "mfu")
# TensorBoard reads files with "tfevents" in their names, in the order of names.
NAME = "events.out.tfevents.{}.scaling"


class Curves:
    """The curves of one run, with one file for each time that the run starts or resumes.

    tensorboardX's own writer is not used: its thread dies if a disk is full, and its callers wait
    for it for ever.
    """

    def __init__(self, folder: Path):
        self._path = folder / f"events.out.tfevents.{time.time():.6f}.training"
        self._added: list[tuple[float, int, str, float]] = []  # (time, step, name, value)

    def add(self, name: str, value: float, step: int) -> None:
        self._added.append((time.time(), step, name, value))

    def write(self) -> None:
        """Append the added values. Raises UserError if they cannot be written."""
        values, self._added = self._added, []
        new = values and not self._path.exists()
        rows = [event_file.first(time.time())] if new else []
        rows += [event_file.scalar(*value) for value in values]
        files.append_bytes(self._path, b"".join(event_file.record(row) for row in rows))


def write(workdir: Path, rows: Iterable[RunResult]) -> None:
    """Write the events of `rows`. A file is replaced as a whole."""
    rows = list(rows)
    for row in rows:
        folder = workdir / "runs" / row.run_id / "tensorboard"
        folder.mkdir(parents=True, exist_ok=True)
        # The last file by name, so that it follows the curves, whose names hold their time.
        files.write_bytes(folder / NAME.format("9999999999"), _records(_session(row)))
    for number, (curve, points) in enumerate(sorted(_curves(rows).items())):
        folder = workdir / "tensorboard" / curve
        folder.mkdir(parents=True, exist_ok=True)
        content = _records(_scalars(points))
        files.write_bytes(folder / NAME.format(f"{number:010d}"), content)


def _session(row: RunResult):
    """Yield (0, summary) of one run for the HParams tab: one session and its metrics."""
    from tensorboardX import summary

    hyper = {k: getattr(row, k) for k in HYPERPARAMETERS}
    metrics = {f"final/{k}": getattr(row, k) for k in METRICS}
    metrics = {k: v for k, v in metrics.items() if v is not None}
    for part in summary.hparams(hyper, metrics):
        yield 0, part
    for name, value in metrics.items():
        yield 0, summary.scalar(name, value)


def _curves(rows: list[RunResult]) -> dict[str, list[RunResult]]:
    """Curve's name -> done runs; each IsoFLOP budget is a curve, runs without a budget are one."""
    curves: dict[str, list[RunResult]] = {}
    for row in rows:
        if row.status == "done" and row.loss is not None:
            name = f"budget_{row.budget:.3g}" if row.budget else "all_runs"
            curves.setdefault(f"{name.replace('+', '')}_seed_{row.seed}", []).append(row)
    return curves


def _scalars(rows: list[RunResult]):
    from tensorboardX import summary

    for axis, column in (("n_params", "n_params"), ("flops", "flops_exact")):
        at = sorted((round(1000 * math.log10(getattr(r, column))), r.loss) for r in rows)
        for step, loss in at:
            yield step, summary.scalar(f"final_loss/against_1000_log10_{axis}", loss)


def _records(summaries) -> bytes:
    """Return an event file of (step, summary) pairs. Its times are 0, to order by step."""
    from tensorboardX.proto import event_pb2

    first = event_pb2.Event(file_version=event_file.VERSION)
    rest = [event_pb2.Event(step=step, summary=part) for step, part in summaries]
    return b"".join(event_file.record(event.SerializeToString()) for event in (first, *rest))
