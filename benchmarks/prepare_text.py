"""Measure the preparation of text: MB/s, peak memory, and the part of what `tokenizers` does alone.

    python -m benchmarks.prepare_text [--megabytes=1000] [--kinds=bytes,bpe] [--vocab_size=4096]
        [--folder=/tmp] [--out=results/bench/prepare_text.json]

JSON lines of 1 to 8 kB from the embedded corpus are written below `folder` and deleted at the end.
Each preparation is a process of its own. Memory is the peak of its resident pages and those of the
tokenizer's processes together, looked at ten times a second (Linux). `alone` is
`Tokenizer.encode_batch` on a part of the text, one thread per core and nothing else. On a busy
machine the part of CPU time says more than that of the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import common
from scaling.data import corpus, encode, tokenizers

FILES = 8
ALONE = 40_000_000  # characters
PREPARE = """
import json, sys, time
from scaling.config import load as config
from scaling.data import prepare
start = time.perf_counter()
data = prepare.prepare(config.load("configs/base.py", sys.argv[1:]).data)
seconds = time.perf_counter() - start
print(json.dumps([seconds, len(data.train) + len(data.valid)]))
"""


def write_text(folder: Path, megabytes: int) -> int:
    """Write the JSON lines and return the bytes of their texts."""
    whole = "".join(content.decode() for _, content in corpus.source_files())
    draw, total, number = random.Random(0), 0, 0
    for i in range(FILES):
        with open(folder / f"{i}.jsonl", "w") as file:
            while total < megabytes * 1e6 * (i + 1) / FILES:
                at, size = draw.randrange(len(whole)), draw.randrange(1000, 8000)
                text = f"document {number}\n{whole[at : at + size]}"
                file.write(json.dumps({"id": number, "text": text}) + "\n")
                total, number = total + len(text.encode()), number + 1
    return total


def alone(folder: Path, tokenizer: Path) -> tuple[float, float]:
    """Return MB/s of `tokenizers` on a part of the text, of all cores and per second of CPU."""
    import tokenizers as package

    encoder = package.Tokenizer.from_file(str(tokenizer))
    texts, size = [], 0
    with open(folder / "0.jsonl") as file:
        while size < ALONE and (line := file.readline()):
            texts.append(json.loads(line)["text"])
            size += len(texts[-1].encode())
    start, cpu = time.perf_counter(), time.process_time()
    for i in range(0, len(texts), 1000):
        encoder.encode_batch(texts[i : i + 1000], add_special_tokens=False)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return size / 1e6 / seconds, size / 1e6 / cpu


def resident(pid: int) -> float:
    """Return the MiB of resident memory of a process and its children, 0 if it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        tasks = Path(f"/proc/{pid}/task").glob("*/children")
        children = [int(child) for task in tasks for child in task.read_text().split()]
    except OSError:
        return 0.0
    return pages * resource.getpagesize() / 2**20 + sum(map(resident, children))


def prepared(folder: Path, cache: Path, *overrides: str) -> tuple[float, float, int, float]:
    """Prepare in a process; return (seconds, of CPU, tokens, peak MiB)."""
    values = ("name=jsonl", f"path={folder}", f"cache_dir={cache}", *overrides)
    before = os.times()
    process = subprocess.Popen(
        [sys.executable, "-c", PREPARE, *(f"--config.data.{value}" for value in values)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, resident(process.pid))
        time.sleep(0.1)
    if process.returncode:
        sys.exit(process.returncode)
    seconds, tokens = json.loads(process.communicate()[0].splitlines()[-1])
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user
    return seconds, cpu - before.children_system, tokens, peak


def measure(kind: str, folder: Path, cache: Path, size: int, vocab_size: int) -> dict:
    """Return the figures of one tokenizer."""
    overrides: list[str] = []
    if kind == "bpe":
        texts = (content.decode() for _, content in corpus.source_files())
        tokenizers.train_bpe(texts, vocab_size, cache / "tokenizer.json")
        overrides = [
            "tokenizer=bpe", f"vocab_size={vocab_size}",
            f"tokenizer_path={cache / 'tokenizer.json'}",
        ]  # fmt: skip
    turns = [alone(folder, cache / "tokenizer.json")] if kind == "bpe" else []
    seconds, cpu, tokens, peak = prepared(folder, cache, *overrides)
    row = {
        "kind": kind, "cores": encode.cores(), "megabytes": size / 1e6, "tokens": tokens,
        "seconds": seconds, "mb_per_s": size / 1e6 / seconds, "mb_per_cpu_s": size / 1e6 / cpu,
        "peak_mib": peak,
    }  # fmt: skip
    if turns:
        turns.append(alone(folder, cache / "tokenizer.json"))
        row["alone_per_s"], row["alone_per_cpu_s"] = (
            statistics.mean(t) for t in zip(*turns, strict=True)
        )
        row["part"] = row["mb_per_s"] / row["alone_per_s"]
        row["part_of_cpu"] = row["mb_per_cpu_s"] / row["alone_per_cpu_s"]
    return row


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--kinds", default="bytes,bpe")
    parser.add_argument("--vocab_size", type=int, default=4096)
    parser.add_argument("--folder", default=tempfile.gettempdir())
    parser.add_argument("--out", default="results/bench/prepare_text.json")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=args.folder) as scratch:
        folder, cache = Path(scratch) / "text", Path(scratch) / "cache"
        folder.mkdir()
        cache.mkdir()
        size = write_text(folder, args.megabytes)
        rows = [measure(k, folder, cache, size, args.vocab_size) for k in args.kinds.split(",")]
    columns = ("mb_per_s", "mb_per_cpu_s", "peak_mib", "alone_per_s", "alone_per_cpu_s")
    columns += ("part", "part_of_cpu")
    lines = [f"{'kind':6}" + "".join(f"{name:>17}" for name in columns)]
    for row in rows:
        cells = (f"{row[name]:17.3g}" if name in row else f"{'-':>17}" for name in columns)
        lines.append(f"{row['kind']:6}" + "".join(cells))
    print(*lines, sep="\n")
    common.write_report(args.out, {"rows": rows}, lines)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
