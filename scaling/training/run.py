"""One run while it trains: its folder, its position, its checkpoints, its result.

`packed.Pack` drives one of these, or several side by side in one program.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from scaling import accounting, results
from scaling.config import load as config_lib
from scaling.data import pipeline
from scaling.fields.field import Prepared
from scaling.parallel import multiprocess
from scaling.programs import schedules
from scaling.programs.interface import Programs
from scaling.training import merge
from scaling.training.checkpoint import Checkpoints
from scaling.training.evaluate import HeldOut
from scaling.training.run_log import ROWS, RunLog, Window, columns, read_rows
from scaling.training.spec import RunSpec, describe, write_or_check_config, write_or_check_data
from scaling.utils import files


class ActiveRun:
    """A run between its first and its last step. Use as a context manager: leaving closes its
    files.

    `packed` counts the runs of its program, `share` is this process's (k-th, of n) part of its
    rows. `still_mine` raises if another worker took the run over. Raises UserError if the folder
    belongs to another run or to other data.
    """

    def __init__(
        self,
        spec: RunSpec,
        data: Prepared,
        packed: int,
        share: tuple[int, int],
        still_mine: Callable[[], None],
    ):
        c = spec.config
        self.spec, self.data, self.packed = spec, data, packed
        self.writer = multiprocess.writer()  # others train along and write only their shards
        self.name = spec.folder.name
        if self.writer:
            write_or_check_config(c, spec.folder)
            write_or_check_data(data, spec.folder)
        self.per_step = config_lib.tokens_per_step(c)
        self.total = config_lib.schedule_steps(c)["total"]
        self.K = c.train.steps_per_dispatch
        self.flops_per_step = float(
            accounting.flops_per_token(accounting.shape_of(c), "exact") * self.per_step
        )
        self.hyper = {k: np.float32(v) for k, v in schedules.hyperparameters(c).items()}
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
        self._log = RunLog(
            spec.folder,
            writer=self.writer,
            still_mine=still_mine,
            tokens_per_step=self.per_step,
            flops_per_step=self.flops_per_step,
            dtype=c.model.dtype,
            log_every=c.train.log_every,
        )
        self._source = data.dispatches(c, share)
        self._batch: tuple[int, Any] | None = None  # (dispatch, its batch_KB)
        self._dispatches: Iterator[Any] | None = None

    def __enter__(self) -> ActiveRun:
        c = self.spec.config
        self._log.open()
        self._checkpoints = Checkpoints(
            self.spec.folder / "checkpoints",
            c.checkpoint.keep,
            (*self.spec.keep_steps, *self.merge_steps),
            c.checkpoint.asynchronous,
            config_lib.run_hash(c),
        )
        return self

    def __exit__(self, *exception) -> None:
        self._checkpoints.close()

    @property
    def training(self) -> bool:
        return self.status == "active" and self.done < self.total and not self.paused

    @property
    def paused(self) -> bool:
        """Return whether the run is at the step `until` of its spec, or beyond, in good order."""
        reached = bool(self.spec.until) and self.spec.until <= self.done < self.total
        return reached and self.status == "active"

    @property
    def last_loss(self) -> float | None:
        """The training loss of the newest row."""
        return self._log.last_loss

    @property
    def last_mfu(self) -> float | None:
        """Model FLOP utilisation of the newest dispatch; None if no peak is known."""
        return self._log.last_mfu

    def restore(self, programs: Programs) -> Any:
        """Return the state of the run's newest checkpoint, of its trunk's, or a first one."""
        restored = self._checkpoints.restore(programs.state_like)
        if restored is None and self.spec.trunk is not None:
            restored = self._fork(programs)
        if restored is None:
            state = programs.init(self.spec.config.seed)
        else:
            state, position = restored
            self.done, self.seconds = position["step"], position["elapsed"]
            self.forked_at = position.get("forked_at", 0)
        with multiprocess.raise_on_all():  # rows are written, which may fail
            self._log.resume(self.done)
        return state

    def _fork(self, programs: Programs) -> tuple[Any, dict[str, Any]] | None:
        """Return the trunk's state at the fork, and copy its rows of metrics.

        The fork lies before the first checkpoint that this run will merge and the trunk does not
        have.
        """
        assert self.spec.trunk is not None
        with _checkpoints_of(self.spec.trunk) as trunk:
            missing = set(self.merge_steps) - set(trunk.steps())
            at_most = min([self.spec.fork_step, *(step - 1 for step in missing)])
            restored = trunk.restore(programs.state_like, at_most=at_most)
        if restored is None:
            return None
        state, position = restored
        for name in ROWS:
            rows = read_rows(self.spec.trunk, name)
            rows = [r for r in rows if r["step"] <= position["step"]]
            if rows and not (self.spec.folder / name).exists() and self.writer:
                files.write_lines(self.spec.folder / name, rows)  # all of them or none
        return state, {"step": position["step"], "elapsed": 0.0, "forked_at": position["step"]}

    @property
    def merges(self) -> bool:
        """Return whether the run is at its end and averages checkpoints there."""
        return bool(self.merge_steps) and self.status == "active" and self.done == self.total

    def merged(self, state: Any, state_like: Any) -> Any:
        """Return the last state with the average of the run's and its trunk's checkpoints as
        parameters.

        It is also saved, in the folder `merged`. Raises UserError if a checkpoint is missing.
        """
        self.wait()
        o = self.spec.config.optim
        weights = merge.weights(o.merge_weights, len(self.merge_steps), o.final_lr)
        with contextlib.ExitStack() as stack:
            trunk = self._checkpoints
            if self.forked_at and self.spec.trunk is not None:
                trunk = stack.enter_context(_checkpoints_of(self.spec.trunk))
            sources = {
                s: trunk if s <= self.forked_at else self._checkpoints for s in self.merge_steps
            }
            params = merge.average(merge.read_parameters(sources, state_like), weights)
            state = {**state, "params": params}
            saved = stack.enter_context(Checkpoints(self.spec.folder / "merged", keep=1))
            saved.save(self.total, state, {"elapsed": self.seconds, "forked_at": self.forked_at})
        return state

    def window(self) -> Window:
        """Return the next steps, to the end of the dispatch or the next stop of the run."""
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
        # fixed steps, whatever step a restart or a fork began at
        return self.done in self.stops or self._ends_dispatch(self.checkpoint_every)

    def wants_evaluation(self) -> bool:
        if self.status != "active" or self.done >= self.total or not self.eval_every:
            return False
        return self._ends_dispatch(self.eval_every)

    def lacks_evaluation(self) -> bool:
        """Return whether the restored run saved at a step whose evaluation it did not write."""
        return self.done > 0 and self.wants_evaluation() and not self._log.has_evaluation(self.done)

    def _ends_dispatch(self, every: int) -> bool:
        """Return whether the run is at the end of a dispatch, of every `every`-th one."""
        return self.done % self.K == 0 and (self.done // self.K) % every == 0

    def log(self, window: Window, metrics_K: dict[str, np.ndarray], seconds: float) -> int:
        """Write a window's rows of metrics.jsonl; return the tokens that it trained.

        `seconds` is the run's share of the time that the window took. A loss or gradient that is
        not finite ends the run.
        """
        if window.begin == window.end or self.status != "active":
            return 0
        metrics_K = {k: np.asarray(v, np.float64) for k, v in metrics_K.items()}
        loss_K, norm_K = metrics_K["loss"], metrics_K["grad_norm"]
        trained = slice(window.begin, window.end)
        bad = np.flatnonzero(~np.isfinite(loss_K[trained]) | ~np.isfinite(norm_K[trained]))
        self.seconds += seconds
        if len(bad):
            i = window.begin + int(bad[0])
            self._diverge(
                f"loss {loss_K[i]}, gradient norm {norm_K[i]} at step {window.first + i + 1}"
            )
            return 0
        return self._log.add_window(window, metrics_K, seconds)

    def log_evaluation(self, held_out: HeldOut) -> None:
        """Write a row of evals.jsonl; if the run pauses, with the seconds it took up to here."""
        self._log.add_evaluation(self.done, held_out, self.seconds if self.paused else None)

    def save(self, state: Any) -> None:
        """Start saving a state that is known to be good; returns once `state` may be donated."""
        position = {"elapsed": self.seconds, "forked_at": self.forked_at}
        self._checkpoints.save(self.done, state, position)

    def wait(self) -> None:
        """Return once all checkpoints are on disk."""
        self._checkpoints.wait()

    def finish(self, held_out: HeldOut | None) -> results.RunResult:
        """Write `result.json`: "done" with a finite held-out loss, "diverged" otherwise."""
        if held_out is not None and not math.isfinite(held_out.loss):
            self._diverge(f"held-out loss is {held_out.loss} after step {self.done}")
        final = None if self.status == "diverged" else held_out
        result = self._result(final)
        if self.writer:
            if final:
                metrics = {name: dataclasses.asdict(m) for name, m in final.metrics.items()}
                evaluation = {"metrics": metrics, **final.details}
                files.write_json(self.spec.folder / "evaluation.json", evaluation)
            results.write(self.spec.folder / "result.json", result)
            (self.spec.folder / "failure.json").unlink(missing_ok=True)
        return result

    def _result(self, final: HeldOut | None) -> results.RunResult:
        speed = self._log.speed
        return dataclasses.replace(
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
            mfu=self._log.mfu(speed) if speed else None,
            metrics=columns(final.metrics) if final else {},
        )

    def _diverge(self, reason: str) -> None:
        self.status, self.reason = "diverged", reason


def _checkpoints_of(trunk: Path) -> Checkpoints:
    """Return the checkpoints of another run, to read."""
    path = trunk / "config.json"
    run = config_lib.run_hash(config_lib.from_json(files.read_json(path), path))
    return Checkpoints(trunk / "checkpoints", keep=None, run=run)
