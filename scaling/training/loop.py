"""Training, top to bottom: build, restore, step, log, save, evaluate, finish.

One run alone, or several of equal shape as one program with a leading run axis.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from scaling import results
from scaling.config.hashing import run_id
from scaling.fields import registry as fields
from scaling.parallel import multiprocess
from scaling.programs import ahead_of_time, train_step
from scaling.training import profiler, progress_bar
from scaling.training.evaluate import HeldOut, evaluate
from scaling.training.run import ActiveRun
from scaling.training.spec import RunSpec
from scaling.utils.errors import Preempted
from scaling.utils.signals import StopSignal

__all__ = ["run_id", "train_run", "train_runs"]

Outcome = results.RunResult | Exception | None  # None: paused at the step it was told to


def train_run(
    config: ConfigDict,
    folder: Path,
    *,
    before_writing: Callable[[], None] | None = None,
    trace: int = 0,
    **spec,
) -> results.RunResult:
    """Train one run in `folder`, or go on with it, or return the result that it already has.

    `before_writing` and `trace` as in `train_runs`; further keywords are those of `RunSpec`. Raises
    UserError on bad input, Preempted after a signal (everything saved), and results.DamagedResult
    where the folder's result cannot be read. A non-finite loss or gradient ends the run with status
    "diverged" and keeps the last good checkpoint.
    """
    (outcome,) = train_runs(
        [RunSpec(config, folder, **spec)], before_writing=before_writing, trace=trace
    )
    if isinstance(outcome, Exception):
        raise outcome
    assert outcome is not None, "only a run with `until` can pause"
    return outcome


def train_runs(
    specs: Sequence[RunSpec],
    *,
    on_progress: Callable[[int], None] | None = None,
    before_writing: Callable[[], None] | None = None,
    trace: int = 0,
) -> list[Outcome]:
    """Train one run, or several of one program (equal `step.program_key`, equal data) side by side.

    Several runs are spread over the devices, each on one of them with its own schedule, data order
    and end, so that each gets the numbers that it has alone on one device. For every spec the list
    holds its result, the exception that ended it alone, or None where it paused.

    `on_progress` is called with the tokens trained since its last call, instead of a progress bar.
    `before_writing` is called before anything is written and may raise to leave the runs to others.
    So many dispatches as `trace` says are traced, into the first run's folder (scaling/training/profiler.py).
    Raises Preempted after a signal, everything saved.
    """
    outcomes: list[Outcome] = [None] * len(specs)
    for i, spec in enumerate(specs):
        if multiprocess.broadcast_from_writer((spec.folder / "result.json").exists()):
            try:
                outcomes[i] = results.read(spec.folder / "result.json")
            except results.DamagedResult as error:
                outcomes[i] = error
    if all(outcomes):
        return outcomes

    # ---- build: config, data, programs
    config = specs[0].config
    clock = time.perf_counter()
    alone, devices = len(specs) == 1, jax.local_device_count()
    seats = 1 if alone else -(-len(specs) // devices) * devices  # some may stay empty
    with multiprocess.raise_on_all():
        ahead_of_time.check_fits_memory(config, seats)
        field = fields.of(config.data.field)
        data = field.prepare(config)
        held_out = data.held_out(config)
    multiprocess.assert_same_on_all("data", data.fingerprint)
    programs = train_step.programs(config, seats)
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(StopSignal().listening())
        # dealt out to the devices like cards, so that their loads differ by little
        seat_of = [i // devices + i % devices * (seats // devices) for i in range(len(specs))]
        seat_of = [0] if alone else seat_of
        runs: dict[int, ActiveRun] = {}  # by seat
        for i, spec in enumerate(specs):
            if outcomes[i] is None:
                try:
                    with multiprocess.raise_on_all():  # entering renews files, which may fail, too
                        run = stack.enter_context(ActiveRun(spec, data, len(specs), programs.share))
                    runs[seat_of[i]] = run
                except Exception as error:  # it ends alone, its neighbours go on
                    outcomes[i] = error

        def still_mine() -> None:  # of several processes all have to know: `agree` sees to that
            if before_writing and multiprocess.count() == 1:
                before_writing()

        for run in runs.values():
            run.still_mine = still_mine
        if trace:
            programs = stack.enter_context(profiler.traced(programs, specs[0].folder, trace))
        stack.enter_context(multiprocess.guard())  # what is entered last is left first
        agree = multiprocess.Agreement(before_writing)

        # ---- restore
        with ahead_of_time.compile_in_background(
            config, programs
        ):  # initialisation, too, takes as long as its compiler
            states = [
                runs[i].restore(programs) if i in runs else programs.init(0) for i in range(seats)
            ]
        state = programs.join(states)
        del states
        hyper_of = {i: run.hyper for i, run in runs.items()}
        some = next(iter(hyper_of.values()), {})
        hyper_R = {
            k: np.array([hyper_of.get(i, some)[k] for i in range(seats)], np.float32) for k in some
        }
        hidden = bool(on_progress) or not multiprocess.writer()
        line = stack.enter_context(progress_bar.bar(list(runs.values()), hidden))

        def write_rows(flight) -> None:
            """Rows of one dispatch, whose metrics are waited for here."""
            nonlocal clock
            windows, metrics = flight
            metrics_RK = {k: np.asarray(v).reshape(seats, -1) for k, v in metrics.items()}
            still_mine()  # after the wait, since the runs may have been taken over meanwhile
            took, clock = time.perf_counter() - clock, time.perf_counter()
            moved = [i for i, w in windows.items() if w.end > w.begin]
            for i in moved:
                row = {k: v[i] for k, v in metrics_RK.items()}
                tokens = runs[i].log(windows[i], row, took / len(moved))
                line.update(tokens)
                if on_progress:
                    on_progress(tokens)
            line.set_postfix(progress_bar.figures(runs.values()), refresh=False)

        def evaluated() -> list[HeldOut]:
            def readings(batch_B):
                return programs.readings(state["params"], batch_B)

            return evaluate(readings, held_out, field, config.eval.batch_size)

        # ---- step, log, save
        pending = None
        while any(run.training for run in runs.values()):
            windows = {i: run.window() for i, run in runs.items()}
            batches = {i: runs[i].batch(w) for i, w in windows.items()}
            filler = next(iter(batches.values()))
            of_seats = [batches.get(i, filler) for i in range(seats)]
            begin_R, end_R, first_R = (
                np.array(
                    [getattr(windows[i], k) if i in runs else 0 for i in range(seats)], np.int32
                )
                for k in ("begin", "end", "first")
            )
            state, metrics = programs.train(
                state,
                hyper_R,
                programs.batch(jax.tree.map(lambda *x_KB: np.stack(x_KB), *of_seats)),
                first_R,
                begin_R,
                end_R,
            )
            flights: list[Any] = [pending] if pending else []
            pending = (windows, metrics)
            for i, run in runs.items():
                run.advance(windows[i])
            moved = [runs[i] for i, w in windows.items() if w.end > w.begin]
            saving = [run for run in moved if run.wants_checkpoint()]
            evaluating = [run for run in moved if run.wants_evaluation()]
            # asked once: a signal may come between any two lines
            stopping = agree(stop.caught, now=bool(saving or evaluating))
            # One dispatch stays in flight while the rows of the one before it are written;
            # before anything is saved the flight is awaited, so that only good states are.
            if saving or evaluating or stopping:
                flights, pending = [*flights, pending], None
            for flight in flights:
                write_rows(flight)
            if evaluating:
                found = evaluated()
                still_mine()
                for i, run in runs.items():
                    if run in evaluating and run.status == "active":
                        run.evaluated(found[i])
            if saving or stopping:
                still_mine()
                of_run = programs.split(state)
                for i, run in runs.items():
                    if run.status == "active" and (run in saving or stopping):
                        run.save(of_run[i])
                del of_run
            if stopping and any(run.training for run in runs.values()):
                names = ", ".join(f"{r.name} at step {r.done}" for r in runs.values() if r.training)
                for run in runs.values():
                    run.wait()
                raise Preempted(f"{stopping}: saved {names}")

        # ---- merge
        if any(run.merges for run in runs.values()):
            still_mine()
            of_run = programs.split(state)
            for i, run in runs.items():
                if run.merges:
                    of_run[i] = run.merged(of_run[i], programs.state_like)
            state = programs.join(of_run)
            del of_run

        # ---- evaluate and finish
        final = evaluated() if any(run.status == "active" for run in runs.values()) else []
        took = (time.perf_counter() - clock) / max(1, len(runs))
        for run in runs.values():
            run.seconds += took
            run.wait()  # a result without its last checkpoint could not be deployed
        agree("", now=True)
        for i, run in runs.items():
            if run.status == "active":
                run.evaluated(final[i])
            if run.paused and math.isfinite(final[i].loss):
                continue
            result = run.finish(final[i] if run.status == "active" else None)
            outcomes[seat_of.index(i)] = result
    return outcomes
