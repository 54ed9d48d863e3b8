"""L(N): the loss against model size at one length of training, and its power law.

    python experiments/params.py --config=configs/quickstart.py --workdir=results/params \
        --config.sweep.kind=params '--config.sweep.tokens=(2000000,)'
"""

from __future__ import annotations

import sys

from experiments import common


def main(argv: list[str]) -> int:
    return common.one_variable(
        argv,
        doc=__doc__,
        kind="params",
        x="n_params",
        x_label="parameters without embeddings, N",
        fixed="tokens",
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
