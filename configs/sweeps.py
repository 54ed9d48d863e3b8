"""A small study per kind of sweep, on the quickstart's text and recipe: minutes on two CPU cores each.

    scaling curves --config=configs/sweeps.py:params --workdir=results/params

after the colon: params, data, epochs, ladder, grid, random, hyper, merge or design. `experiments/` has a script for each that
also copies the curves to a folder of choice.
"""

from configs import quickstart

LR_AT = 0.876, 0.4  # the quickstart's rule: lr = 0.876 n_params^-0.4


def params(c):
    """L(N) of nine sizes, each with two seeds."""
    c.sweep.kind = "params"
    c.sweep.tokens = (1_000_000,)
    c.sweep.seeds = (0, 1)


def data(c):
    """L(D) of one size, 24,736 parameters, from an eighth of a million tokens to four, each with two seeds."""
    _one_size(c, width=32, n_params=24_736)
    c.sweep.kind = "data"
    c.sweep.tokens = tuple(131_072 * 2**k for k in range(6))
    c.sweep.seeds = (0, 1)


def epochs(c):
    """What repeated data are worth: one size, four amounts of unique data, up to 64 epochs of the smallest."""
    _one_size(c, width=24, n_params=13_944)
    c.sweep.kind = "data"
    c.sweep.tokens = tuple(131_072 * 2**k for k in range(6))
    c.sweep.unique_tokens = (65_536, 262_144, 1_048_576, 4_194_304)


def ladder(c):
    """L(N, D) of five sizes at four lengths; warm-up and constant rate are the same, so that lengths share trunks."""
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

    With this weight decay the best batch grows from about a hundred tokens to several hundred between these lengths
    (pilots with contexts of 128 and 64 had it at the edge of their grids). Contexts are short, for small batches; a
    worker has one device, since a few sequences of 32 tokens are not worth splitting.
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
    """Four lengths of one size, each ended by a decay and by merges of checkpoints, with three seeds; one trunk each."""
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
    """The coarse ladder that experiments/design.py begins with; its rounds are proposed from there."""
    c.sweep.kind = "ladder"
    _coarse(c, rungs=4)
    c.sweep.tokens = (196_608, 589_824, 1_769_472)


def _one_size(c, width: int, n_params: int):
    c.model.width = width
    c.model.mlp_width = 4 * width
    c.optim.lr = float(f"{LR_AT[0] * n_params ** -LR_AT[1]:.3g}")


def _coarse(c, rungs: int):
    """Widths about one and a half times the one below, in eights, those that fall together once: 8, 16, 24, 40, 64 of 6 rungs."""
    c.sweep.width_ratio = 1.5
    c.sweep.rungs = rungs


STUDIES = {
    f.__name__: f for f in (params, data, epochs, ladder, grid, random, hyper, merge, design)
}


def get_config(study="params"):
    if study not in STUDIES:
        raise ValueError(f"no study {study!r}; choose from {', '.join(STUDIES)}")
    c = quickstart.get_config()
    c.name = study
    c.laws.holdout_factor = 0.0
    STUDIES[study](c)
    return c
