"""Open a workdir: a folder, or an object store (s3://, gs://) with its scratch folder.

    store = workdir_url.open_workdir(url)   # store.path is a folder like any workdir

All other code takes that folder as its workdir. To exchange files with other machines it opens the
folder again, which returns the same `store`, and pulls or pushes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from scaling.sweep.shared.claims import Claims
from scaling.sweep.shared.object_store import Mirror
from scaling.sweep.shared.storage import is_remote
from scaling.sweep.shared.workdir import Workdir
from scaling.utils import signals
from scaling.utils.errors import UserError, one_line

log = logging.getLogger("scaling")

WAITS = (1.0, 5.0, 20.0)  # seconds between retries while a store is unreachable
_opened: dict[Path, Mirror] = {}  # the stores that this process opened, by scratch folder


def open_workdir(workdir: Path | str, *, create: bool = True) -> Workdir:
    """Open the workdir at a path, a URL, or the scratch folder of a URL.

    Raises UserError if a URL cannot be read or written, or, without `create`, holds no workdir.
    """
    if not is_remote(workdir):
        return _opened.get(Path(workdir)) or Workdir(Path(workdir))
    url = str(workdir).rstrip("/")
    try:
        store = Mirror(url, create)
    except OSError as error:
        raise UserError(
            f"--workdir={url} cannot be used ({one_line(error, 200)}); check the bucket, the "
            "credentials and the network"
        ) from error
    _opened[store.path] = store
    return store


def retry(call: Callable[..., Any], *args, **options) -> Any:
    """Call a workdir method, retrying while the store is unreachable.

    Raises UserError after the last retry, Preempted after a signal.
    """
    for wait in WAITS:
        try:
            return call(*args, **options)
        except OSError as error:
            log.warning("warning: the workdir's store: %s; trying again", one_line(error, 200))
            signals.pause(wait)
    try:
        return call(*args, **options)
    except OSError as error:
        raise UserError(
            f"--workdir: its store does not answer ({one_line(error, 200)}); run the same command "
            "again once it does, and it resumes"
        ) from error


def push_if_reachable(store: Workdir, folders: Iterable[Path]) -> None:
    """Upload runs in training; while the store is unreachable, leave it to the next call."""
    try:
        for folder in folders:
            store.push(folder)
    except OSError as error:
        log.warning("warning: a checkpoint is not uploaded yet: %s", one_line(error, 200))


def live_runs(store: Workdir, options) -> set[str]:
    """Return the run ids whose claim is alive; download their metrics and all results.

    `options` is config.launch. Raises OSError if the store is unreachable.
    """
    claims = Claims(
        store.claims, heartbeat=options.heartbeat_seconds, stale_after=options.stale_seconds
    )
    alive = {name for name, holder in claims.holders().items() if holder.alive}
    store.pull_results(running=alive)
    return alive


def watch(store: Workdir, options) -> set[str] | None:
    """Return `live_runs` of an object store for a progress bar.

    Returns None if the store is unreachable, and for a folder, whose files show the same for less.
    """
    if isinstance(store, Mirror):
        try:
            return live_runs(store, options)
        except OSError as error:
            log.warning("warning: the workdir's store: %s", one_line(error, 200))
    return None
