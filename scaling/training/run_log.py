"""Write a run's rows of metrics.jsonl and evals.jsonl, and its TensorBoard curves.

Shapes: K steps of one dispatch.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scaling.metrics.metric import Metric
from scaling.training import tensorboard
from scaling.training.evaluate import HeldOut
from scaling.utils import files, machine

METRICS, EVALUATIONS = "metrics.jsonl", "evals.jsonl"
ROWS = (METRICS, EVALUATIONS)
KEYS = ("loss", "grad_norm", "lr")
SAMPLES = 3  # dispatches behind each speed, at least


@dataclass(frozen=True)
class Window:
    """Steps [begin, end) of the dispatch that starts at step `first` of a run."""

    first: int
    begin: int
    end: int


class RunLog:
    """The rows of one run. Only the writer process writes; the others count along.

    `still_mine` is called with a file of rows open. It raises if another worker took the run over.
    """

    def __init__(
        self,
        folder: Path,
        *,
        writer: bool,
        still_mine: Callable[[], None],
        tokens_per_step: int,
        flops_per_step: float,
        dtype: str,
        log_every: int,
    ):
        self.folder, self.writer, self.still_mine = folder, writer, still_mine
        self.tokens_per_step, self.flops_per_step = tokens_per_step, flops_per_step
        self.dtype, self.log_every = dtype, log_every
        self.last_loss: float | None = None
        self.last_mfu: float | None = None  # of the newest dispatches, see `mfu`
        self._speeds: list[float] = []  # tokens per second of each dispatch
        self._last = dict.fromkeys(ROWS, -1)  # the step of the last row of each file

    def open(self) -> None:
        """Renew the files: a worker that had the run before may have been stopped, not killed."""
        if self.writer:
            for name in ROWS:
                files.renew(self.folder / name)
        self._events = tensorboard.Curves(self.folder / "tensorboard")
        machine.peak_flops(self.dtype)  # measured now, while the device is idle, for `mfu`

    def resume(self, step: int) -> None:
        """Leave each row up to `step`, from which training continues, once in the files.

        Later rows are trained and written again. Rows of damaged lines are lost, with a warning.
        The last loss is read, since a run killed after its last checkpoint trains no more rows.
        """
        for name in ROWS:
            rows = [row for row in read_rows(self.folder, name) if row["step"] <= step]
            if name == METRICS:
                self.last_loss = rows[-1]["loss"] if rows else None
            self._last[name] = rows[-1]["step"] if rows else -1
            if self.writer and (self.folder / name).exists():
                self.still_mine()
                files.write_lines(self.folder / name, rows)

    def add_window(
        self, window: Window, metrics_K: Mapping[str, np.ndarray], seconds: float
    ) -> int:
        """Write the rows of a window of finite metrics; return the tokens that it trained.

        A row holds the mean loss and gradient norm since the row before it. `seconds` is the run's
        share of the time that the window took.
        """
        rows = []
        start = window.begin
        while start < window.end:  # rows end at the same steps, wherever a window begins
            end = min((start // self.log_every + 1) * self.log_every, window.end)
            done = window.first + end
            rows.append(
                {
                    "step": done,
                    "tokens": done * self.tokens_per_step,
                    "flops": float(done * self.flops_per_step),
                    "loss": float(metrics_K["loss"][start:end].mean()),
                    "grad_norm": float(metrics_K["grad_norm"][start:end].mean()),
                    "lr": float(metrics_K["lr"][end - 1]),
                }
            )
            start = end
            for key in KEYS:
                self._add_event(f"train/{key}", rows[-1][key], done)
        self.last_loss = rows[-1]["loss"]
        tokens = (window.end - window.begin) * self.tokens_per_step
        self._speeds.append(tokens / seconds)
        if (speed := _median(self._speeds[1:][-SAMPLES:])) is not None:
            self._add_speed(speed, window.first + window.end)
        self._append(METRICS, rows)
        return tokens

    def add_evaluation(self, step: int, held_out: HeldOut, elapsed: float | None) -> None:
        """Write a row of evals.jsonl, with the seconds `elapsed` if they are given."""
        row: dict[str, Any] = {
            "step": step,
            "tokens": step * self.tokens_per_step,
            **{k: v if math.isfinite(v) else None for k, v in _evaluation_row(held_out).items()},
        }
        if elapsed is not None:
            row["elapsed"] = elapsed
        self._add_event("eval/loss", held_out.loss, step)
        self._append(EVALUATIONS, [row])

    def has_evaluation(self, step: int) -> bool:
        """Return whether evals.jsonl has a row of this step, the newest of the run."""
        return self._last[EVALUATIONS] == step

    @property
    def speed(self) -> float | None:
        """Median tokens per second of the dispatches after the first, which holds the compilation.

        None for fewer than `SAMPLES` of them.
        """
        return _median(self._speeds[1:])

    def mfu(self, speed: float) -> float | None:
        """Model FLOP utilisation at `speed` tokens per second; None as in `machine.utilisation`."""
        mfu = machine.utilisation(speed * self.flops_per_step / self.tokens_per_step, self.dtype)
        return mfu if math.isfinite(mfu) else None

    def _add_speed(self, speed: float, step: int) -> None:
        """To TensorBoard alone: rows of metrics.jsonl are the same after every restart."""
        self.last_mfu = self.mfu(speed)
        self._add_event("speed/tokens_per_second", speed, step)
        if self.last_mfu is not None:
            self._add_event("speed/mfu", self.last_mfu, step)

    def _add_event(self, name: str, value: float, step: int) -> None:
        if self.writer:
            self._events.add(name, value, step)

    def _append(self, name: str, rows: list[dict[str, Any]]) -> None:
        """Append rows to a JSON-lines file, and the events added with them to TensorBoard's.

        A step has one row: the evaluation after the last step is repeated when a run resumes there.
        """
        rows = [row for row in rows if row["step"] > self._last[name]]
        self._last[name] = max([self._last[name], *(row["step"] for row in rows)])
        if self.writer:
            files.append_lines(self.folder / name, rows, self.still_mine)
            self._events.write()


def _median(speeds: list[float]) -> float | None:
    return statistics.median(speeds) if len(speeds) >= SAMPLES else None


def read_rows(folder: Path, name: str) -> list[dict[str, Any]]:
    """Return the rows of METRICS or EVALUATIONS of a run; damaged lines are skipped and logged."""
    return files.read_lines(folder / name, "step", ("tokens", "loss") if name == METRICS else ())


def columns(metrics: Mapping[str, Metric]) -> dict[str, float]:
    """Return each metric and its standard error; values that are not finite have no column."""
    values: dict[str, float] = {}
    for name, metric in metrics.items():
        values |= {name: metric.value, f"{name}_se": metric.se}
    values.pop("bits_per_byte", None)  # a column anyway
    return {name: float(value) for name, value in values.items() if math.isfinite(value)}


def _evaluation_row(held_out: HeldOut) -> dict[str, Any]:
    row = {k: v for k, v in dataclasses.asdict(held_out).items() if k not in ("metrics", "details")}
    return {k: v for k, v in row.items() if v is not None} | columns(held_out.metrics)
