"""The next identifier of a source file: IsoFLOP sweeps of SASRec-like Transformers, in minutes on two CPU cores.

824 files of sympy and mpmath are users, the 3,378 identifiers in them items, 78,196 uses in order of first
appearance; of each file the last is held out. Context 64 items, 16 windows (1,024 positions, padding among them) per
step; item embeddings are the head; cosine decay to the end of each run, warm-up 5% of it. D counts positions.

    scaling curves --config=configs/recommend_quickstart.py --workdir=results/recommend
"""

from configs import base


def get_config():
    c = base.get_config()
    c.name = "recommend_quickstart"
    c.data.field = "recommend"
    c.data.name = "python_identifiers"
    c.data.vocab_size = 3_379
    c.data.seq_len = 64
    c.model.tied_head = True
    c.model.head_dim = 8
    c.optim.beta2 = 0.99
    c.train.batch_size = 16
    c.eval.tokens = 824
    c.eval.batch_size = 64
    c.sweep.kind = "compute"
    c.sweep.budgets = (3e10, 1e11, 3e11, 1e12)
    c.sweep.sizes_per_budget = 5
    c.sweep.optimum_guess = 2e4
    c.sweep.optimum_exponent = 0.5
    c.sweep.min_width = 8
    c.sweep.width_ratio = 1.3
    c.sweep.width_multiple = 8
    c.sweep.rungs = 12
    c.sweep.lr_coefficient = 0.3
    c.sweep.lr_n_exponent = 0.4
    c.laws.huber_delta = 1e-2
    c.laws.holdout_factor = 3.0
    return c
