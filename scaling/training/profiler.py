"""Trace a few steady dispatches of a run, for XProf, TensorBoard's profile tab or Perfetto.

The trace lies with the run's curves, in `<run>/tensorboard/plugins/profile/<time>/`.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

from ml_collections import ConfigDict

from scaling.config import load as config_lib
from scaling.utils.errors import UserError

SKIPPED = 2  # dispatches before the trace: the first compiles, the second fills the pipeline


def traces(folder: Path) -> list[Path]:
    """Return the traces of the run in `folder`, oldest first."""
    return sorted((folder / "tensorboard" / "plugins" / "profile").glob("*/*.xplane.pb"))


def summary(folder: Path) -> str:
    """Return one line: the path of the newest trace, or that nothing was traced."""
    paths = traces(folder)
    if not paths:  # the run resumed from a checkpoint near its end
        return "--profile: nothing traced, the run had too few dispatches left"
    return f"trace: {paths[-1]} (xprof --logdir={folder / 'tensorboard'})"


def check(config: ConfigDict, folder: Path, dispatches: int) -> None:
    """Raise UserError if the run in `folder` has nothing left to trace, or is too short for it."""
    if (folder / "result.json").exists() and not traces(folder):
        raise UserError(f"--profile: {folder.name} is done, untraced; choose another --workdir")
    steps, K = config_lib.schedule_steps(config)["total"], config.train.steps_per_dispatch
    needed = SKIPPED + dispatches
    if -(-steps // K) < needed:
        fitting = max(1, (steps - 1) // (needed - 1))
        fix = (
            f"lower config.train.steps_per_dispatch={K} to {fitting} or " if steps > needed else ""
        )
        raise UserError(
            f"--profile={dispatches} traces dispatches {SKIPPED + 1} to {needed}, and a run of "
            f"{steps} steps has {-(-steps // K)}; {fix}raise config.train.tokens"
        )


@contextlib.contextmanager
def traced(programs, folder: Path, dispatches: int) -> Iterator:
    """Yield `programs` that trace their training calls number SKIPPED to SKIPPED + dispatches.

    The trace holds these dispatches whole and alone, with the host's work meanwhile: it waits for
    the device before and after. Each dispatch is a step named "train" of the trace.
    """
    import jax

    calls, tracing = 0, False

    def train(state, hyper_R, tokens, first_R, begin_R, end_R):
        nonlocal calls, tracing
        if calls == SKIPPED:
            jax.block_until_ready(state)
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level = 0  # calls of Python would be most of the file
            jax.profiler.start_trace(folder / "tensorboard", profiler_options=options)
            tracing = True
        with jax.profiler.StepTraceAnnotation("train", step_num=int(first_R[0])):
            result = programs.train(state, hyper_R, tokens, first_R, begin_R, end_R)
        calls += 1
        if calls == SKIPPED + dispatches:
            jax.block_until_ready(result)
            jax.profiler.stop_trace()
            tracing = False
        return result

    try:
        yield dataclasses.replace(programs, train=train)
    finally:
        if tracing:  # the run ended within the trace, stopped or diverged
            jax.profiler.stop_trace()
