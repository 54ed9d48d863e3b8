"""Give `plan`, `status` and `fit` bad config values and damaged files: one line, never a traceback.

    python -m benchmarks.faults_config [--examples=2000] [--seconds=60] [--seed=0]

Hypothesis draws the values from the declarations in configs/base.py, and damage to the JSON files
of a finished study. Every command must end within `--seconds` of CPU time and with a documented
exit code. Bad input is one line. The fast part is tests/config/test_faults.py.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import json
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis import strategies as st

from benchmarks.common import show_and_write
from scaling import cli
from scaling.config.key import Key
from scaling.config.keys import KEYS, named_by

CODES = (0, 2, 3)  # docs/commands.md, without those of signals
LONGEST_LINE = 2000

# Flags under which each kind of sweep and each field uses its keys.
MINI = ["--config=mini"]
BASES: dict[str, list[str]] = {
    "none": [*MINI, "--config.sweep.kind=none"],
    "compute": MINI,
    "params": [*MINI, "--config.sweep.kind=params"],
    "data": [*MINI, "--config.sweep.kind=data"],
    "ladder": [*MINI, "--config.sweep.kind=ladder"],
    "hyper": [*MINI, "--config.sweep.kind=hyper", "--config.sweep.halving=2",
              "--config.sweep.halving_tokens=1e5"],
    "grid": ["--config=sweeps:grid"],
    "random": ["--config=sweeps:random"],
    "design": [*MINI, "--config.sweep.kind=design"],
    "merge": ["--config=sweeps:merge"],
    "experts": ["--config=algorithms:moe.8"],
    "vision": ["--config=fields:vision.params"],
    "speech": ["--config=fields:speech.params"],
    "recommend": ["--config=fields:recommend.params"],
}  # fmt: skip
WHOLES = (0, 1, 2, 3, 7, 8, 10**6, 2**31 - 1, 2**31, 2**53, 2**63 - 1, 2**63, 10**30, -1, -(2**63))
NUMBERS = ("0", "1", "0.5", "1e-308", "5e-324", "1e308", "1e9", "-1e308", "1e-9", "-1", "1e400",
           "nan", "inf", "1e30", "3.5")  # fmt: skip
TEXTS = ("", " ", "x", "None", "auto", "a" * 5000, "ü\u2028\n", "\0", "\udcff", "../..", "((", "{}",
         "true", "'", "[[" * 200, "1" * 5000, "-" * 9, "%s%n", "/")  # fmt: skip
# What a study may return in place of a value, as Python.
OBJECTS = ("None", "True", "[]", "()", "{}", "{'a': 1}", "b'x'", "object()", "10**400", "-10**400",
           "float('nan')", "float('inf')", "'x' * 10**5", "lambda: 0", "1j", "set()", "'\\udcff'",
           "[[[[1]]]]", "((1, 2), 'a')", "(None,)", "({},)", "(object(),)", "(10**400,)",
           "(float('nan'),)", "1.5", "'1'", "int", "Ellipsis", "range(3)", "(b'x',)",
           "((('model.width',), ((1,), (2,))),)")  # fmt: skip
TREES = st.recursive(
    st.sampled_from([None, True, 0, -1, 1.5, 10**30, 1e308, "", "x", "NaN", [], {}]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner),
    max_leaves=4,
)
BYTES = (b"", b"\xff", b"[]", b"null", b"3", b'"x"', b"{", b"[" * 100_000, b"{}\n{}", b"NaN",
         b'{"schema": 99}', b'{"schema": "x"}', b"\0" * 100, b"\xef\xbb\xbf{}", b"{}",
         b'{"a": ' * 50_000, b"[1e999]", b"1" * 5000)  # fmt: skip


class TooSlow(BaseException):
    """A command did not end in time."""


def outcome(argv: list[str], seconds: float = 20.0) -> tuple[str, float]:
    """Run a command in this process. Return (its fault or "", its CPU seconds)."""
    out, err = io.StringIO(), io.StringIO()

    def stop(number, frame):
        raise TooSlow(f"not ended after {seconds:g} CPU seconds at {frame.f_code.co_qualname}")

    before, started = signal.signal(signal.SIGPROF, stop), time.process_time()
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = cli.main(argv)
        fault = _fault(code, err.getvalue())
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        frame = traceback.extract_tb(error.__traceback__)[-1]
        fault = f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    return fault[:300], time.process_time() - started


def _fault(code: int, stderr: str) -> str:
    """Return what is wrong with the end of a command, "" for nothing."""
    lines = [line for line in stderr.splitlines() if not line.startswith("warning: ")]
    errors = [line for line in lines if line.startswith("error: ")]
    if code not in CODES:
        return f"exit code {code}"
    if code == 2 and (len(errors) != 1 or lines[-1:] != errors):
        return f"{len(errors)} lines of errors: {stderr[:200]!r}"
    if "Traceback" in stderr:
        return f"traceback in {stderr[-200:]!r}"
    longest = max(map(len, lines), default=0)
    return f"a line of {longest} characters" if longest > LONGEST_LINE else ""


def texts_of(key: Key) -> st.SearchStrategy[str]:
    """Return values for a key as a command line spells them: edges of its type, and others."""
    edges: list[str] = [*(str(n) for n in WHOLES), *NUMBERS, *TEXTS, *key.choices, str(key.default)]
    listed = st.lists(st.sampled_from([*NUMBERS, *map(str, WHOLES)]), max_size=4).map(",".join)
    by_type = {
        int: st.integers(-(10**20), 10**20).map(str) | st.sampled_from([str(n) for n in WHOLES]),
        float: st.floats().map(repr) | st.sampled_from(NUMBERS),
        tuple: listed | st.sampled_from(OBJECTS),
    }
    return by_type.get(key.type, st.nothing()) | st.sampled_from(edges)


def overrides() -> st.SearchStrategy[list[str]]:
    """Return one to three keys with values, on a base that may use them."""
    in_sweeps = [name for name in sorted(KEYS) if name.startswith(("sweep.", "model.", "train."))]
    names = sorted(set(KEYS) - {"parallel.cpu_devices"})  # jax takes it once per process
    one = (st.sampled_from(names) | st.sampled_from(in_sweeps)).flatmap(
        lambda name: texts_of(KEYS[name]).map(lambda text: f"--config.{name}={text}")
    )
    many = st.lists(one, min_size=1, max_size=3)
    return st.tuples(st.sampled_from(sorted(BASES)), many).map(lambda x: [*BASES[x[0]], *x[1]])


STUDY = """\
from scaling.configs import mini


