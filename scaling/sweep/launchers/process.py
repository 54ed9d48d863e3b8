"""Start one worker process in its slot, restart it when it dies, stop it so that it saves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from scaling.sweep.shared import workdir_url
from scaling.utils.errors import EXIT_BAD_INPUT, EXIT_INCOMPLETE, EXIT_PREEMPTED, UserError

POLL_SECONDS = 0.2  # between looks at a worker process
PYTHON = (sys.executable, "-P")  # which imports nothing from the current folder
MAX_DEATHS = 5  # deaths in a row, with no run finished in between, before a slot is given up


def command(workdir: Path | str, launch_id: str) -> list[str]:
    """Return the command line of a worker on any machine that sees the workdir, folder or URL."""
    return [*PYTHON, "-m", "scaling", "work", f"--workdir={workdir}", f"--launch={launch_id}"]


def python_path() -> str:
    """Return the $PYTHONPATH with which workers find this package, even if it is not installed."""
    known = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    folder = unknown_folder()
    return os.pathsep.join(
        known if folder is None or str(folder) in known else [str(folder), *known]
    )


def unknown_folder() -> Path | None:
    """Return the folder that holds this package, None if `python -P` looks there by itself.

    It is not added without need, since the modules beside this package come before installed ones.
    """
    root = Path(__file__).resolve().parents[3]
    return None if str(root) == sysconfig.get_path("purelib") or _installed_from(root) else root


def _installed_from(root: Path) -> bool:
    """Return whether pip installed this package from a folder, as editable (PEP 610)."""
    sources = (d.read_text("direct_url.json") for d in metadata.distributions(name="scaling"))
    return any(json.loads(source).get("url") == root.as_uri() for source in sources if source)


@dataclass(frozen=True)
class Outcome:
    """The end of a worker."""

    problems: list[str]  # one line per death
    refusal: str = ""  # the reason if it refused its input
    done: bool = False  # it found no work left


class Worker:
    """A worker process and its successors in one slot.

    `ended` is "" while the worker runs, then the reason: done, stopped, refused or given up.
    `problems` has one line per death, and the reason if the slot was given up. If the workdir is a
    URL, the logs are in its scratch folder on this machine.
    """

    def __init__(
        self,
        name: str,
        workdir: Path | str,
        launch_id: str,
        cores: Sequence[int] = (),
        env: dict[str, str] | None = None,
    ):
        store = workdir_url.open_workdir(workdir)
        self.name, self.workdir, self.launch_id = name, store.path, launch_id
        self.command = command(store.name, launch_id)
        self.log = self.workdir / "logs" / f"{launch_id}-{name}.log"
        self.cores = ",".join(map(str, cores))
        # one process per run, whatever srun started the launcher or its Ray cluster
        self.env = {"PYTHONPATH": python_path(), "SCALING_PROCESSES": "1", **(env or {})}
        self.problems: list[str] = []
        self.ended = ""
        self.stopping = False
        self._deaths, self._finished = 0, -1
        self._start()

    def _start(self) -> None:
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            log = open(self.log, "ab")  # noqa: SIM115
        except OSError as error:
            raise UserError(
                f"{self.log}: cannot be written ({error.strerror}); choose another --workdir, or "
                "free some space"
            ) from error
        slot = [*PYTHON, "-m", "scaling.sweep.launchers.slot", f"--parent={os.getpid()}"]
        if self.cores:
            slot.append(f"--cores={self.cores}")
        with log:
            self._log_start = log.tell()
            # its own session, so that Ctrl-C reaches only the launcher, which forwards it once
            self.process = subprocess.Popen(
                [*slot, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.env},
                start_new_session=True,
            )

    def poll(self) -> bool:
        """Return whether the worker still runs; restart it if it died."""
        if self.ended:
            return False
        code = self.process.poll()
        if code is None:
            return True
        if code in (0, EXIT_INCOMPLETE):
            self.ended = "done"
        elif code == EXIT_BAD_INPUT:
            self.ended = "refused"
        elif self.stopping:
            self.ended = "stopped"
        else:
            return self._replace(code)
        return False

    def stop(self) -> None:
        """Tell the worker to save and end; `poll` returns False once it has."""
        self.stopping = True
        self.process.send_signal(signal.SIGTERM)

    def outcome(self) -> Outcome:
        """Return the end of the worker, decided by its exit code; a log line is only shown."""
        refusal = self.last_line().removeprefix("error: ") if self.ended == "refused" else ""
        return Outcome(self.problems, refusal, self.ended == "done")

    def last_line(self) -> str:
        """Return the last line of this process in its log, e.g. the reason of a refusal."""
        with open(self.log, "rb") as log:
            log.seek(self._log_start)
            lines = log.read()[-10_000:].decode(errors="replace").split("\n")
        return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "no output")

    def _replace(self, code: int) -> bool:
        """Restart a dead worker, unless it died too often; return whether it runs again."""
        ends = ("result.json", "failure.json")  # a run that is given up counts as progress
        finished = sum(1 for end in ends for _ in self.workdir.glob(f"runs/*/{end}"))
        self._deaths = self._deaths + 1 if finished == self._finished else 1
        self._finished = finished
        restart = self._deaths < MAX_DEATHS
        self.problems.append(
            f"{self.name} {self._reason(code)}; "
            + ("restarted" if restart else f"given up after {self._deaths} times; see {self.log}")
        )
        try:
            if restart:
                self._start()
        except UserError as error:  # a full disk stops this slot, not the others
            self.problems.append(f"{self.name} was not restarted: {error}")
            restart = False
        self.ended = "" if restart else "given up"
        return restart

    def _reason(self, code: int) -> str:
        if code == -signal.SIGKILL:
            return "was killed by SIGKILL, which the kernel sends when memory runs out"
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        if code == EXIT_PREEMPTED:
            return "was stopped by a signal of another process"
        return f"ended with exit code {code} ({self.last_line()})"


def summary(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the problems of ended workers, one line each.

    Raises UserError if all of them refused their input.
    """
    refusals = [outcome.refusal for outcome in outcomes if outcome.refusal]
    if refusals and len(refusals) == len(outcomes):
        raise UserError(refusals[0])
    return [*refusals, *(line for outcome in outcomes for line in outcome.problems)]
