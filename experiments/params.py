"""L(N): the loss against model size at one length of training, and its power law.

python -m experiments.params --out=docs/sweeps/params
"""

from __future__ import annotations

import sys

from experiments import common


def main(argv: list[str]) -> int:
    return common.study(argv, doc=__doc__, name="params", kinds=("params",))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
