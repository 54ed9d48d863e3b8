"""The best learning rate and batch size of every size and length, and the power laws of the optimum.

python -m experiments.hyper --out=docs/sweeps/hyper
"""

from __future__ import annotations

import sys

from experiments import common


def main(argv: list[str]) -> int:
    return common.study(argv, doc=__doc__, name="hyper", kinds=("hyper",))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
