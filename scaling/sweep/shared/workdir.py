"""The interface of a workdir: upload and download runs, which a local folder does not need."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


class Workdir:
    """A workdir that is a folder: all uploads and downloads do nothing.

    A workdir on an object store (`scaling.sweep.shared.object_store`) has a scratch folder, and
    these methods copy between the two.
    """

    poll_seconds = 0.0  # between checks of other workers' progress, if a check costs requests

    def __init__(self, path: Path):
        self.path = path
        self.name = str(path)  # as --workdir names it
        self.shared: Path | str = path  # the folder or URL that all workers see
        self.claims: Path | str = path / "claims"  # the folder or URL of `Claims`

    def push(self, run_dir: Path) -> None:
        """Upload the new files of a run if it has a new checkpoint or has ended."""

    def pull(self, run_dir: Path, step: int | None = None) -> None:
        """Download a run: its files, its result, and its newest checkpoint if that is new here.

        With `step`, download the newest checkpoint of at most that step, for a run forked from it.
        """

    def has(self, run_dir: Path, step: int) -> bool:
        """Return whether the run's checkpoint of that step is finished."""
        return (run_dir / "checkpoints" / str(step)).is_dir()

    def push_ended(self) -> None:
        """Upload the results that a killed worker left here."""

    def push_table(self, *names: str) -> None:
        """Upload new files outside the runs (sweep.json, tables, curves), or only those named."""

    def pull_results(self, running: Iterable[str] = (), curves: bool = False) -> None:
        """Download all results and failures, and the metrics of the runs named in `running`.

        With `curves`, also download the metrics and configs of all ended runs, for fits.
        """
