"""L(C), N*(C) and D*(C): the compute sweep, its laws, and the run that tests them.

python -m experiments.compute --out=docs/sweeps/compute
"""

from __future__ import annotations

import sys

from experiments import common


def main(argv: list[str]) -> int:
    return common.study(
        argv, doc=__doc__, name="compute", kinds=("compute",), config="configs/quickstart.py"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
