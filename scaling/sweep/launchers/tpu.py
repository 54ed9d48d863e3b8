"""Print the commands that start workers by hand on machines without a launcher, such as TPU VMs.

Nothing is run: the owner of such machines creates them and pays for them. A worker needs only this
package and the workdir, on a file system that all machines share.
"""

from __future__ import annotations

import shlex

# On a slice of several hosts libtpu waits until all of them form one system. These variables (JAX's
# own multi-process tests set them, jax/_src/test_multiprocess.py) make the four chips of a host, a
# square on every generation, a separate system, so that each host is a worker with its own runs.
# Untested, since the project has no TPUs.
ONE_HOST = {
    "TPU_PROCESS_BOUNDS": "1,1,1",
    "TPU_CHIPS_PER_PROCESS_BOUNDS": "2,2,1",
    "TPU_VISIBLE_CHIPS": "0,1,2,3",
    "CLOUD_TPU_TASK_ID": "0",
}


def commands(workdir: str, launch_id: str, python: str = "python3") -> list[str]:
    """Return shell lines that start a worker on one machine, and on all hosts of a TPU slice.

    The shell that runs them defines $TPU_NAME and $ZONE, as in Google's documents. `python` is the
    interpreter on those machines that has this package.
    """
    work = [python, "-P", "-m", "scaling", "work", f"--workdir={workdir}", f"--launch={launch_id}"]
    bounds = [f"{name}={value}" for name, value in ONE_HOST.items()]
    everywhere = shlex.join(["env", *bounds, *work])
    return [
        "# on any machine that sees the workdir; as many as you like:",
        shlex.join(work),
        "# on a TPU VM of one host:",
        _ssh(shlex.join(work), "0"),
        "# on every host of a TPU slice, each with runs of its own:",
        _ssh(everywhere, "all"),
    ]


def _ssh(command: str, worker: str) -> str:
    return (
        f'gcloud compute tpus tpu-vm ssh "$TPU_NAME" --zone="$ZONE" --worker={worker} '
        f"--command={shlex.quote(command)}"
    )
