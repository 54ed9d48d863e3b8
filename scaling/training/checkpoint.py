"""Save and restore checkpoints of one run through orbax: asynchronous, atomic, keep-last-n.

Each step holds two items: `state` (parameters and optimizer state, restored into the requested
shardings) and `position` (steps done, seconds so far, the step at which the run was forked, the
hash of the run's config). The position holds a hash of the state, and a seal of itself.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from scaling.parallel import multiprocess
from scaling.utils import files, signals
from scaling.utils.errors import UserError, one_line

log = logging.getLogger("scaling")

# Errors of the machine, which say nothing about the checkpoint.
MACHINE = (
    errno.EACCES, errno.EPERM, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO,
    errno.ETIMEDOUT,
)  # fmt: skip
# The same as codes of JAX's errors (absl::StatusCode): deadline exceeded, permission denied,
# resource exhausted, unavailable.
MACHINE_CODES = (4, 7, 8, 14)
READ_BYTES = 1 << 20
SUMS = "sums:"  # before the digest of sums
SPREAD = np.uint64(0x9E3779B97F4A7C15)  # odd, 2^64 over the golden ratio


class Checkpoints:
    """The checkpoints below one folder. Use as a context manager: leaving waits for pending saves.

    The newest `keep` stay, and those of `keep_steps`; with `keep` None nothing is ever deleted.
    Threads write `asynchronous` saves. `run`, if known, is the hash of the run's config: a
    checkpoint of another run counts as damaged.
    """

    def __init__(
        self,
        folder: Path,
        keep: int | None,
        keep_steps: tuple[int, ...] = (),
        asynchronous: bool = True,
        run: str = "",
    ):
        self.folder, self._keep, self._keep_steps = folder.absolute(), keep, keep_steps
        self._asynchronous, self._run = asynchronous, run

    @functools.cached_property
    def _manager(self):
        """orbax's manager, made by the first save or restore: a new run first trains without it."""
        import orbax.checkpoint as ocp
        from orbax.checkpoint import checkpoint_managers as preservation

        for name in ("absl", "asyncio"):  # orbax logs each phase of a save, and errors it raises
            logging.getLogger(name).setLevel(logging.CRITICAL)
        _drop_stray_errors()
        policies = [preservation.LatestN(self._keep), preservation.CustomSteps(self._keep_steps)]
        options = ocp.CheckpointManagerOptions(
            preservation_policy=preservation.AnyPreservationPolicy(policies),
            enable_async_checkpointing=self._asynchronous,
            read_only=self._keep is None,
        )
        return ocp.CheckpointManager(self.folder, options=options)

    @property
    def _untouched(self) -> bool:
        return "_manager" not in self.__dict__

    @property
    def _empty(self) -> bool:
        """Return whether this process alone knows that nothing was saved here."""
        if multiprocess.count() > 1:
            return False
        return not (self.folder.is_dir() and any(p.is_dir() for p in self.folder.iterdir()))

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def close(self) -> None:
        """Wait for pending saves. Raises UserError if one of them failed."""
        if self._untouched:
            return
        try:
            self.wait()
        finally:
            with self._writing():  # it raises the errors of threads once more
                self._manager.close()

    def save(self, step: int, state: Any, position: dict[str, Any]) -> None:
        """Start saving. Once this returns the buffers of `state` may be donated.

        On accelerators they were copied; on CPUs XLA does not donate a buffer that a save still
        reads. Raises UserError if this save, or the one before, cannot be written.
        """
        import orbax.checkpoint as ocp

        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)  # orbax's threads would hang without it
            if step in self._manager.all_steps():
                return
        position = files.sealed(
            {"step": step, "state_sha256": _digest(state), "run": self._run, **position}
        )
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(jax.tree.map(_one_copy, state)),
            position=ocp.args.JsonSave(position),
        )
        with self._writing():
            self._manager.save(step, args=items)

    def steps(self) -> list[int]:
        return list(self._manager.all_steps())

    def wait(self) -> None:
        """Wait until all saves are on disk. Raises UserError if one of them failed."""
        if self._untouched:
            return
        with self._writing():
            self._manager.wait_until_finished()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with signals.saving():
                yield
        except (OSError, ValueError) as error:  # tensorstore raises ValueError for all disk errors
            reason = one_line(error).replace(f"{self.folder}/", "")
            raise UserError(
                f"{self.folder} cannot be written ({reason[:200]}); make room or make it writable"
            ) from error

    def restore(self, like: Any, at_most: int | None = None) -> tuple[Any, dict[str, Any]] | None:
        """Return the newest intact (state, position), of at most `at_most` steps; None without one.

        `like` is a tree of `jax.ShapeDtypeStruct` with shardings. A damaged checkpoint is reported,
        moved to `damaged/`, and the one before it is tried. Raises UserError if the machine fails.
        """
        if self._untouched and self._empty:
            return None
        import orbax.checkpoint as ocp

        if self._untouched:
            self._set_unlisted_aside()
        for step in sorted(self._manager.all_steps(), reverse=True):
            if at_most is not None and step > at_most:
                continue
            items = ocp.args.Composite(
                state=ocp.args.StandardRestore(like), position=ocp.args.JsonRestore()
            )
            reason = ""
            try:
                restored = self._manager.restore(step, args=items)
                state, position = restored["state"], files.unsealed(restored["position"])
                self._check(step, position)
            except Exception as error:  # damage shows as almost any type, depending on the file
                if _is_machine_error(error, self.folder / str(step)):
                    raise UserError(
                        f"{self.folder / str(step)} cannot be read now ({one_line(error, 200)}); "
                        "it is left unchanged, and the same command continues with it"
                    ) from error
                reason = one_line(error, 200)
            if not multiprocess.any_process(bool(reason)):  # all have it, so all compare it
                saved = position["state_sha256"]
                differs = bool(saved) and _digest(state, like=saved) != saved
                if not multiprocess.any_process(differs):
                    return state, position
                reason = "its content differs from what was saved"
            self._set_aside(step, reason or "as another process finds")
            multiprocess.any_process(False)  # the others wait for the move
            self._manager.reload()
        return None

    def _set_unlisted_aside(self) -> None:
        """Set checkpoints aside with which orbax could not even list the others."""
        for path in sorted(self.folder.glob("*/_CHECKPOINT_METADATA")):
            try:
                if path.parent.name.isdecimal():
                    files.read_json(path)
            except files.Damaged as error:
                self._set_aside(int(path.parent.name), one_line(error, 200))
        multiprocess.any_process(False)

    def _set_aside(self, step: int, reason: str) -> None:
        """Move a damaged checkpoint out of the way, with a warning. Only the writer does."""
        if multiprocess.writer():
            log.warning(
                "warning: checkpoint %s of %s is damaged (%s); falling back to the one before",
                *(step, self.folder, reason),
            )
            aside = self.folder.parent / "damaged" / f"{step}-{time.time_ns()}"
            with self._writing():
                aside.parent.mkdir(exist_ok=True)
                (self.folder / str(step)).rename(aside)

    def _check(self, step: int, position: dict[str, Any]) -> None:
        """Raise ValueError unless the position is that of this step and run."""
        if not isinstance(position["state_sha256"], str):
            raise ValueError("its hash is no text")
        if position["step"] != step:
            raise ValueError(f"it is of step {position['step']}")
        files.check_numbers({"elapsed": 0, "forked_at": 0, **position}, "elapsed", "forked_at")
        of_run = position.get("run")  # older checkpoints do not say
        if self._run and of_run and of_run != self._run:
            raise ValueError(f"it is of another run, {of_run}")


