"""L(N, D): a grid of sizes and lengths, the law of both, and the frontier of equal compute.

python -m experiments.ladder --out=docs/sweeps/ladder
"""

from __future__ import annotations

import sys

from experiments import common


def main(argv: list[str]) -> int:
    return common.study(argv, doc=__doc__, name="ladder", kinds=("ladder",))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
