"""A training process imports each package only when it needs it: imports take seconds."""

from __future__ import annotations

from scaling.data import prepare
from tests.common import run_python

# torch and tensorflow are empty modules here, and their imports are recorded. The imported
# packages are listed before the first step and after the last.
TRAIN = """
import dataclasses, importlib.machinery, sys

imported = set()

class Both:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "tensorflow"):
            return importlib.machinery.ModuleSpec(name, self)
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        imported.add(module.__name__)

sys.meta_path.insert(0, Both())
from scaling import cli
from scaling.programs import train_step as step

made = step.programs

def programs(*args):
    real = made(*args)
    def train(*inputs):
        print("first step:", *sorted({m.split(".")[0] for m in sys.modules}))
        step.programs = made
        return real.train(*inputs)
    return dataclasses.replace(real, train=train)

step.programs = programs
code = cli.main(["train", "--config=configs/mini.py", "--config.sweep.kind=none",
                 "--config.train.tokens=1280", "--config.eval.tokens=2048",
                 "--workdir=" + sys.argv[1]])
print("end:", *sorted({m.split(".")[0] for m in sys.modules}))
print("empty:", *sorted(imported))
import torch
assert imported == {"torch"} and code == 0
"""
# packages that take long to import and serve a later part of a run, or none
LATER = {"grain", "orbax", "tensorstore", "tensorflow_datasets", "tokenizers", "scipy"}
NEVER = {"tensorboardX", "matplotlib", "pyarrow", "boto3", "torch", "tensorflow"}


def test_a_run_begins_without_what_it_needs_later(tmp_path, config):
    prepare.prepare(config.data)  # once per machine, and not without TFDS
    done = run_python(TRAIN, str(tmp_path))
    assert done.returncode == 0, done.stderr
    lists = dict(line.split(":", 1) for line in done.stdout.splitlines() if ":" in line)
    first, end = (set(lists[name].split()) for name in ("first step", "end"))
    assert first & (LATER | NEVER) == set()
    assert end & NEVER == set() and "orbax" in end
    assert lists["empty"].strip() == ""
