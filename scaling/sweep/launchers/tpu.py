"""The command lines that put workers on machines no launcher reaches, TPU VMs and pods first of all.

They are printed, not run: creating, paying for and reaching such machines is their owner's business. All
that a worker needs there is this package and the workdir, on a file system that all of them share.
"""

from __future__ import annotations

import shlex

# On a slice of several hosts libtpu waits for all of them to form one system. These variables (those that
# JAX's own multi-process tests set, jax/_src/test_multiprocess.py) make the four chips of a host, a square on
# every generation, a system of their own, so that each host is a worker with runs of its own. Not tried
# here, where there are no TPUs.
ONE_HOST = {
    "TPU_PROCESS_BOUNDS": "1,1,1",
    "TPU_CHIPS_PER_PROCESS_BOUNDS": "2,2,1",
    "TPU_VISIBLE_CHIPS": "0,1,2,3",
    "CLOUD_TPU_TASK_ID": "0",
}


def commands(workdir: str, launch_id: str, python: str = "python3") -> list[str]:
    """Lines for a shell: comments, the worker for any one machine, and the same on all hosts of a TPU slice.

    $TPU_NAME and $ZONE are left to the shell that runs them, as in Google's own documents; `python` is the
    interpreter there that has this package.
    """
    work = [python, "-m", "scaling", "work", f"--workdir={workdir}", f"--launch={launch_id}"]
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
