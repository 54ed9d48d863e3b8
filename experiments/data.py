"""L(D): the loss of one size of model against the tokens it is trained on, and its power law.

    python experiments/data.py --config=configs/quickstart.py --workdir=results/data \
        --config.sweep.kind=data --config.model.width=32 --config.model.mlp_width=128 \
        '--config.sweep.tokens=(250000, 500000, 1000000, 2000000, 4000000)'
"""

from __future__ import annotations

import sys

from experiments import common


def main(argv: list[str]) -> int:
    return common.one_variable(
        argv,
        doc=__doc__,
        kind="data",
        x="tokens",
        x_label="training tokens, D",
        fixed="n_params",
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
