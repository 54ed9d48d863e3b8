"""Where a sweep's workers run: on this machine, as Slurm jobs, or as Ray tasks.

A launcher only starts workers (`scaling work`), starts them again where they die, and waits: what is
left to do stands in the workdir, which every worker sees. So any launcher may be killed and started
again, and several may work on one workdir.
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
    """Run `workers` workers on the sweep of `workdir` as `config.launch` says, until all have ended.

    `on_wait` is called a few times per second meanwhile, for instance to draw progress. Returns one line
    for each thing that went wrong with a worker; what went wrong with runs stands in their rows.

    Raises UserError where the launcher cannot start or every worker would refuse its input, and
    Preempted after SIGTERM or SIGINT.
    """
    place = workdir_url.open_workdir(workdir)
    if config.launch.nodes > 1 and workdir_url.is_remote(place.name):
        raise UserError(
            f"config.launch.nodes={config.launch.nodes}: a run over several nodes needs a --workdir that all "
            f"of them mount, not {place.name}; set it to 1, or choose a shared folder"
        )
    if config.launch.nodes > 1 and config.launch.kind != "slurm":
        raise UserError(
            f"config.launch.nodes={config.launch.nodes}: config.launch.kind={config.launch.kind} starts no "
            "runs over several nodes; take slurm, start the processes of `scaling work` by hand with "
            "--coordinator, or set it to 1"
        )
    launcher = importlib.import_module(f"scaling.sweep.launchers.{config.launch.kind}")
    return launcher.launch(
        config.launch, workdir.absolute(), launch_id, workers, on_wait or (lambda: None)
    )
