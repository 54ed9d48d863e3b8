"""Import a runtime and do next to nothing, to measure its memory without a model.

    python -m benchmarks.peers.floor --runtime=jax

jax runs one trivial program on two host devices, torch adds two numbers. The version is printed,
too.
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.peers import turns


def jax() -> str:
    import jax

    jax.config.update("jax_num_cpu_devices", 2)
    rows = jax.NamedSharding(jax.make_mesh((2,), ("data",)), jax.P("data"))
    jax.jit(lambda x: x + x, in_shardings=rows)(jax.numpy.ones(2)).block_until_ready()
    return jax.__version__


def torch() -> str:
    import torch

    torch.ones(2).sum().item()
    return torch.__version__


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runtime", choices=("jax", "torch"), required=True)
    turns.say(version={"jax": jax, "torch": torch}[parser.parse_args(argv).runtime]())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
