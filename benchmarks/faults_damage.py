"""The cases of `benchmarks.faults_files`: every kind of file, damaged in many ways."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HUGE = "9" * 5000
Case = tuple[str, str, Callable[[Path], Path], list[str]]  # kind, name, damage, command


# Damages of any file


def whole_file(path: Path) -> dict[str, Callable[[], None]]:
    """Return the ways to damage a file as a whole, by name."""
    content = path.read_bytes()
    middle = len(content) // 2

    def folder() -> None:
        path.unlink()
        path.mkdir()

    return {
        "empty": lambda: path.write_bytes(b""),
        "half": lambda: path.write_bytes(content[:middle]),
        "0xff": lambda: path.write_bytes(content[:middle] + b"\xff" + content[middle + 1 :]),
        "folder": folder,
    }


def as_json(path: Path, keys: int = 12, seed: int = 0) -> dict[str, Callable[[], None]]:
    """Return the ways to damage a JSON file: as a whole, and by values of wrong types."""
    ways = whole_file(path)
    texts = {
        "[]": "[]", "null": "null", "number": "1", "text": '"text"', "{}": "{}",
        "brackets": "[" * 100_000, "deep": '{"a":' * 3000 + "1" + "}" * 3000,
        "huge": f'{{"a": {HUGE}}}', "not a number": '{"schema": NaN}',
    }  # fmt: skip
    ways |= {name: (lambda text=text: path.write_text(text)) for name, text in texts.items()}
    stored = json.loads(path.read_text())
    names = sorted(stored.keys() - {"seal", "schema"})  # older files lack these
    draws = random.Random(seed)
    for name in draws.sample(names, min(keys, len(names))):
        value = stored[name]
        wrong: list[Any] = [None, [], {"a": 1}, "text", float("inf"), 10**400, True]
        wrong = [w for w in wrong if type(w) is not type(value)]
        other = draws.choice(wrong)
        ways[f"{name}={str(other)[:12]}"] = lambda name=name, other=other: path.write_text(
            json.dumps({**stored, name: other})
        )
        ways[f"no {name}"] = lambda name=name: path.write_text(
            json.dumps({k: v for k, v in stored.items() if k != name})
        )
    return ways


def as_lines(path: Path) -> dict[str, Callable[[], None]]:
    """Return the ways to damage a line in the middle of a file of JSON lines."""
    lines = path.read_bytes().splitlines(keepends=True)
    middle = len(lines) // 2
    row = json.loads(lines[middle])
    rows = {
        "text as step": {**row, "step": "four"},
        "a share as step": {**row, "step": 4.5},
        "no step": {k: v for k, v in row.items() if k != "step"},
        "no loss": {k: v for k, v in row.items() if k != "loss"},
        "text as loss": {**row, "loss": "low"},
        "null as loss": {**row, "loss": None},
        "a list as loss": {**row, "loss": [1.0]},
        "NaN as loss": {**row, "loss": float("nan")},
        "infinite tokens": {**row, "tokens": float("inf")},
        "huge tokens": {**row, "tokens": 10**400},
        "text as tokens": {**row, "tokens": "many"},
    }
    bad = {name: json.dumps(row).encode() + b"\n" for name, row in rows.items()} | {
        "half": lines[middle][:20] + b"\n", "0xff": b"\xff" + lines[middle][1:],
        "list": b"[]\n", "null": b"null\n", "number": b"1\n",
        "brackets": b"[" * 100_000 + b"\n", "zeros": b"\0" * 40 + b"\n",
    }  # fmt: skip
    ways = {
        name: (
            lambda line=line: path.write_bytes(
                b"".join([*lines[:middle], line, *lines[middle + 1 :]])
            )
        )
        for name, line in bad.items()
    }
    return {**ways, "folder": whole_file(path)["folder"]}


def cases_of(
    kind: str,
    file: str,
    ways: Callable[..., dict[str, Callable[[], None]]],
    command: list[str],
    root: Path,
) -> list[Case]:
    """Return one case per way to damage the last file of a pattern."""

    def damage(name: str, folder: Path) -> Path:
        path = sorted(folder.glob(file))[-1]
        ways(path)[name]()
        return path

    names = list(ways(sorted(root.glob(file))[-1]))
    return [(kind, n, lambda folder, n=n: damage(n, folder), command) for n in names]


# Cases of a study, a run and a cache


def of_study(study: Path) -> Iterator[Case]:
    """Yield the cases of a finished study."""
    result = "runs/*/result.json"
    yield from cases_of("result.json", result, as_json, ["status"], study)
    yield from cases_of("result.json", result, whole_file, ["fit"], study)
    yield from cases_of("metrics.jsonl", "runs/*/metrics.jsonl", as_lines, ["fit"], study)
    yield from cases_of("sweep.json", "sweep.json", as_json, ["status"], study)
    yield from cases_of("sweep.json", "sweep.json", whole_file, ["fit"], study)
    yield from cases_of("forecast.json", "forecast.json", as_json, ["fit"], study)
    yield from cases_of("curves/*.json", "curves/chinchilla.json", as_json, ["report"], study)
    yield from cases_of("summary.txt", "summary.txt", whole_file, ["report"], study)
    yield from cases_of("schedule.json", "schedule.json", as_json, ["sweep"], study)
    yield from cases_of("failure.json", "runs/*/failure.json", as_json, ["status"], study)

    def changed(pattern: str, *keys: str) -> Callable[[Path], Path]:
        def damage(folder: Path) -> Path:
            path = sorted(folder.glob(pattern))[-1]
            whole = json.loads(path.read_text())
            inner = whole
            for key in keys[:-1]:
                inner = inner[key]
            inner[keys[-1]] = inner[keys[-1]] * 0.75
            path.write_text(json.dumps(whole, indent=1))
            return path

        return damage

    for column in ("loss", "flops_exact", "n_params", "tokens", "lr"):
        yield ("another number", f"result.json {column}", changed(result, column), ["fit"])
    predicted = changed("forecast.json", "predicted_loss", "value")
    yield ("another number", "forecast.json value", predicted, ["fit"])
    for command in (["status"], ["fit"]):
        yield ("foreign", "copied run folder", _copied_folder, command)
        yield ("foreign", "result of another run", _foreign_result, command)
        yield ("foreign", "another run_id", _other_id, command)
    for name, content in {
        "999999999999999999.json": b"{}", "8.json": b"[" * 100_000, "9.json": b"null",
        "7.json": b'{"pid": ' + HUGE.encode() + b"}", "5.json": b"\xff",
    }.items():  # fmt: skip
        yield ("claim", name, _claim(name, content), ["sweep"])
        yield ("claim", name, _claim(name, content), ["status"])


def of_run(run: Path) -> Iterator[Case]:
    """Yield the cases of a run that is half trained."""
    train = ["train"]
    yield from cases_of("config.json", "runs/*/config.json", as_json, train, run)
    yield from cases_of("data.json", "runs/*/data.json", as_json, train, run)
    yield from cases_of("metrics.jsonl", "runs/*/metrics.jsonl", as_lines, train, run)
    yield from cases_of("metrics.jsonl", "runs/*/metrics.jsonl", as_lines, ["status"], run)
    newest = sorted(run.glob("runs/*/checkpoints/*"), key=lambda p: int(p.name))[-1]
    for path in sorted(p for p in newest.rglob("*") if p.is_file() and p.stat().st_size):
        name = str(path.relative_to(run))
        ways = as_json if path.name == "metadata" else whole_file
        yield from cases_of("checkpoint", name, ways, train, run)

    def position(**values) -> Callable[[Path], Path]:
        def damage(folder: Path) -> Path:
            path = folder / newest.relative_to(run) / "position" / "metadata"
            path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
            return path.parents[1]

        return damage

    step = int(newest.name)
    yield ("position", "step", position(step=step - 16), train)
    yield ("position", "forked_at", position(forked_at=8), train)
    yield ("position", "elapsed", position(elapsed=1e9), train)
    yield ("position", "renamed", _renamed(newest.relative_to(run), str(step - 8)), train)


def of_cache(run: Path) -> Iterator[Case]:
    """Yield the cases of prepared text; their damage is in a copy of the cache."""
    for path in sorted(run.glob("cache/tokens/*/*")):
        name = str(path.relative_to(run))
        ways = as_json if path.suffix == ".json" else whole_file
        yield from cases_of(f"cache {path.name}", name, ways, ["train"], run)
    yield ("cache byte_lengths.npy", "another number", _other_length, ["train"])
    yield ("cache meta.json", "another type", _other_dtype, ["train"])


def _copied_folder(folder: Path) -> Path:
    last = sorted((folder / "runs").iterdir())[-1]
    return Path(shutil.copytree(last, last.with_name(f"{last.name}-copy")))


def _foreign_result(folder: Path) -> Path:
    first, second = sorted(folder.glob("runs/*/result.json"))[:2]
    shutil.copy(second, first)
    return first.parent


def _other_id(folder: Path) -> Path:
    first, second = sorted(folder.glob("runs/*/result.json"))[:2]
    first.write_text(first.read_text().replace(first.parent.name, second.parent.name))
    return first.parent


def _renamed(step: Path, name: str) -> Callable[[Path], Path]:
    return lambda folder: (folder / step).rename((folder / step).with_name(name))


def _claim(name: str, content: bytes) -> Callable[[Path], Path]:
    def damage(folder: Path) -> Path:
        run = sorted(p.parent.name for p in folder.glob("runs/*/failure.json"))[0]
        path = folder / "claims" / run / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    return damage


def _other_length(folder: Path) -> Path:
    import numpy as np

    (path,) = folder.glob("cache/tokens/*/byte_lengths.npy")
    lengths = np.load(path)
    lengths[32] = 9
    np.save(path, lengths)
    return path


def _other_dtype(folder: Path) -> Path:
    (path,) = folder.glob("cache/tokens/*/meta.json")
    path.write_text(path.read_text().replace("uint8", "int8"))
    return path
