"""What repeated data are worth: loss against tokens for several amounts of unique data.

python -m experiments.epochs --out=docs/sweeps/epochs
"""

from __future__ import annotations

import sys

from experiments import common


def main(argv: list[str]) -> int:
    return common.study(argv, doc=__doc__, name="epochs", kinds=("data",))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
