"""IsoFLOP sweep of byte-level Transformers on real text, with a tested forecast.

    scaling curves --config=configs/quickstart.py --workdir=results/quickstart

Time: 260 s on two CPU cores, for 50 runs and the held-out run.
Result: N* ~ C^0.61 [0.51, 0.71] and L* ~ C^-0.106 [-0.111, -0.101]. At 10 times the largest budget
the forecast is 1.374 [1.302, 1.498] nats, the measurement 1.374 (docs/quickstart.md).

Five budgets over 1.2 decades, five widths each with two seeds, on the Python sources of sympy and
mpmath. All models have two blocks, a context of 128 bytes and a tied head. Under muP one learning
rate fits all widths. It follows the length of a run and its batch, and the batch follows the
length, by scaling/recipes/quickstart.json, which `scaling tune` fitted on this corpus. The rate
warms up over 5% of each run and follows a cosine to 0.
"""

from scaling.configs import base


def get_config():
    c = base.get_config()
    c.name = "quickstart"
    c.data.hash = "20ab74fedd5d7fa0"
    c.data.valid_fraction = 0.06
    c.data.split_seed = 58  # of 300 one of the two with 5% overlap and 10% in one document, at most
    c.model.tied_head = True
    c.model.head_dim = 8
    c.model.parametrization = "mup"
    c.model.base_width = 16
    c.model.base_depth = 2
    c.optim.beta2 = 0.99
    c.sweep.kind = "compute"
    c.sweep.recipe = "quickstart"
    c.sweep.budgets = (3e10, 6e10, 1.2e11, 2.4e11, 4.8e11)
    c.sweep.sizes_per_budget = 5
    c.sweep.optimum_guess = 5.2e4
    c.sweep.optimum_exponent = 0.55
    c.sweep.seeds = (0, 1)
    c.sweep.min_width = 8
    c.sweep.width_ratio = 1.15
    c.sweep.width_multiple = 8
    c.sweep.rungs = 17
    c.sweep.aspect_ratio = 1e6  # two blocks at every width
    c.launch.workers = 2  # a core each: a step of 128 tokens is too short to be shared
    c.parallel.cpu_devices = 1
    c.laws.huber_delta = 1e-2
    c.laws.holdout_factor = 10.0
    return c
