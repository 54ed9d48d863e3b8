"""Encode batches of texts in order: in this process, or by one process per core if they are many.

`python -m scaling.data.encode TOKENIZER_JSON` is such a process. It reads pickled lists of texts
from stdin and writes their token ids, or the line of a UserError, to stdout.
"""

from __future__ import annotations

import collections
import contextlib
import os
import pickle
import queue
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent import futures
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scaling.data.tokenizers import BpeTokenizer, Tokenizer
from scaling.utils.errors import UserError

ALONE = 16 << 20  # characters that this process encodes before it starts others


class Batch(NamedTuple):
    """Consecutive documents."""

    texts: list[str]
    held_out: list[bool]
    digest: str  # of the documents read until the last of these


def encoded(
    batches: Iterable[Batch], tokenizer: Tokenizer
) -> Iterator[tuple[Batch, list[np.ndarray]]]:
    """Yield each batch with the token ids of its texts. Raises UserError as `encode_batch` does."""
    batches, size = iter(batches), 0
    processes = cores() if isinstance(tokenizer, BpeTokenizer) else 1
    for batch in batches:
        yield batch, tokenizer.encode_batch(batch.texts)
        size += sum(map(len, batch.texts))
        if processes > 1 and size >= ALONE:
            break
    if isinstance(tokenizer, BpeTokenizer) and processes > 1:
        yield from _by_processes(batches, tokenizer.path, processes)


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _by_processes(
    batches: Iterator[Batch], tokenizer: Path, count: int
) -> Iterator[tuple[Batch, list[np.ndarray]]]:
    first = next(batches, None)
    if first is None:
        return
    processes = [_start(tokenizer) for _ in range(count)]
    free: queue.SimpleQueue[subprocess.Popen] = queue.SimpleQueue()
    for process in processes:
        free.put(process)
    pending: collections.deque[tuple[Batch, futures.Future]] = collections.deque()
    threads = futures.ThreadPoolExecutor(count)
    try:
        for batch in _chain(first, batches):
            pending.append((batch, threads.submit(_ask, free, batch.texts)))
            if len(pending) > 2 * count:
                done, future = pending.popleft()
                yield done, future.result()
        for done, future in pending:
            yield done, future.result()
    finally:
        for process in processes:
            process.kill()
        threads.shutdown(cancel_futures=True)
        for process in processes:
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()  # type: ignore[union-attr]
            process.wait()


def _chain(first: Batch, others: Iterator[Batch]) -> Iterator[Batch]:
    yield first
    yield from others


def _start(tokenizer: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "scaling.data.encode", str(tokenizer)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)),
            "TOKENIZERS_PARALLELISM": "false",
        },
        start_new_session=True,  # Ctrl-C is for this process, which ends the others
    )


def _ask(free: queue.SimpleQueue[subprocess.Popen], texts: list[str]) -> list[np.ndarray]:
    process = free.get()
    try:
        pickle.dump(texts, process.stdin)  # type: ignore[arg-type]
        process.stdin.flush()  # type: ignore[union-attr]
        answer = pickle.load(process.stdout)  # type: ignore[arg-type]
    except (EOFError, OSError, pickle.UnpicklingError):
        raise UserError(
            f"a process of the tokenizer ended (code {process.poll()}), perhaps for lack of "
            "memory; free some and run again"
        ) from None
    finally:
        free.put(process)
    if isinstance(answer, str):
        raise UserError(answer)
    return answer


def main(path: str) -> None:
    """Answer lists of texts until stdin ends."""
    tokenizer = BpeTokenizer(Path(path))
    while True:
        try:
            texts = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        answer: list[np.ndarray] | str
        try:
            answer = tokenizer.encode_batch(texts)
        except UserError as error:
            answer = str(error)
        try:
            pickle.dump(answer, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            os._exit(1)  # the process that asked was killed


if __name__ == "__main__":
    main(sys.argv[1])
