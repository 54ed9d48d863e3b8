"""Train in turns: a process that trains a number of steps for every line of its standard input.

It prints one JSON line when it has compiled and trained its first steps. Each input line is a
number of steps. It trains that many, after a few that are not timed, and prints their time. It ends
with its input. Between turns it waits for input and leaves the cores to the others. With `--steps`
it trains those and ends, as a run of its own. It needs nothing but numpy.

Shapes: B sequences, T positions.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.sizes import SIZES, Size

WARM_UP = 2  # steps at the start of a turn
# AdamW and clipping of all peers
LR, BETAS, EPS, WEIGHT_DECAY, CLIP = 1e-3, (0.9, 0.95), 1e-8, 0.1, 1.0


def arguments(argv: list[str], modes: tuple[str, ...] = ("",)) -> argparse.Namespace:
    """Parse `--size`, `--tokens` (a .npy of bytes), `--mode`, `--lr` and `--steps`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, required=True)
    parser.add_argument("--tokens", required=True, help=".npy of uint8 tokens to train on")
    parser.add_argument("--mode", choices=modes, default=modes[0])
    parser.add_argument("--lr", type=float, default=LR)
    parser.add_argument("--steps", type=int, default=0, help="train these and end; 0: take turns")
    return parser.parse_args(argv)


def batches(path: str, size: Size) -> Iterator[np.ndarray]:
    """Yield random windows `tokens_BT1` (int32, T + 1 wide) of the tokens in `path`, endlessly."""
    tokens, rng = np.load(path, mmap_mode="r"), np.random.default_rng(0)
    offsets_T1 = np.arange(size.seq_len + 1)
    while True:
        start_B1 = rng.integers(0, len(tokens) - size.seq_len - 1, (size.batch, 1))
        yield tokens[start_B1 + offsets_T1].astype(np.int32)


def say(**figures) -> None:
    """Print one JSON line for the parent, with this process's peak resident memory in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({**figures, "peak_rss": peak}), flush=True)


def requested_steps() -> Iterator[int]:
    """Yield the numbers of steps that the parent requests, until it closes the input."""
    for line in sys.stdin:
        yield int(line)


def serve(train: Callable[[int], float], steps: int) -> int:
    """Train `steps` and end. With 0, train two first steps and then in turns.

    `train` takes a number of steps and returns the last loss when all of them are done.
    """
    say(loss=train(steps or 2))
    if steps:
        return 0
    for steps in requested_steps():
        train(WARM_UP)  # memory that went back to the machine in between, caches, clock
        start = time.perf_counter()
        loss = train(steps)
        say(steps=steps, seconds=time.perf_counter() - start, loss=loss)
    return 0
