"""Train one study of each kind of sweep, draw its curves and copy them to a folder.

    python -m experiments.publish params --out=docs/sweeps/params

runs `scaling curves` on the study of that name and copies its curves, table, summary and command to
`--out`. `--config` names another config of the same kind, `--config.key=value` overrides a key.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments import common
from scaling import cli
from scaling.config import load as config_lib
from scaling.utils.errors import EXIT_BAD_INPUT, EXIT_INCOMPLETE, UserError

# name of a study -> the `config.sweep.kind` that it needs
STUDIES = {
    "compute": "compute",  # L(C), N*(C) and D*(C), and the run that tests them
    "params": "params",  # L(N) at one length of training
    "data": "data",  # L(D) of one size
    "epochs": "data",  # loss against tokens for several amounts of unique data
    "ladder": "ladder",  # L(N, D) and the frontier of equal compute
    "grid": "grid",  # loss against learning rate and weight decay
    "random": "random",  # the same for random draws of keys
    "hyper": "hyper",  # the best learning rate and batch size of every size and length
}


def default_config(study: str) -> str:
    """Return the config of a study: the quickstart for `compute`, else one of configs/sweeps.py."""
    return "configs/quickstart.py" if study == "compute" else f"configs/sweeps.py:{study}"


def check_kind(config: str, overrides: Sequence[str], study: str) -> None:
    """Raise UserError if the config's sweep is of another kind than the study."""
    kind, needed = config_lib.load(config, list(overrides)).sweep.kind, STUDIES[study]
    if kind != needed:
        raise UserError(f"config.sweep.kind={kind!r}: this experiment needs {needed}")


def main(argv: list[str]) -> int:
    """Run the study and copy its curves. Return the exit code of `scaling curves`."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--config", help="without it the committed study of that name")
    parser.add_argument("--workdir", help="without it results/STUDY")
    parser.add_argument("--out", help="folder to copy curves, table and summary to")
    args, overrides = parser.parse_known_args(argv)
    config = args.config or default_config(args.study)
    workdir = args.workdir or f"results/{args.study}"
    try:
        check_kind(config, overrides, args.study)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    flags = [f"--config={config}", f"--workdir={workdir}", *overrides]
    code = cli.main(["curves", *flags])
    if args.out and code in (0, EXIT_INCOMPLETE):
        command = shlex.join(["scaling", "curves", *flags])
        common.copy_curves(Path(workdir), Path(args.out), command)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