@functools.cache
def _drop_stray_errors() -> None:
    """Print no exception of orbax's coroutines and callbacks that nobody waits for.

    The first fault of a damaged checkpoint ends its restore. All further reads of it then fail in
    other threads, each with its own stack, up to seconds later.
    """
    warnings.filterwarnings("ignore", r"coroutine '.*' was never awaited", RuntimeWarning)
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        trace, names = unraisable.exc_traceback, []
        while trace:
            names.append(trace.tb_frame.f_code.co_filename)
            trace = trace.tb_next
        code = getattr(unraisable.object, "cr_code", None)
        names += [code.co_filename] if code else []
        of_orbax = any(f"{os.sep}orbax{os.sep}" in name for name in names)
        if not of_orbax and {Path(name).parent.name for name in names} != {"asyncio"}:
            before(unraisable)

    sys.unraisablehook = hook


def _is_machine_error(error: Exception, folder: Path) -> bool:
    """Return whether memory, permissions or the network failed rather than the checkpoint."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) in MACHINE:
        return True
    if getattr(error, "error_code", None) in MACHINE_CODES:
        return True
    try:  # tensorstore raises ValueError for every cause, so read the files without it
        for path in folder.rglob("*"):
            if path.is_file():
                with open(path, "rb") as file:
                    while file.read(READ_BYTES):
                        pass
    except OSError as unreadable:
        return unreadable.errno in MACHINE
    return False


def _one_copy(leaf: jax.Array) -> jax.Array:
    """Return the first device's copy of a leaf that every device holds, with one process.

    Orbax would save a slice from each device, which pays only if processes share the writing.
    """
    if multiprocess.count() > 1 or not leaf.is_fully_replicated:
        return leaf
    return leaf.addressable_shards[0].data


def _digest(state: Any, like: str = "") -> str:
    """Return the SHA-256 over all leaves in order, or the one over `SUMS` of them.

    Sums are for a state in shards of several processes, none of which holds a whole leaf. All
    processes call this. `like` is a digest to compare with, which may be of the other kind.
    """
    leaves = jax.tree.leaves(state)
    whole = all(leaf.is_fully_addressable or leaf.is_fully_replicated for leaf in leaves)
    if like.startswith(SUMS) or (not like and not whole):
        sums_L = np.array([_sum(leaf) for leaf in leaves], np.uint64)
        if multiprocess.count() > 1:
            sums_L = multiprocess.sum_over_processes(sums_L)
        return SUMS + hashlib.sha256(sums_L.tobytes()).hexdigest()
    digest = hashlib.sha256()
    for leaf in leaves:
        content = leaf if whole else multiprocess.gather_whole(leaf)
        digest.update(np.ascontiguousarray(content).view(np.uint8).data)
    return digest.hexdigest()


def _sum(leaf: jax.Array) -> int:
    """Return the sum, modulo 2^64, of the bits of this process's elements times odd numbers.

    The number follows from an element's place in the whole array, so the sum over all processes
    depends on no layout. Any changed bit changes it.
    """
    total = 0
    for shard in leaf.addressable_shards:
        if shard.replica_id != 0:
            continue
        part = np.asarray(shard.data)
        bits = part.view(f"u{part.dtype.itemsize}").astype(np.uint64)
        place = np.zeros((1,) * part.ndim, np.uint64)
        for axis, (span, size) in enumerate(zip(shard.index, leaf.shape, strict=True)):
            along = np.arange(*span.indices(size), dtype=np.uint64)
            place = place * np.uint64(size) + along.reshape([-1] + [1] * (part.ndim - axis - 1))
        total += int(np.sum(bits * ((2 * place + 1) * SPREAD), dtype=np.uint64))
    return total % 2**64
