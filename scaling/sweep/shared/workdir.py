"""What a workdir is to those who work on it; a local folder needs none of it done."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


class Workdir:
    """A workdir that is a folder: nothing to push or to pull.

    One on an object store (`scaling.sweep.shared.object_store`) has a scratch folder, and keeps the two alike.
    """

    poll_seconds = 0.0  # between looks at what others did, where a look costs requests

    def __init__(self, path: Path):
        self.path = path
        self.name = str(path)  # as --workdir names it
        self.shared: Path | str = path  # what all workers see
        self.claims: Path | str = path / "claims"  # where `Claims` are kept

    def push(self, run_dir: Path) -> None:
        """Upload what is new of a run, where a new checkpoint is finished or the run has ended."""

    def pull(self, run_dir: Path, step: int | None = None) -> None:
        """Fetch a run: its result and files, and its newest checkpoint, if newer than those here.

        With `step`, for a run forked from it, the newest checkpoint of at most that step instead.
        """

    def has(self, run_dir: Path, step: int) -> bool:
        """Whether the run's checkpoint of that step is finished."""
        return (run_dir / "checkpoints" / str(step)).is_dir()

    def push_ended(self) -> None:
        """Upload the results that a killed worker left here."""

    def push_table(self, *names: str) -> None:
        """Upload what is new outside the runs: sweep.json, tables, curves; or only what is named."""

    def pull_results(self, running: Iterable[str] = (), curves: bool = False) -> None:
        """Fetch all results and failures, and the metrics so far of the runs named in `running`.

        With `curves` also the metrics and configs of all runs that have ended, for fits.
        """
