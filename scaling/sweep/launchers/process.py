"""One worker process: started in its slot, started again where it dies, stopped so that it saves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scaling.sweep.shared import workdir_url
from scaling.utils.errors import EXIT_BAD_INPUT, EXIT_INCOMPLETE, EXIT_PREEMPTED, UserError

POLL_SECONDS = 0.2  # between looks at a worker process
DEATHS_IN_VAIN = 5  # deaths in a row, with no run finished between them, until a slot is given up


def command(workdir: Path | str, launch_id: str) -> list[str]:
    """What a worker is, on any machine that sees the workdir, a folder or a URL."""
    return [
        sys.executable,
        "-m",
        "scaling",
        "work",
        f"--workdir={workdir}",
        f"--launch={launch_id}",
    ]


def python_path() -> str:
    """$PYTHONPATH under which this very package is found again, also where it is not installed."""
    root = str(Path(__file__).resolve().parents[3])
    known = os.environ.get("PYTHONPATH", "")
    if root in (*known.split(os.pathsep), sysconfig.get_path("purelib")):
        return known
    return os.pathsep.join(filter(None, (root, known)))


@dataclass(frozen=True)
class Outcome:
    """How a worker ended: one line per death, why it refused its input, and whether it found nothing left to do."""

    problems: list[str]
    refusal: str = ""
    done: bool = False


class Worker:
    """A worker process and its successors, all of one slot.

    `ended` is "" while it is to be waited for, then the reason: done, stopped, refused or given up.
    `problems` has one line for every death, and why it was given up. Where the workdir is a URL, the
    logs lie in this machine's scratch folder of it.
    """

    def __init__(
        self,
        name: str,
        workdir: Path | str,
        launch_id: str,
        cores: Sequence[int] = (),
        env: dict[str, str] | None = None,
    ):
        place = workdir_url.open_workdir(workdir)
        self.name, self.workdir, self.launch_id = name, place.path, launch_id
        self.command = command(place.name, launch_id)
        self.log = self.workdir / "logs" / f"{launch_id}-{name}.log"
        self.cores = ",".join(map(str, cores))
        # alone, whatever srun the launcher, or the Ray that it speaks to, was started by
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
                f"{self.log}: cannot be written ({error.strerror}); choose another --workdir, or make room"
            ) from error
        slot = [sys.executable, "-m", "scaling.sweep.launchers.slot", f"--parent={os.getpid()}"]
        if self.cores:
            slot.append(f"--cores={self.cores}")
        with log:
            self._log_start = log.tell()
            # in a session of its own, so that Ctrl-C reaches the launcher alone, which passes it on once
            self.process = subprocess.Popen(
                [*slot, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.env},
                start_new_session=True,
            )

    def poll(self) -> bool:
        """Whether there is still something to wait for; starts a worker that died again."""
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
        """Ask the worker to save and end; `poll` tells when it has."""
        self.stopping = True
        self.process.send_signal(signal.SIGTERM)

    def outcome(self) -> Outcome:
        refusal = self.last_line().removeprefix("error: ") if self.ended == "refused" else ""
        return Outcome(self.problems, refusal, self.ended == "done")

    def last_line(self) -> str:
        """The last line that this process wrote to its log, e.g. why it refused its input."""
        with open(self.log, "rb") as log:
            log.seek(self._log_start)
            lines = log.read()[-10_000:].decode(errors="replace").split("\n")
        return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "no output")

    def _replace(self, code: int) -> bool:
        ends = ("result.json", "failure.json")  # a run that is given up is progress, too
        finished = sum(1 for end in ends for _ in self.workdir.glob(f"runs/*/{end}"))
        self._deaths = self._deaths + 1 if finished == self._finished else 1
        self._finished = finished
        again = self._deaths < DEATHS_IN_VAIN
        self.problems.append(
            f"{self.name} {self._reason(code)}; "
            + ("started again" if again else f"given up after {self._deaths} times; see {self.log}")
        )
        try:
            if again:
                self._start()
        except UserError as error:  # a full disk stops this slot, not its siblings
            self.problems.append(f"{self.name} was not started again: {error}")
            again = False
        self.ended = "" if again else "given up"
        return again

    def _reason(self, code: int) -> str:
        if code == -signal.SIGKILL:
            return "was killed by SIGKILL, which the kernel sends where memory runs out"
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        if code == EXIT_PREEMPTED:
            return "was stopped by a signal from elsewhere"
        return f"ended with exit code {code} ({self.last_line()})"


def summary(outcomes: Sequence[Outcome]) -> list[str]:
    """The problems of workers that have ended, one line each.

    Raises UserError where all of them refused their input.
    """
    refused = [outcome.refusal for outcome in outcomes if outcome.refusal]
    if refused and len(refused) == len(outcomes):
        raise UserError(refused[0])
    return [*refused, *(line for outcome in outcomes for line in outcome.problems)]
