"""Start a sweep's workers on this machine, as Slurm jobs, or as Ray tasks.

A launcher starts workers (`scaling work`), restarts those that die, and waits. The remaining work
is in the workdir, which every worker sees. So a launcher may be killed and started again at any
time, and several may serve one workdir.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

from ml_collections import ConfigDict

from scaling.sweep.shared import workdir_url
from scaling.utils.errors import UserError


def launch(
    config: ConfigDict,
    workdir: Path,
    launch_id: str,
    workers: int,
    on_wait: Callable[[], None] | None = None,
) -> list[str]:
    """Run `workers` workers on the sweep of `workdir` by `config.launch` until all have ended.

    `on_wait` is called a few times per second meanwhile, for instance to draw progress. Returns
    one line per problem of a worker. Problems of runs are in their rows of the table.

    Raises UserError if the launcher cannot start or every worker would refuse its input, and
    Preempted after SIGTERM or SIGINT.
    """
    store = workdir_url.open_workdir(workdir)
    nodes, kind = config.launch.nodes, config.launch.kind
    if nodes > 1 and workdir_url.is_remote(store.name):
        raise UserError(
            f"config.launch.nodes={nodes}: a run over several nodes needs a --workdir that all of "
            f"them mount, not {store.name}; set it to 1, or choose a shared folder"
        )
    if nodes > 1 and kind != "slurm":
        raise UserError(
            f"config.launch.nodes={nodes}: config.launch.kind={kind} cannot start runs over "
            "several nodes; use slurm, start the processes of `scaling work` by hand with "
            "--coordinator, or set it to 1"
        )
    launcher = importlib.import_module(f"scaling.sweep.launchers.{kind}")
    return launcher.launch(
        config.launch, workdir.absolute(), launch_id, workers, on_wait or (lambda: None)
    )
