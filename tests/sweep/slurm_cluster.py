"""Run a real Slurm on loopback: munged, slurmctld and slurmd as this user, all files in a folder.

The partition `debug` has one node. The partition `pair` has a second node, another slurmd on the
same machine, named localhost, since nodes find each other by name.

It uses Debian's `munge` and `slurm-wlm`, no services, and no files outside the folder, so that it
can run beside a cluster's own Slurm. Options: slurm.conf(5), without accounting, cgroups and MPI.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol")
PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))

CONF = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SlurmdParameters=config_overrides
SchedulerParameters=sched_min_interval=0
ReturnToService=2
KillWait=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
NodeName={host} NodeAddr=127.0.0.1 Port={node_port} CPUs=2 State=UNKNOWN
NodeName=localhost NodeHostname={host} NodeAddr=127.0.0.1 Port={second_port} CPUs=2 State=UNKNOWN
PartitionName=debug Nodes={host} Default=YES MaxTime=60 State=UP
PartitionName=pair Nodes={host},localhost MaxTime=60 State=UP
"""


def missing() -> list[str]:
    """Return the programs of Slurm and munge that are not installed here."""
    return [name for name in PROGRAMS if not shutil.which(name, path=PATH)]


@contextlib.contextmanager
def running() -> Iterator[dict[str, str]]:
    """Start the cluster; yield the environment variables of its commands and libraries."""
    folder = Path(
        tempfile.mkdtemp(prefix="slurm-")
    )  # short: the path of a socket is at most 107 bytes
    host = socket.gethostname().split(".")[0]
    for name in ("state", f"spool-{host}", "spool-localhost"):
        (folder / name).mkdir()
    conf = folder / "slurm.conf"
    conf.write_text(
        CONF.format(
            folder=folder,
            host=host,
            user=getpass.getuser(),
            controller_port=_free_port(),
            node_port=_free_port(),
            second_port=_free_port(),
        )
    )
    (folder / "munge.key").write_bytes(secrets.token_bytes(128))
    (folder / "munge.key").chmod(0o600)
    env = {"SLURM_CONF": str(conf), "PATH": PATH}
    daemons = [
        ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket",
         f"--key-file={folder}/munge.key", f"--log-file={folder}/munged.log",
         f"--pid-file={folder}/munged.pid", f"--seed-file={folder}/munged.seed"],
        ["slurmctld", "-D", "-f", str(conf)],
        ["slurmd", "-D", "-f", str(conf), "-N", host],
        ["slurmd", "-D", "-f", str(conf), "-N", "localhost"],
    ]  # fmt: skip
    started: list[subprocess.Popen] = []
    with open(folder / "daemons.log", "wb") as log:
        try:
            for daemon in daemons:
                program = shutil.which(daemon[0], path=PATH)
                started.append(
                    subprocess.Popen(
                        [str(program), *daemon[1:]],
                        stdout=log,
                        stderr=log,
                        env={**os.environ, **env},
                    )
                )
                time.sleep(0.5)
            _wait_until_idle(env, folder)
            yield env
        finally:
            subprocess.run(
                ["scancel", "--full", f"--user={getpass.getuser()}"],
                env={**os.environ, **env},
                check=False,
            )
            for process in reversed(started):
                process.terminate()
            for process in reversed(started):
                try:
                    process.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    process.kill()
    shutil.rmtree(folder, ignore_errors=True)


def _wait_until_idle(env: dict[str, str], folder: Path) -> None:
    deadline = time.time() + 30
    while time.time() < deadline:
        done = subprocess.run(
            ["sinfo", "-N", "-h", "-p", "pair", "-o", "%T"],
            env={**os.environ, **env},
            capture_output=True,
            text=True,
        )
        if done.stdout.split() == ["idle", "idle"]:
            return
        time.sleep(0.2)
    logs = "\n".join(
        path.read_text(errors="replace")[-2000:] for path in sorted(folder.glob("*.log"))
    )
    raise RuntimeError(f"Slurm did not start within 30 s:\n{logs}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
