"""L(C), N*(C) and D*(C): the compute sweep, its laws, and the run that tests them.

    python experiments/compute.py --config=configs/quickstart.py --workdir=results/quickstart

The same as `scaling curves`.
"""

from __future__ import annotations

import sys

from scaling import cli


def main(argv: list[str]) -> int:
    return cli.main(["curves", *argv])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
