"""Train runs of one program side by side, each in a slot of the program; one run alone has one
slot.

Shapes: R slots, K steps of one dispatch, B rows per step.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import jax
import numpy as np

from scaling import results
from scaling.fields import registry as fields
from scaling.parallel import multiprocess
from scaling.programs import ahead_of_time, train_step
from scaling.training.evaluate import HeldOut, evaluate
from scaling.training.run import ActiveRun
from scaling.training.run_log import Window
from scaling.training.spec import RunSpec
from scaling.utils import signals
from scaling.utils.errors import Preempted

Outcome = results.RunResult | Exception | None  # None: paused at the step that its spec names


@dataclass(frozen=True)
class Dispatch:
    """One call of the training program, in flight until its metrics are waited for."""

    windows: dict[int, Window]  # slot -> the steps that its run trains
    metrics: dict[str, Any]  # [R, K], or [K] of one slot

    @property
    def slots(self) -> list[int]:
        """The slots whose runs train steps in it."""
        return [i for i, window in self.windows.items() if window.end > window.begin]


class Pack:
    """The runs of `specs`, their program and its state.

    Several runs are spread over the devices, whole on one device each, with their own schedule,
    data order and end, so that each gets the numbers that it has alone on one device. Slots are a
    multiple of the devices. Free slots, and those of ended runs, get a batch of another run and
    train no step.
    """

    def __init__(self, specs: Sequence[RunSpec]):
        """Prepare data and programs. Raises UserError on all processes."""
        self.specs, self.config = specs, specs[0].config
        self._clock = time.perf_counter()
        self.slots, self._slot_of = _slots(len(specs))
        with multiprocess.raise_on_all():
            ahead_of_time.check_fits_memory(self.config, self.slots)
            self._field = fields.of(self.config.data.field)
            self._data = self._field.prepare(self.config)
            self._held_out = self._data.held_out(self.config)
        multiprocess.assert_same_on_all("data", self._data.fingerprint)
        self.programs = train_step.programs(self.config, self.slots)
        self.runs: dict[int, ActiveRun] = {}  # by slot
        self.still_mine: Callable[[], None] = lambda: None
        self.state: Any = None

    def enter(
        self,
        stack: contextlib.ExitStack,
        outcomes: list[Outcome],
        before_writing: Callable[[], None] | None,
    ) -> None:
        """Open the folders of runs without an outcome; an exception ends its run alone."""
        # Of several processes all have to learn of a lost claim: `multiprocess.Agreement` sees to
        # that.
        if before_writing and multiprocess.count() == 1:
            self.still_mine = before_writing
        for i, spec in enumerate(self.specs):
            if outcomes[i] is not None:
                continue
            try:
                with multiprocess.raise_on_all():  # entering renews files, which may fail, too
                    run = ActiveRun(
                        spec, self._data, len(self.specs), self.programs.share, self.still_mine
                    )
                    stack.enter_context(run)
                self.runs[self._slot_of[i]] = run
            except Exception as error:
                outcomes[i] = error

    def restore(self) -> None:
        """Load the runs' states, or initialise them, while the training program compiles.

        Initialisation, too, takes as long as its compiler.
        """
        with ahead_of_time.compile_in_background(self.config, self.programs):
            states = []
            for i in range(self.slots):
                signals.check()
                run = self.runs.get(i)
                states.append(run.restore(self.programs) if run else self.programs.init(0))
        self.state = self.programs.join(states)
        hyper_of = {i: run.hyper for i, run in self.runs.items()}
        filler = next(iter(hyper_of.values()), {})
        self._hyper_R = {
            k: np.array([hyper_of.get(i, filler)[k] for i in range(self.slots)], np.float32)
            for k in filler
        }

    @property
    def training(self) -> bool:
        """Return whether a run has steps left."""
        return any(run.training for run in self.runs.values())

    def dispatch(self) -> Dispatch:
        """Start the next steps of all runs, without waiting for them."""
        windows = {i: run.window() for i, run in self.runs.items()}
        batches = {i: self.runs[i].batch(window) for i, window in windows.items()}
        filler = next(iter(batches.values()))
        batch_RKB = jax.tree.map(
            lambda *x_KB: np.stack(x_KB), *(batches.get(i, filler) for i in range(self.slots))
        )
        free = Window(0, 0, 0)
        first_R, begin_R, end_R = (
            np.array([getattr(windows.get(i, free), k) for i in range(self.slots)], np.int32)
            for k in ("first", "begin", "end")
        )
        self.state, metrics = self.programs.train(
            self.state, self._hyper_R, self.programs.batch(batch_RKB), first_R, begin_R, end_R
        )
        for i, run in self.runs.items():
            run.advance(windows[i])
        return Dispatch(windows, metrics)

    def due(self, dispatch: Dispatch) -> tuple[list[int], list[int]]:
        """(slots to save, slots to evaluate) after a dispatch."""
        return (
            [i for i in dispatch.slots if self.runs[i].wants_checkpoint()],
            [i for i in dispatch.slots if self.runs[i].wants_evaluation()],
        )

    def log(self, dispatch: Dispatch, on_tokens: Callable[[int], None]) -> None:
        """Wait for a dispatch and write its rows; `on_tokens` gets the tokens of each run."""
        metrics_RK = {k: np.asarray(v).reshape(self.slots, -1) for k, v in dispatch.metrics.items()}
        self.still_mine()  # after the wait: another worker may have taken the runs over meanwhile
        seconds = self._lap()
        for i in dispatch.slots:
            row = {k: v[i] for k, v in metrics_RK.items()}
            on_tokens(self.runs[i].log(dispatch.windows[i], row, seconds / len(dispatch.slots)))

    def evaluate(self, slots: Sequence[int], agree: multiprocess.Agreement) -> str:
        """Evaluate and write the rows of these slots' runs.

        Returns the signal that cut the evaluation off, "" without one. A run that resumes at this
        step evaluates first, see `evaluate_skipped`.
        """
        try:
            held_out = self._evaluate(agree)
        except Preempted as signal:
            return str(signal)
        self.still_mine()
        for i in slots:
            if self.runs[i].status == "active":
                self.runs[i].log_evaluation(held_out[i])
        return ""

    def evaluate_skipped(self, agree: multiprocess.Agreement) -> None:
        """Evaluate the runs that a signal stopped between a dispatch and its evaluation."""
        slots = [
            i
            for i, run in self.runs.items()
            if multiprocess.broadcast_from_writer(run.lacks_evaluation())
        ]
        if slots and (signal := self.evaluate(slots, agree)):
            raise Preempted(signal)

    def save(self, slots: Sequence[int]) -> None:
        """Start saving the runs of these slots; all rows up to here must be written."""
        self.still_mine()
        states = self.programs.split(self.state)
        for i in slots:
            if self.runs[i].status == "active":
                self.runs[i].save(states[i])

    def stop(self, signal: str) -> NoReturn:
        """Wait for the checkpoints. Raises Preempted."""
        left = [run for run in self.runs.values() if run.status == "active"]
        for run in self.runs.values():
            run.wait()
        if not left:
            raise Preempted(signal)
        raise Preempted(
            f"{signal}: saved {', '.join(f'{run.name} at step {run.done}' for run in left)}"
        )

    def merge(self) -> None:
        """Replace the parameters of runs that merge by the average of their checkpoints."""
        if not any(run.merges for run in self.runs.values()):
            return
        self.still_mine()
        states = self.programs.split(self.state)
        for i, run in self.runs.items():
            signals.check()
            if run.merges:
                states[i] = run.merged(states[i], self.programs.state_like)
        self.state = self.programs.join(states)

    def finish(self, agree: multiprocess.Agreement) -> dict[int, results.RunResult]:
        """Evaluate the runs and write their results. Returns index of the spec -> result.

        A run that pauses in good order has a row of its evaluation and no result.
        """
        if signal := agree(now=True):
            self.stop(signal)
        some_active = any(run.status == "active" for run in self.runs.values())
        final = self._evaluate(agree) if some_active else []
        seconds = self._lap() / max(1, len(self.runs))
        for run in self.runs.values():
            run.seconds += seconds
            run.wait()  # a result without its last checkpoint could not be deployed
        agree(now=True)
        outcomes = {}
        for i, run in self.runs.items():
            held_out = final[i] if run.status == "active" else None
            if held_out:
                run.log_evaluation(held_out)
                if run.paused and math.isfinite(held_out.loss):
                    continue
            outcomes[self._slot_of.index(i)] = run.finish(held_out)
        return outcomes

    def _evaluate(self, agree: multiprocess.Agreement) -> list[HeldOut]:
        """Return the held-out loss and metrics of every slot. Raises Preempted after a signal."""

        def readings(batch_B):
            if signal := agree(now=False, claims=False):
                raise Preempted(signal)
            return self.programs.readings(self.state["params"], batch_B)

        return evaluate(readings, self._held_out, self._field, self.config.eval.batch_size)

    def _lap(self) -> float:
        """Return the seconds since the last call, or since the pack was made."""
        seconds, self._clock = time.perf_counter() - self._clock, time.perf_counter()
        return seconds


def _slots(runs: int) -> tuple[int, list[int]]:
    """(slots of the program, the slot of each run).

    Runs are dealt to the devices in turn, so that their loads differ by little.
    """
    if runs == 1:
        return 1, [0]
    devices = jax.local_device_count()
    slots = -(-runs // devices) * devices
    return slots, [i // devices + i % devices * (slots // devices) for i in range(runs)]
