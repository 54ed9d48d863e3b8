"""Opening a workdir: a folder as it is, one on an object store (s3://, gs://) with its scratch folder.

    place = remote.open_workdir(url)   # then place.path is a folder like any workdir

Everything else takes that folder as its workdir; where it must know what others did, or let others know,
it opens the folder again, which gives the same `place`, and pulls or pushes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from scaling.sweep.shared.claims import Claims
from scaling.sweep.shared.object_store import Mirror
from scaling.sweep.shared.storage import is_remote
from scaling.sweep.shared.workdir import Workdir
from scaling.utils.errors import UserError, one_line

log = logging.getLogger("scaling")

WAITS = (1.0, 5.0, 20.0)  # seconds between tries at a store that does not answer
_opened: dict[Path, Mirror] = {}  # of this process, by scratch folder


def open_workdir(workdir: Path | str, *, create: bool = True) -> Workdir:
    """The workdir at a path or URL, or the one whose scratch folder the path is.

    Raises UserError where a URL cannot be read or written, or, without `create`, holds no workdir.
    """
    if not is_remote(workdir):
        return _opened.get(Path(workdir)) or Workdir(Path(workdir))
    url = str(workdir).rstrip("/")
    try:
        place = Mirror(url, create)
    except OSError as error:
        raise UserError(
            f"--workdir={url} cannot be used ({one_line(error, 200)}); check the bucket, the credentials and "
            "the network"
        ) from error
    _opened[place.path] = place
    return place


def retry(call: Callable[..., Any], *args, **options) -> Any:
    """The answer of a method of a workdir, tried again while its store does not answer.

    Raises UserError after the last try.
    """
    for wait in WAITS:
        try:
            return call(*args, **options)
        except OSError as error:
            log.warning("warning: the workdir's store: %s; trying again", one_line(error, 200))
            time.sleep(wait)
    try:
        return call(*args, **options)
    except OSError as error:
        raise UserError(
            f"--workdir: its store does not answer ({one_line(error, 200)}); the same command goes on once it does"
        ) from error


def push_if_reachable(place: Workdir, folders: Iterable[Path]) -> None:
    """Push runs that are being trained; where the store does not answer, the next call does it."""
    try:
        for folder in folders:
            place.push(folder)
    except OSError as error:
        log.warning("warning: a checkpoint is not uploaded yet: %s", one_line(error, 200))


def live_runs(place: Workdir, options) -> set[str]:
    """Run ids whose claim is alive; their metrics so far and all results are fetched, where need be.

    `options` is config.launch. Raises OSError where the store does not answer.
    """
    claims = Claims(
        place.claims, heartbeat=options.heartbeat_seconds, stale_after=options.stale_seconds
    )
    alive = {name for name, holder in claims.holders().items() if holder.alive}
    place.pull_results(running=alive)
    return alive


def watch(place: Workdir, options) -> set[str] | None:
    """`live_runs` for a bar: None where that is not known, or a folder, whose files tell it for less."""
    if isinstance(place, Mirror):
        try:
            return live_runs(place, options)
        except OSError as error:
            log.warning("warning: the workdir's store: %s", one_line(error, 200))
    return None
