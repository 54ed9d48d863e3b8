"""A process that does next to nothing: the memory of a runtime before there is a model.

    python -m benchmarks.peers.floor --runtime=jax

jax runs one trivial program on two host devices, torch adds two numbers.
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.peers import turns


def jax() -> float:
    import jax

    jax.config.update("jax_num_cpu_devices", 2)
    rows = jax.NamedSharding(jax.make_mesh((2,), ("data",)), jax.P("data"))
    return float(jax.jit(lambda x: x + x, in_shardings=rows)(jax.numpy.ones(2)).sum())


def torch() -> float:
    import torch

    return float(torch.ones(2).sum())


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runtime", choices=("jax", "torch"), required=True)
    turns.say(value={"jax": jax, "torch": torch}[parser.parse_args(argv).runtime]())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
