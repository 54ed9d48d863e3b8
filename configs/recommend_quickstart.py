"""The next identifier of a source file: IsoFLOP sweeps of SASRec-like Transformers, in minutes on two CPU cores.

2,210 Python files of installed packages are users, the 2,986 identifiers in them items, 148,184 uses in order of first
appearance; a tenth of the files is held out whole, and what comes next in them is predicted. Context 64 items, 4
windows (256 positions, padding among them) per step; item embeddings are the head; cosine decay to the end of each
run, warm-up 5% of it. D counts positions. The rate rule is the best of four at 524,288
positions and widths 8 to 32, and within a factor of two of it at 131,072 (docs/fields/lr_grids.csv). Other versions
of the packages have other items: the run then says which config.data.vocab_size to set.

    scaling curves --config=configs/recommend_quickstart.py --workdir=results/recommend
"""

from configs import base


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
