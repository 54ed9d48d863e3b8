"""Attack the program and say what it did: signals at 40 moments, and damaged files.

    python -m benchmarks.faults [--kind=signals] [--only=train] [--every=4] [--out=FILE]

Each kind is a module `faults_<kind>` with `trials(scratch, chosen) -> Iterator[Trial]`. A trial is
good if the command ended in time with the expected exit code, and the same command then ended with
the same numbers to the bit. The exit code is 1 if a trial is not good.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import re
import sys
import tempfile
from pathlib import Path

from benchmarks.common import write_report

KINDS = ("signals", "files")


def main(argv: list[str]) -> int:
    """Run the trials of every kind, print one line each, and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kind", choices=KINDS)
    parser.add_argument("--only", default="", help="trials whose name matches this pattern")
    parser.add_argument("--every", type=int, default=1, help="every N-th of these trials")
    parser.add_argument("--out", default="results/bench/faults.json")
    args = parser.parse_args(argv)
    modules = {kind: f"benchmarks.faults_{kind}" for kind in KINDS if args.kind in (None, kind)}
    modules = {kind: name for kind, name in modules.items() if importlib.util.find_spec(name)}
    lines, trials = [f"{'moment':44} {'seconds':>7} {'code':>4}  resumed"], []
    print(lines[0], flush=True)
    with tempfile.TemporaryDirectory(prefix="scaling-faults-") as scratch:
        for kind, name in modules.items():
            seen = 0

            def chosen(trial: str) -> bool:
                nonlocal seen
                matches = re.search(args.only, trial) is not None
                seen += matches
                return matches and (seen - 1) % args.every == 0

            for trial in importlib.import_module(name).trials(Path(scratch), chosen):
                trials.append({"kind": kind, **vars(trial)})
                lines.append(
                    f"{trial.name:44} {trial.seconds:7.1f} {trial.code:4}  "
                    f"{trial.resumed}{'' if trial.good else '  <-- not good'}"
                )
                print(lines[-1], flush=True)
    bad = sum(not trial["good"] for trial in trials)
    lines.append(f"{len(trials)} trials, {bad} not good")
    print(lines[-1])
    write_report(args.out, {"trials": trials}, lines)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
