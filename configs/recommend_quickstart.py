"""IsoFLOP sweep of SASRec-like Transformers that predict the next identifier of a source file.

    scaling curves --config=configs/recommend_quickstart.py --workdir=results/recommend

Time: 174 s on two CPU cores.
Result: N* ~ C^0.93 [0.69, 1.72] and L* ~ C^-0.079 [-0.103, -0.048]. At 3 times the largest budget
the forecast is 4.52 [4.06, 4.77] nats, the measurement 4.72 (docs/fields.md).

The 2,210 Python files of installed packages are users, their 2,986 identifiers items, in 148,184
uses by order of first appearance. A tenth of the files is held out whole. A window has 64 items,
a step 4 windows (256 positions, padding included). The item embeddings are the head. The learning
rate warms up over 5% of each run and follows a cosine to 0. Its rule is the best of four at
524,288 positions and widths 8 to 32, and within a factor of two of the best at 131,072
(docs/fields/lr_grids.csv). D counts positions. Other versions of the packages have other items:
the run then names the right config.data.vocab_size.
"""

from scaling.configs import base


def get_config():
    c = base.get_config()
    c.name = "recommend_quickstart"
    c.data.field = "recommend"
    c.data.name = "installed_identifiers"
    c.data.min_uses = 10
    c.data.valid_split = "users"
    c.data.valid_fraction = 0.1
    c.data.vocab_size = 2_987
    c.data.seq_len = 64
    c.model.tied_head = True
    c.model.head_dim = 4
    c.optim.beta2 = 0.99
    c.train.batch_size = 4
    c.eval.tokens = 4_096
    c.eval.batch_size = 64
    c.sweep.kind = "compute"
    c.sweep.budgets = (1.5e10, 5e10, 1.5e11, 5e11)
    c.sweep.sizes_per_budget = 6
    c.sweep.optimum_guess = 2.5e4
    c.sweep.optimum_exponent = 0.5
    c.sweep.min_width = 4
    c.sweep.width_ratio = 1.25
    c.sweep.width_multiple = 4
    c.sweep.rungs = 16
    c.sweep.lr_coefficient = 0.2
    c.sweep.lr_n_exponent = 0.25
    c.laws.huber_delta = 1e-2
    c.laws.holdout_factor = 3.0
    return c