def get_config():
    c = mini.get_config()
    with c.unlocked(), c.ignore_type():
        {place} = {value}
    return c
"""


def studies() -> st.SearchStrategy[str]:
    """Return the text of studies that set a key, a section or a new key to an object."""
    names = [*KEYS, *{name.partition(".")[0] for name in KEYS}, "new", "model.new", "model.new.a"]
    return st.tuples(st.sampled_from(sorted(names)), st.sampled_from(OBJECTS)).map(
        lambda x: STUDY.format(place=f"c.{x[0]}", value=x[1])
    )


def damaged(content: bytes) -> st.SearchStrategy[bytes]:
    """Return damaged versions of a JSON file, or of a file of JSON lines."""
    lines = content.decode().splitlines()
    cut = st.integers(0, len(content)).map(lambda n: content[:n])
    flip = st.tuples(st.integers(0, max(0, len(content) - 1)), st.integers(0, 255)).map(
        lambda x: content[: x[0]] + bytes([x[1]]) + content[x[0] + 1 :]
    )
    try:
        trees = st.just(json.loads(content)).flatmap(_grafted).map(lambda t: json.dumps(t).encode())
    except ValueError:  # JSON lines
        trees = st.integers(0, len(lines) - 1).flatmap(
            lambda i: _grafted(json.loads(lines[i])).map(
                lambda t: "\n".join([*lines[:i], json.dumps(t), *lines[i + 1 :], ""]).encode()
            )
        )
    return trees | trees | st.sampled_from(BYTES) | cut | flip


def _grafted(tree: Any) -> st.SearchStrategy[Any]:
    """Return a tree with one of its parts replaced or left out."""
    places = list(_places(tree))
    return st.tuples(st.sampled_from(places), TREES, st.booleans()).map(
        lambda x: _replaced(tree, x[0], x[1], leave_out=x[2] and bool(x[0]))
    )


def _places(tree: Any, path: tuple = ()) -> Iterator[tuple]:
    yield path
    items = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree[:3])
        if isinstance(tree, list)
        else ()
    )
    for key, inner in items:
        yield from _places(inner, (*path, key))


def _replaced(tree: Any, path: tuple, value: Any, leave_out: bool) -> Any:
    if not path:
        return value
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    if leave_out and len(path) == 1:
        del copy[path[0]]
    else:
        copy[path[0]] = _replaced(tree[path[0]], path[1:], value, leave_out)
    return copy


def json_files(workdir: Path) -> list[str]:
    """Return the JSON files of a workdir, one of each kind."""
    kinds = {}
    for path in sorted(workdir.rglob("*.json*")):
        name = path.relative_to(workdir)
        if "checkpoints" not in name.parts and path.is_file():
            kinds.setdefault((len(name.parts), name.parts[0], path.name), str(name))
    return sorted(kinds.values())


class Tally:
    """Count commands and keep one example of each fault."""

    def __init__(self, seconds: float):
        self.seconds, self.tried, self.slowest = seconds, 0, (0.0, "")
        self.faults: dict[str, tuple[str, str]] = {}
        self.count: collections.Counter[str] = collections.Counter()

    def run(self, argv: list[str], shown: str = "") -> str:
        """Run a command and return its fault."""
        fault, took = outcome(argv, self.seconds)
        self.tried += 1
        self.slowest = max(self.slowest, (took, f"{' '.join(argv)} {shown}"[:300]))
        if fault:
            where = fault.partition(": ")[0]
            self.count[where] += 1
            self.faults.setdefault(where, (fault, f"{' '.join(argv)} {shown}"[:600]))
        return fault


def drive(strategy: st.SearchStrategy, run: Any, examples: int, seed: int) -> None:
    """Call `run` with so many examples of a strategy."""

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=examples, deadline=None, database=None, phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    @hypothesis.given(strategy)
    def each(example):
        run(example)

    each()


def fuzz_plan(tally: Tally, examples: int, seed: int, folder: Path) -> None:
    """Drive values of keys, from command lines and from studies, through `plan`."""
    drive(overrides(), lambda argv: tally.run(["plan", *argv]), examples, seed)

    def plan_study(text: str) -> None:
        (folder / "study.py").write_text(text, errors="surrogatepass")
        tally.run(["plan", f"--config={folder / 'study.py'}"], text.splitlines()[6])

    drive(studies(), plan_study, examples, seed)


def fuzz_settings(tally: Tally, examples: int, seed: int, finished: Path) -> None:
    """Drive the keys that name neither run nor sweep through `fit` and `status` of a study."""
    names = sorted(named_by("nothing") - {"parallel.cpu_devices"})  # set once per process
    laws = [name for name in names if name.startswith("laws.")]
    flags = (st.sampled_from(names) | st.sampled_from(laws)).flatmap(
        lambda name: texts_of(KEYS[name]).map(lambda text: f"--config.{name}={text}")
    )
    for command in ("fit", "status"):
        argv = [command, "--config=mini", f"--workdir={finished}"]
        drive(flags, lambda flag, argv=argv: tally.run([*argv, flag]), examples // 5, seed)


def fuzz_files(
    tally: Tally, examples: int, seed: int, finished: Path, commands: Sequence[str]
) -> None:
    """Drive damaged files of a finished study through commands; each file is restored after."""
    for number, name in enumerate(json_files(finished)):
        path, content = finished / name, (finished / name).read_bytes()

        def damage(changed: bytes, path: Path = path) -> None:
            path.write_bytes(changed)
            for command in commands:
                tally.run([command, f"--workdir={finished}"], f"{path.name}: {changed[:200]!r}")

        drive(damaged(content), damage, examples, seed + number)
        path.write_bytes(content)


def main() -> None:
    """Run the whole and print a table of faults."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="plan,settings,files", help="parts, separated by commas")
    parser.add_argument("--study", default="", help="a finished workdir of mini, else trained here")
    parser.add_argument("--out", default="results/bench/faults_config.json")
    args = parser.parse_args()
    tally = Tally(args.seconds)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "plan" in args.only:
            fuzz_plan(tally, args.examples, args.seed, folder)
        made = folder / "made"
        if args.study:
            shutil.copytree(args.study, made)
        elif args.only != "plan" and cli.main(["curves", "--config=mini", f"--workdir={made}"]):
            raise SystemExit("the study was not made")
        if "settings" in args.only:
            fuzz_settings(tally, args.examples, args.seed, made)
        if "files" in args.only:
            fuzz_files(tally, max(3, args.examples // 20), args.seed, made, ("status", "fit"))
    for where, (fault, argv) in tally.faults.items():
        print(f"{tally.count[where]:5} {fault}\n      {argv!a}")
    report = {
        "commands": tally.tried,
        "faults": sum(tally.count.values()),
        "kinds of faults": len(tally.faults),
        "slowest, s": round(tally.slowest[0], 2),
        "slowest command": ascii(tally.slowest[1]),
    }
    show_and_write(args.out, report)
    sys.exit(1 if tally.faults else 0)


if __name__ == "__main__":
    main()
