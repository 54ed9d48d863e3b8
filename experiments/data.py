"""L(D): the loss of one size of model against the tokens it is trained on, and its power law.

python -m experiments.data --out=docs/sweeps/data
"""

from __future__ import annotations

import sys

from experiments import common


def main(argv: list[str]) -> int:
    return common.study(argv, doc=__doc__, name="data", kinds=("data",))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
