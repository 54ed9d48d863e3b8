"""One run while it trains: its folder, its position, its rows of metrics, its checkpoints, its end.

`train.py` drives one of these, or several side by side in one program.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from scaling import accounting, results
from scaling.config import load as config_lib
from scaling.data import pipeline
from scaling.fields.field import Prepared
from scaling.metrics.metric import Metric
from scaling.parallel import multiprocess
from scaling.programs import optim
from scaling.programs.train_step import Programs
from scaling.training import merge, tensorboard
from scaling.training.checkpoint import Checkpoints
from scaling.training.evaluate import HeldOut
from scaling.training.spec import RunSpec, claim, claim_data, describe
from scaling.utils import files, machine

ROWS = ("metrics.jsonl", "evals.jsonl")


@dataclass(frozen=True)
class Window:
    """Steps [begin, end) of the dispatch that starts at step `first` of a run."""

    first: int
    begin: int
    end: int


class ActiveRun:
    """A run between its first and its last step. Use as a context manager: leaving closes its files.

    Raises UserError where the folder belongs to another run or to other data.
    """

    def __init__(self, spec: RunSpec, data: Prepared, packed: int, share: tuple[int, int] = (0, 1)):
        c = spec.config
        self.spec, self.data, self.packed = spec, data, packed
        self.writer = multiprocess.writer()  # others train along and write nothing but their shards
        self.name = spec.folder.name
        # asked with a file of rows open; raises where another worker has taken the run over
        self.still_mine: Callable[[], None] = lambda: None
        if self.writer:
            claim(c, spec.folder)
            claim_data(data, spec.folder)
        self.per_step = config_lib.tokens_per_step(c)
        self.total = config_lib.schedule_steps(c)["total"]
        self.K, self.log_every = c.train.steps_per_dispatch, c.train.log_every
        self.flops_per_step = float(
            accounting.flops_per_token(accounting.shape_of(c), "exact") * self.per_step
        )
        self.hyper = {k: np.float32(v) for k, v in optim.hyperparameters(c).items()}
        self.checkpoint_every = max(1, round(c.checkpoint.every_tokens / (self.K * self.per_step)))
        self.eval_every = (
            max(1, round(c.eval.every_tokens / (self.K * self.per_step)))
            if c.eval.every_tokens
            else 0
        )
        self.merge_steps = config_lib.merge_steps(c)
        until = [spec.until] if spec.until else []
        self.stops = sorted({*spec.keep_steps, *self.merge_steps, *until, self.total})
        self.done = self.forked_at = 0
        self.seconds = 0.0  # over all restarts; a packed run counts its share of the program's time
        self.status, self.reason = "active", ""
        self.last_loss: float | None = None
        self.last_mfu: float | None = None  # of the newest dispatch; None where no peak is known
        self.speeds: list[float] = []  # tokens per second of each dispatch
        self._source = data.dispatches(c, share)
        self._batch: tuple[int, Any] | None = None  # (dispatch, its batch_KB)
        self._dispatches: Iterator[Any] | None = None

    def __enter__(self) -> ActiveRun:
        c, folder = self.spec.config, self.spec.folder
        if self.writer:
            for name in ROWS:  # a worker that had the run before may have been stopped, not killed
                files.renew(folder / name)
        self._checkpoints = Checkpoints(
            folder / "checkpoints",
            c.checkpoint.keep,
            (*self.spec.keep_steps, *self.merge_steps),
            c.checkpoint.asynchronous,
        )
        self._events = tensorboard.Curves(folder / "tensorboard")
        machine.peak_flops()  # measured now, while the device is idle, for `log` and `finish`
        return self

    def __exit__(self, *exception) -> None:
        self._checkpoints.close()

    @property
    def training(self) -> bool:
        return self.status == "active" and self.done < self.total and not self.paused

    @property
    def paused(self) -> bool:
        """At the step it was told to, or beyond, in good order."""
        there = bool(self.spec.until) and self.spec.until <= self.done < self.total
        return there and self.status == "active"

    def restore(self, programs: Programs) -> Any:
        """The state to go on with: its own newest checkpoint's, its trunk's, or a first one."""
        restored = self._checkpoints.restore(programs.state_like)
        if restored is None and self.spec.trunk is not None:
            restored = self._fork(programs)
        if restored is None:
            return programs.init(self.spec.config.seed)
        state, position = restored
        self.done, self.seconds = position["step"], position["elapsed"]
        self.forked_at = position.get("forked_at", 0)
        # a run killed after its last checkpoint trains no more rows: its last loss is on disk
        logged = files.read_lines(self.spec.folder / "metrics.jsonl", key="step")
        self.last_loss = next((r["loss"] for r in reversed(logged) if r["step"] <= self.done), None)
        return state

    def _fork(self, programs: Programs) -> tuple[Any, dict[str, Any]] | None:
        """The trunk's state at the fork, its rows of metrics copied.

        Before the first checkpoint that this run will merge and the trunk does not have.
        """
        assert self.spec.trunk is not None
        with Checkpoints(self.spec.trunk / "checkpoints", keep=None) as trunk:
            missing = set(self.merge_steps) - set(trunk.steps())
            at_most = min([self.spec.fork_step, *(step - 1 for step in missing)])
            found = trunk.restore(programs.state_like, at_most=at_most)
        if found is None:
            return None
        state, position = found
        for name in ROWS:
            rows = files.read_lines(self.spec.trunk / name, key="step")
            rows = [r for r in rows if r["step"] <= position["step"]]
            if rows and not (self.spec.folder / name).exists() and self.writer:
                files.write_lines(self.spec.folder / name, rows)  # all of them or none
        return state, {"step": position["step"], "elapsed": 0.0, "forked_at": position["step"]}

    @property
    def merges(self) -> bool:
        """Whether it is at its end and averages checkpoints there."""
        return bool(self.merge_steps) and self.status == "active" and self.done == self.total

    def merged(self, state: Any, state_like: Any) -> Any:
        """The run's last state with the average of its own and its trunk's checkpoints as parameters.

        It is also saved, in the folder `merged`. Raises UserError where a checkpoint is missing.
        """
        self.wait()
        o = self.spec.config.optim
        by = merge.weights(o.merge_weights, len(self.merge_steps), o.final_lr)
        with contextlib.ExitStack() as stack:
            trunk = self._checkpoints
            if self.forked_at and self.spec.trunk is not None:
                trunk = stack.enter_context(Checkpoints(self.spec.trunk / "checkpoints", keep=None))
            places = {
                s: trunk if s <= self.forked_at else self._checkpoints for s in self.merge_steps
            }
            state = {**state, "params": merge.average(merge.restored(places, state_like), by)}
            saved = stack.enter_context(Checkpoints(self.spec.folder / "merged", keep=1))
            saved.save(self.total, state, {"elapsed": self.seconds, "forked_at": self.forked_at})
        return state

    def window(self) -> Window:
        """The next steps: to the end of the dispatch, or to the next step that must be stopped at."""
        k, begin = divmod(self.done, self.K)
        if not self.training:
            return Window(k * self.K, 0, 0)
        stop = next(s for s in self.stops if s > self.done)
        return Window(k * self.K, begin, min(self.K, stop - k * self.K))

    def batch(self, window: Window) -> Any:
        """`batch_KB` of the window's dispatch, read ahead in the background."""
        k = window.first // self.K
        if window.end == window.begin:
            return self._batch[1] if self._batch else self._source[k]
        if self._batch is None:  # the first begins at once; from then on they are read ahead
            self._batch = (k, self._source[k])
        elif self._batch[0] != k:
            if self._dispatches is None:
                self._dispatches = pipeline.iterate(self._source, k, self.spec.config.data.prefetch)
            self._batch = (k, next(self._dispatches))
        return self._batch[1]

    def advance(self, window: Window) -> None:
        self.done += window.end - window.begin

    def wants_checkpoint(self) -> bool:
        if self.status != "active":
            return False
        whole = self.done % self.K == 0  # fixed steps, whatever a restart or a fork began at
        return self.done in self.stops or (
            whole and (self.done // self.K) % self.checkpoint_every == 0
        )

    def wants_evaluation(self) -> bool:
        return (
            bool(self.eval_every)
            and self.status == "active"
            and self.done < self.total
            and self.done % self.K == 0
            and (self.done // self.K) % self.eval_every == 0
        )

    def log(self, window: Window, metrics_K: dict[str, np.ndarray], seconds: float) -> int:
        """Write a window's rows of metrics.jsonl; returns the tokens that it trained.

        A row holds the mean loss and gradient norm since the row before it. `seconds` is the run's
        share of the time that the window took. A loss or gradient that is not finite ends the run.
        """
        if window.begin == window.end or self.status != "active":
            return 0
        loss_K, norm_K, lr_K = (
            np.asarray(metrics_K[k], np.float64) for k in ("loss", "grad_norm", "lr")
        )
        here = slice(window.begin, window.end)
        bad = np.flatnonzero(~np.isfinite(loss_K[here]) | ~np.isfinite(norm_K[here]))
        self.seconds += seconds
        if len(bad):
            i = window.begin + int(bad[0])
            self.diverged(
                f"loss {loss_K[i]}, gradient norm {norm_K[i]} at step {window.first + i + 1}"
            )
            return 0
        rows = []
        start = window.begin
        while start < window.end:  # rows end at the same steps, wherever a window begins
            end = min((start // self.log_every + 1) * self.log_every, window.end)
            done = window.first + end
            rows.append(
                {
                    "step": done,
                    "tokens": done * self.per_step,
                    "flops": float(done * self.flops_per_step),
                    "loss": float(loss_K[start:end].mean()),
                    "grad_norm": float(norm_K[start:end].mean()),
                    "lr": float(lr_K[end - 1]),
                }
            )
            start = end
            for key in ("loss", "grad_norm", "lr"):
                if self.writer:
                    self._events.add(f"train/{key}", rows[-1][key], done)
        self.last_loss = rows[-1]["loss"]
        tokens = (window.end - window.begin) * self.per_step
        if self.speeds:  # the first dispatch holds the compilation
            self._log_speed(tokens / seconds, window.first + window.end)
        self.speeds.append(tokens / seconds)
        self._append("metrics.jsonl", rows)
        return tokens

    def _log_speed(self, speed: float, step: int) -> None:
        """Tokens per second and MFU to TensorBoard: rows of metrics.jsonl are the same in every restart."""
        self.last_mfu = self._mfu(speed)
        if self.writer:
            self._events.add("speed/tokens_per_second", speed, step)
            if self.last_mfu is not None:
                self._events.add("speed/mfu", self.last_mfu, step)

    def _mfu(self, speed: float) -> float | None:
        """Of tokens per second; None where the device's peak is not known."""
        mfu = speed * self.flops_per_step / self.per_step / machine.peak_flops()
        return mfu if math.isfinite(mfu) else None

    def _append(self, name: str, rows: list[dict[str, Any]]) -> None:
        """Rows of a JSON-lines file, and the TensorBoard events that were added with them."""
        if self.writer:
            files.append_lines(self.spec.folder / name, rows, self.still_mine)
            self._events.write()

    def diverged(self, reason: str) -> None:
        self.status, self.reason = "diverged", reason

    def save(self, state: Any) -> None:
        """Start saving a state that is known to be good; returns once `state` may be donated."""
        position = {"elapsed": self.seconds, "forked_at": self.forked_at}
        self._checkpoints.save(self.done, state, position)

    def wait(self) -> None:
        self._checkpoints.wait()

    def evaluated(self, found: HeldOut) -> None:
        """Write a row of evals.jsonl; where the run pauses, with the seconds it took up to here."""
        row: dict[str, Any] = {
            "step": self.done,
            "tokens": self.done * self.per_step,
            **{k: v if math.isfinite(v) else None for k, v in _as_row(found).items()},
        }
        if self.paused:
            row["elapsed"] = self.seconds
        if self.writer:
            self._events.add("eval/loss", found.loss, self.done)
        self._append("evals.jsonl", [row])

    def finish(self, final: HeldOut | None) -> results.RunResult:
        """Write `result.json`: "done" with a finite held-out loss, "diverged" otherwise."""
        if final is not None and not math.isfinite(final.loss):
            self.diverged(f"held-out loss is {final.loss} after step {self.done}")
        if self.status == "diverged":
            final = None
        # The first dispatch holds the compilation; a run of one dispatch has no clean speed.
        speed = statistics.median(self.speeds[1:]) if len(self.speeds) > 1 else None
        result = dataclasses.replace(
            describe(self.spec, self.data),
            status="done" if final else "diverged",
            reason=self.reason,
            flops_spent=(self.done - self.forked_at) * self.flops_per_step,
            trunk=self.spec.trunk.name if self.spec.trunk and self.forked_at else "",
            packed=self.packed,
            train_loss=self.last_loss,
            wall_time=self.seconds,
            loss=final.loss if final else None,
            loss_se=final.loss_se if final else None,
            bits_per_byte=final.bits_per_byte if final else None,
            eval_tokens=final.tokens if final else None,
            tokens_per_second=speed,
            mfu=self._mfu(speed) if speed else None,
            metrics=_columns(final.metrics) if final else {},
        )
        if self.writer:
            if final:
                metrics = {name: dataclasses.asdict(m) for name, m in final.metrics.items()}
                evaluation = {"metrics": metrics, **final.details}
                files.write_json(self.spec.folder / "evaluation.json", evaluation)
            results.write(self.spec.folder / "result.json", result)
            (self.spec.folder / "failure.json").unlink(missing_ok=True)
        return result


def _columns(metrics: Mapping[str, Metric]) -> dict[str, float]:
    """Each metric and its standard error; what is not finite has no column."""
    found: dict[str, float] = {}
    for name, metric in metrics.items():
        found |= {name: metric.value, f"{name}_se": metric.se}
    found.pop("bits_per_byte", None)  # a column anyway
    return {name: float(value) for name, value in found.items() if math.isfinite(value)}


def _as_row(found: HeldOut) -> dict[str, Any]:
    known = {k: v for k, v in dataclasses.asdict(found).items() if k not in ("metrics", "details")}
    return {k: v for k, v in known.items() if v is not None} | _columns(found.metrics)
