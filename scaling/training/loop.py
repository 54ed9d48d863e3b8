"""Training from first to last step: build, restore, step, log, evaluate, save, merge, finish.

A run trains alone, or beside others of equal shape as one program (`packed.Pack` hides which).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from scaling import results
from scaling.config.hashing import run_id
from scaling.parallel import multiprocess
from scaling.training import profiler, progress_bar
from scaling.training.packed import Dispatch, Outcome, Pack
from scaling.training.spec import RunSpec
from scaling.utils import signals

__all__ = ["run_id", "train_run", "train_runs"]


def train_run(
    config: ConfigDict,
    folder: Path,
    *,
    before_writing: Callable[[], None] | None = None,
    trace: int = 0,
    **spec,
) -> results.RunResult:
    """Train one run in `folder`, resume it, or return the result that it already has.

    `before_writing` and `trace` as in `train_runs`; further keywords are those of `RunSpec`. Raises
    UserError on bad input, Preempted after a signal (everything saved), and results.DamagedResult
    if the folder's result cannot be read. A non-finite loss or gradient ends the run with status
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
    """Train one run, or several of one program (equal `program_key`, equal data) side by side.

    Returns for every spec its result, the exception that ended it alone, or None if it paused.

    `on_progress` is called with the tokens trained since its last call, instead of a progress bar.
    `before_writing` is called before anything is written and may raise to leave the runs to others.
    `trace` dispatches are traced into the first run's folder, see `profiler.traced`.
    Raises Preempted after a signal, everything saved.
    """
    with signals.listening():
        multiprocess.check_signals()
        outcomes: list[Outcome] = [_outcome_on_disk(spec) for spec in specs]
        if not all(outcomes):
            _train(specs, outcomes, on_progress, before_writing, trace)
        return outcomes


def _train(
    specs: Sequence[RunSpec],
    outcomes: list[Outcome],
    on_progress: Callable[[int], None] | None,
    before_writing: Callable[[], None] | None,
    trace: int,
) -> None:
    """Train the runs that have no outcome, and enter their outcomes."""
    pack = Pack(specs)
    with contextlib.ExitStack() as stack:
        pack.enter(stack, outcomes, before_writing)
        if trace:
            programs = profiler.traced(pack.programs, specs[0].folder, trace)
            pack.programs = stack.enter_context(programs)
        stack.enter_context(multiprocess.guard())  # the last one entered is the first one left
        agree = multiprocess.Agreement(before_writing)
        pack.restore()
        multiprocess.check_signals()
        on_tokens = stack.enter_context(_progress(pack, on_progress))
        pack.evaluate_skipped(agree)

        in_flight: list[Dispatch] = []
        while pack.training:
            with signals.saving():
                dispatch = pack.dispatch()
                in_flight.append(dispatch)
                saving, evaluating = pack.due(dispatch)
                # Asked once per dispatch, since a signal may come between any two lines.
                stopping = agree(now=bool(saving or evaluating))
                # One dispatch stays in flight while the rows of the one before it are written.
                # Before anything is saved all are awaited, so that only good states are saved.
                kept = 0 if saving or evaluating or stopping else 1
                while len(in_flight) > kept:
                    pack.log(in_flight.pop(0), on_tokens)
            if evaluating and not stopping:
                stopping = pack.evaluate(evaluating, agree)
            if saving or stopping:
                pack.save(list(pack.runs) if stopping else saving)
            if stopping:
                pack.stop(stopping)

        pack.merge()
        for i, result in pack.finish(agree).items():
            outcomes[i] = result


def _outcome_on_disk(spec: RunSpec) -> Outcome:
    """Return the result of an ended run or the error of reading it, None for other runs."""
    path = spec.folder / "result.json"
    if not multiprocess.broadcast_from_writer(path.exists()):
        return None
    try:
        return results.read(path)
    except results.DamagedResult as error:
        return error


@contextlib.contextmanager
def _progress(
    pack: Pack, on_progress: Callable[[int], None] | None
) -> Iterator[Callable[[int], None]]:
    """Yield a function that reports trained tokens, to `on_progress` or by a bar."""
    hidden = bool(on_progress) or not multiprocess.writer()
    with progress_bar.bar(list(pack.runs.values()), hidden) as line:

        def report(tokens: int) -> None:
            line.update(tokens)
            if on_progress:
                on_progress(tokens)
            line.set_postfix(progress_bar.figures(pack.runs.values()), refresh=False)

        yield report
