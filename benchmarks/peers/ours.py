"""Run `scaling` in turn with its peers: the run of `scaling train`, nothing left out.

    python -m benchmarks.peers.ours --size=S --tokens=-

The model is the peers' block in our config. Rows of metrics, TensorBoard and the data pipeline are
on. The timed steps have no checkpoint and no evaluation, as with the peers.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from benchmarks.peers import turns
from benchmarks.sizes import SIZES
from scaling.config import load as config_lib
from scaling.utils import huge_pages, machine

ENDLESS = 10**12  # tokens
IDLE = 0.01  # seconds of CPU time in a tenth of a second, at most


class Ended(Exception):
    """The parent closed the input."""


def config_of(size_name: str, **values):
    """Return the config of a peer's block and batch."""
    size = SIZES[size_name]
    base = config_lib.load("configs/base.py")
    return config_lib.with_values(
        base,
        {
            **size.overrides(),
            "model.mlp": "gelu",
            "model.norm": "layernorm",
            "model.positions": "learned",
            "model.tied_head": True,
            "optim.lr": turns.LR,
            "optim.schedule": "constant",
            "optim.weight_decay": turns.WEIGHT_DECAY,
            "optim.warmup_fraction": 0.0,
            "train.tokens": ENDLESS,
            "train.steps_per_dispatch": size.dispatch,
            "train.log_every": min(8, size.dispatch),
            "checkpoint.every_tokens": ENDLESS,
            **values,
        },
    )


def main(argv: list[str]) -> int:
    args = turns.arguments(argv)
    config = config_of(args.size)
    machine.start_jax(config.parallel.cpu_devices)
    from scaling.training.loop import run_id, train_runs
    from scaling.training.spec import RunSpec

    size, requests = SIZES[args.size], turns.requested_steps()
    folder = Path(tempfile.mkdtemp(prefix="scaling-peer-")) / run_id(config)
    target = 0  # dispatches of this turn
    ends: list[float] = []  # of its dispatches

    def turn(tokens: int) -> None:
        """End or begin a turn. Called after the rows of each dispatch, while the next one runs."""
        nonlocal target
        # The first call of a turn comes at once, with the dispatch that ran while this process
        # waited. The second ends the warm-up.
        ends.append(time.perf_counter())
        if target and len(ends) < 2 + target:
            return
        _until_idle()  # the dispatch in flight ends in our own time
        timed = {"steps": target * size.dispatch, "seconds": ends[-1] - ends[1]} if target else {}
        turns.say(loss=_last_loss(folder), **timed)
        steps = next(requests, None)
        if steps is None:
            raise Ended
        target = max(1, round(steps / size.dispatch))
        ends.clear()

    try:
        train_runs([RunSpec(config, folder)], on_progress=turn)
    except Ended:
        return 0
    raise AssertionError("the run is longer than any benchmark")


def _until_idle() -> None:
    """Wait until no thread of this process has computed for a tenth of a second."""
    used, last = time.process_time(), -1.0
    while used - last > IDLE:
        time.sleep(0.1)
        used, last = time.process_time(), used


def _last_loss(folder: Path) -> float:
    from scaling.utils import files

    return files.read_lines(folder / "metrics.jsonl", key="step")[-1]["loss"]


if __name__ == "__main__":
    huge_pages.restart()
    sys.exit(main(sys.argv[1:]))
