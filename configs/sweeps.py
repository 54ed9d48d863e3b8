"""A small study of each kind of sweep, on the text and rate of configs/python_text.py.

    scaling curves --config=configs/sweeps.py:params --workdir=results/params

The name after the colon is a kind below. `python -m experiments.publish params --out=DIR` also
copies the curves to a folder; design and merge are scripts of their own, experiments/design.py
and merge.py.

Time: seconds on two CPU cores, of the whole command or, in brackets, of the training alone.
Result: see docs/sweeps.md for intervals and conditions.

    kind    runs  seconds  result
    params  18    166      L(N) = 1.45 + 16.8 N^-0.396 [0.342, 0.616] at 1.0e6 tokens
    data    12    (73)     L(D): exponent 0.27 [0.17, 0.49], weakly identified
    epochs  24    129      4 epochs are worth 95% [94, 97] of fresh tokens, 16 epochs 74% [70, 83]
    ladder  20    228      L(N, D): alpha 0.38 [0.15, 0.58], beta 0.49 [0.16, 0.89]
    grid    45    80       best lr 0.0219 [0.0189, 0.0341] at weight decay 0.1
    random  32    (269)    the best draw of lr, weight decay and beta2
    hyper   120   386      no law: all optima inside the grid are of one length
    merge   48    182      merged cooldowns are worse than decays
    design  25    116      forecast at 3e12 FLOPs: 1.52 [1.44, 1.70] after two rounds, 9 runs first
"""

from scaling.configs import python_text
from scaling.utils.errors import UserError

LR_AT = 0.876, 0.4  # the rule of python_text: lr = 0.876 n_params^-0.4


def params(c):
    """L(N) of nine sizes, each with two seeds."""
    c.sweep.kind = "params"
    c.sweep.tokens = (1_000_000,)
    c.sweep.seeds = (0, 1)


def data(c):
    """L(D) of 24,736 parameters at 131,072 tokens and five doublings, each with two seeds."""
    _one_size(c, width=32, n_params=24_736)
    c.sweep.kind = "data"
    c.sweep.tokens = tuple(131_072 * 2**k for k in range(6))
    c.sweep.seeds = (0, 1)


def epochs(c):
    """L(D, U) of one size and four amounts of unique data, up to 64 epochs of the smallest."""
    _one_size(c, width=24, n_params=13_944)
    c.sweep.kind = "data"
    c.sweep.tokens = tuple(131_072 * 2**k for k in range(6))
    c.sweep.unique_tokens = (65_536, 262_144, 1_048_576, 4_194_304)


def ladder(c):
    """L(N, D) of five sizes at four lengths.

    All lengths of a size have one warm-up and one constant rate, so they share a trunk.
    """
    c.sweep.kind = "ladder"
    _coarse(c, rungs=6)
    c.sweep.tokens = (262_144, 524_288, 1_048_576, 2_097_152)
    c.optim.schedule = "wsd"
    c.optim.warmup_tokens = 32_768


def grid(c):
    """Learning rate and weight decay of one size, with three seeds."""
    _one_size(c, width=24, n_params=13_944)
    c.train.tokens = 524_288
    c.sweep.kind = "grid"
    c.sweep.grid_keys = ("optim.lr", "optim.weight_decay")
    c.sweep.grid_values = ((0.0048, 0.0096, 0.0192, 0.0384, 0.0768), (0.0, 0.1, 0.3))
    c.sweep.seeds = (0, 1, 2)


def random(c):
    """Random draws of learning rate, weight decay and Adam's second moment decay."""
    _one_size(c, width=24, n_params=13_944)
    c.train.tokens = 524_288
    c.sweep.kind = "random"
    c.sweep.random_count = 32
    c.sweep.random_ranges = (
        ("optim.lr", "log", 4e-3, 8e-2),
        ("optim.weight_decay", "log", 1e-2, 1.0),
        ("optim.beta2", "uniform", 0.9, 0.999),
    )


def hyper(c):
    """The best learning rate and batch size of three sizes at two lengths.

    With this weight decay the best batch grows between these lengths from about a hundred tokens to
    several hundred. Pilots with contexts of 128 and 64 had it at the edge of their grids, so
    contexts are short here. A worker has one device: a few sequences of 32 tokens are not worth
    splitting.
    """
    c.sweep.kind = "hyper"
    c.data.seq_len = 32
    c.sweep.min_width = 16
    _coarse(c, rungs=3)
    c.sweep.tokens = (524_288, 1_572_864)
    c.sweep.lr_factors = (0.125, 0.25, 0.5, 1.0, 2.0)
    c.sweep.batch_sizes = (2, 5, 12, 28)
    c.parallel.cpu_devices = 1
    c.launch.workers = 2


def merge(c):
    """Four lengths of one size, each ended by a decay and by merges, with three seeds.

    All runs of a seed share a trunk.
    """
    _one_size(c, width=24, n_params=13_944)
    c.sweep.kind = "grid"
    c.optim.schedule = "wsd"
    c.optim.warmup_tokens = 16_384
    c.sweep.grid_keys = (
        "train.tokens",
        ("optim.cooldown", "optim.merge_checkpoints", "optim.merge_weights"),
    )
    c.sweep.grid_values = (
        (262_144, 524_288, 1_048_576, 2_097_152),
        (
            ("decay", 8, "uniform"),
            ("merge", 3, "uniform"),
            ("merge", 5, "uniform"),
            ("merge", 5, "decay"),
        ),
    )
    c.sweep.seeds = (0, 1, 2)


def design(c):
    """The coarse ladder with which experiments/design.py begins its rounds."""
    c.sweep.kind = "ladder"
    _coarse(c, rungs=4)
    c.sweep.tokens = (196_608, 589_824, 1_769_472)


def _one_size(c, width: int, n_params: int):
    c.model.width = width
    c.model.mlp_width = 4 * width
    c.optim.lr = float(f"{LR_AT[0] * n_params ** -LR_AT[1]:.3g}")


def _coarse(c, rungs: int):
    """Widths about one and a half times the one below, rounded to eights, each once.

    Six rungs are 8, 16, 24, 40 and 64.
    """
    c.sweep.width_ratio = 1.5
    c.sweep.rungs = rungs


STUDIES = {
    f.__name__: f for f in (params, data, epochs, ladder, grid, random, hyper, merge, design)
}


def get_config(study="params"):
    if study not in STUDIES:
        raise UserError(f"{study!r}: choose one of {', '.join(STUDIES)}")
    c = python_text.get_config()
    c.name = study
    c.laws.holdout_factor = 0.0
    STUDIES[study](c)
    return c
