"""Byte-level Transformers on Python sources: the ground of sweeps.py, algorithms.py and mini.py.

    scaling curves --config=configs/python_text.py --workdir=results/python_text

Time: 194 s on two CPU cores, for 24 runs and the held-out run.
Result: N* ~ C^0.632 [0.581, 0.694] and L* ~ C^-0.130 [-0.144, -0.117].

Four budgets over 1.5 decades, six sizes each, on the sources of sympy and mpmath. The context is
128 bytes, a step 8 sequences (1,024 tokens), the head tied. The learning rate warms up over 5% of
each run and follows a cosine to 0. It is the rule that experiments/lr_study.py found on this
corpus.
"""

from scaling.configs import base


def get_config():
    c = base.get_config()
    c.name = "quickstart"
    c.data.hash = "20ab74fedd5d7fa0"
    c.model.tied_head = True
    c.model.head_dim = 8
    c.optim.beta2 = 0.99
    c.train.batch_size = 8
    c.sweep.kind = "compute"
    c.sweep.budgets = (3e10, 9.6e10, 3e11, 9.6e11)
    c.sweep.sizes_per_budget = 6
    c.sweep.optimum_guess = 4e4
    c.sweep.optimum_exponent = 0.6
    c.sweep.min_width = 8
    c.sweep.width_ratio = 1.15
    c.sweep.width_multiple = 8
    c.sweep.rungs = 17
    c.sweep.aspect_ratio = 32.0
    c.sweep.lr_coefficient = 0.876
    c.sweep.lr_n_exponent = 0.4
    c.laws.huber_delta = 1e-2
    c.laws.holdout_factor = 3.2
    return c
