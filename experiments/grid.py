"""Loss against any keys: learning rate and weight decay, with seeds as error bars; or random draws of keys.

python -m experiments.grid --out=docs/sweeps/grid
python -m experiments.grid --config=configs/sweeps.py:random --workdir=results/random --out=docs/sweeps/random
"""

from __future__ import annotations

import sys

from experiments import common


def main(argv: list[str]) -> int:
    return common.study(argv, doc=__doc__, name="grid", kinds=("grid", "random"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
