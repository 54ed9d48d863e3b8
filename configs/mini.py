"""An IsoFLOP study in miniature, for tests, CI and a first look. Its laws mean little.

    scaling curves --config=configs/mini.py --workdir=results/mini

Time: `scaling plan` counts 18 runs, 6.7e10 FLOPs, and a held-out run of 2.4e10: seconds of
training on two CPU cores.
Result: all curves and a forecast, of models of 792 to 12,384 parameters.
"""

from scaling.configs import python_text


def get_config():
    c = python_text.get_config()
    c.name = "mini"
    c.data.seq_len = 32
    c.train.batch_size = 4
    c.train.steps_per_dispatch = 16
    c.train.log_every = 4
    c.eval.tokens = 8_192
    c.checkpoint.every_tokens = 65_536
    c.sweep.budgets = (8e8, 2.4e9, 8e9)
    c.sweep.sizes_per_budget = 6
    c.sweep.optimum_guess = 3e3
    c.sweep.optimum_exponent = 0.0
    c.sweep.rungs = 8
    c.sweep.width_ratio = 1.25
    c.sweep.width_multiple = 4
    c.sweep.heads = 2
    c.sweep.min_depth = 1
    c.laws.min_steps = 0
    c.laws.bootstrap = 50
    c.laws.holdout_factor = 3.0
    return c
