"""Test impossible sweeps: each error names the key and the reason in one line."""

from __future__ import annotations

import pytest

from scaling.sweep.plan import planner
from scaling.utils.errors import UserError
from tests.sweep.plan.test_planner import python_text

GRID = {"sweep__kind": "grid"}
RANDOM = {"sweep__kind": "random"}
WSD = {"sweep__kind": "data", "optim__schedule": "wsd", "optim__warmup_tokens": 80 * 1024}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        # empty
        ({"sweep__kind": "ladder", "sweep__tokens": ()}, "the plan has no runs"),
        ({"sweep__kind": "design"}, "config.sweep.design_file is not set"),
        (GRID, "config.sweep.grid_keys is empty"),
        (RANDOM, "config.sweep.random_ranges is empty"),
        # duplicates
        ({"sweep__budgets": (1e11, 1e11)}, "6 of 12 runs are duplicates"),
        ({"sweep__budgets": (1e11, 1e11)}, "config.sweep.budgets repeats 100000000000.0"),
        ({"sweep__budgets": (1e11, 1.0001e11)}, "pay for the same"),
        ({"sweep__seeds": (3, 0, 3)}, "config.sweep.seeds repeats 3"),
        ({"sweep__kind": "data", "sweep__tokens": (102_400, 102_500)},
         "1 of 2 runs are duplicates"),
        ({"sweep__kind": "data", "sweep__tokens": (102_400, 102_500)},
         "102400 and 102500 tokens are the same 100 steps"),
        ({"sweep__kind": "hyper", "sweep__batch_sizes": (8, 8)}, "batch_sizes repeats 8"),
        ({**GRID, "sweep__grid_keys": (("optim.lr", "train.log_every"),),
          "sweep__grid_values": (((1e-3, 4), (1e-3, 8)),)},
         "differ only in train.log_every (4, 8), which cannot change its numbers"),
        ({**GRID, "sweep__grid_keys": ("optim.lr",), "sweep__grid_values": ((1e-3, 1e-3),)},
         "optim.lr=0.001, seed=0 is repeated"),
        # swept keys
        ({**GRID, "sweep__grid_keys": (("optim.lrr", "seed"),), "sweep__grid_values": ((),)},
         "did you mean config.optim.lr"),
        ({**GRID, "sweep__grid_keys": ("sweep.rungs",), "sweep__grid_values": ((4, 5),)},
         "sweep.rungs describes the sweep, not a run"),
        ({**GRID, "sweep__grid_keys": ("parallel.fsdp",), "sweep__grid_values": ((1, 2),)},
         "parallel.fsdp cannot change a run's numbers"),
        ({**GRID, "sweep__grid_keys": ("seed", ("seed",)), "sweep__grid_values": ((1,), ((2,),))},
         "seed appears twice"),
        ({**GRID, "sweep__grid_keys": ("seed",), "sweep__grid_values": ((1, 2),),
          "sweep__seeds": (0, 1)}, "config.sweep.seeds should stay (0,)"),
        ({**GRID, "sweep__grid_keys": (5,), "sweep__grid_values": ((1, 2),)},
         "5 is neither a key nor a tuple of keys"),
        ({**GRID, "sweep__grid_keys": ("optim.lr",), "sweep__grid_values": (("fast",),)},
         "config.optim.lr='fast' should be of type float"),
        ({**GRID, "sweep__grid_keys": ("optim.lr",), "sweep__grid_values": (1e-3,)},
         "config.sweep.grid_values[0]=0.001 should be a tuple of values"),
        ({**GRID, "sweep__grid_keys": ("optim.lr",), "sweep__grid_values": ()}, "equal lengths"),
        # a zip of unequal length
        ({**GRID, "sweep__grid_keys": (("optim.lr", "seed"),),
          "sweep__grid_values": (((1e-3, 0), (2e-3,)),)},
         "config.sweep.grid_values[0][1]=(0.002,) has 1 values for the 2 zipped keys optim.lr, "
         "seed"),
        # horizons and budgets
        ({**WSD, "sweep__tokens": (90 * 1024, 500 * 1024)},
         "the run with train.tokens=92160, seed=0: config.optim: warm-up (80 steps) and decay (18) "
         "are longer than the run (90)"),
        ({"sweep__kind": "data", "sweep__tokens": (100,)}, "less than one step of 1024 tokens"),
        ({"sweep__budgets": (1e6, 1e11)}, "do not pay for one step"),
        ({"sweep__kind": "hyper", "sweep__tokens": (5000,), "sweep__batch_sizes": (7, 9)},
         "a run of 5000 tokens is not a multiple of the 8064 tokens that steps of 7, 9 rows share"),
        # numbers
        ({"sweep__kind": "ladder", "sweep__tokens_per_param": (20, -1)}, "-1 should be positive"),
        ({"sweep__kind": "hyper", "sweep__tokens_per_param": (1e-9,)}, "a run of 1 tokens"),
        ({"sweep__kind": "data", "sweep__tokens": (1.5,)}, "1.5 should be a whole number"),
        ({"sweep__kind": "data", "sweep__tokens": ("1e6",)}, "'1e6' should be a number"),
        # ranges
        ({**RANDOM, "sweep__random_ranges": (("optim.lr", 1e-4, 1e-2),)}, "random_ranges[0]="),
        ({**RANDOM, "sweep__random_ranges": (("optim.lr", "log", 0.0, 1e-2),)}, "positive"),
        ({**RANDOM, "sweep__random_ranges": (("optim.lr", "log", 1e-2, 1e-3),)}, "low < high"),
        ({**RANDOM, "sweep__random_ranges": (("seed", "choice", 0, 1, 2),),
          "sweep__random_count": 5}, "gave only 3 different runs"),
    ],
)  # fmt: skip
def test_an_impossible_sweep_is_one_line(changes, message):
    with pytest.raises(UserError) as caught:
        planner.plan(python_text(**changes))
    assert message in str(caught.value) and "\n" not in str(caught.value)
