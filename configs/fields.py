"""L(N) and L(D) of vision, speech and recommendation, on the data of their quickstarts.

    scaling curves --config=configs/fields.py:vision.params --workdir=results/vision_params

The name after the colon is a field, a dot, and params or data. Sizes span 1.8 decades, lengths
1.5. configs/sweeps.py has the same two of language.

Time: seconds of the whole command on two CPU cores.
Result: the fitted law (docs/fields.md).

    name              seconds  result
    vision.params     93       0.545 + 13 N^-0.60 [0.48, 0.73] at 60,000 images
    vision.data       95       exponent 0.42 [0.29, 0.72]
    speech.params     74       0.80 + 19.9 N^-0.43 [0.34, 0.59] at 120,000 segments
    speech.data       66       exponent 0.47 [0.36, 0.64]
    recommend.params  53       4.76 + 18.5 N^-0.44 [0.33, 0.65] at 500,000 positions
    recommend.data    46       exponent 0.19 [0.12, 0.34]
"""

from scaling.configs import recommend_quickstart, speech_quickstart, vision_quickstart
from scaling.utils.errors import UserError

FIELDS = {
    "vision": vision_quickstart,
    "speech": speech_quickstart,
    "recommend": recommend_quickstart,
}
LENGTH = {
    "vision": 60_000,
    "speech": 120_000,
    "recommend": 500_000,
}  # of each size, in the unit of D


def params(c, length):
    """L(N) of six sizes, each with two seeds."""
    c.sweep.kind = "params"
    c.sweep.rungs, c.sweep.width_ratio = 8, 1.35
    c.sweep.tokens = (length,)
    c.sweep.seeds = (0, 1)


def data(c, length):
    """L(D) of one size over 32-fold lengths, each with two seeds.

    The longest runs repeat their data: 2 epochs of vision, 5 of speech and of recommend.
    """
    c.sweep.kind = "data"
    c.model.width, c.model.depth, c.model.mlp_width = 32, 2, 128
    c.optim.lr = float(f"{c.sweep.lr_coefficient * 24_736**-c.sweep.lr_n_exponent:.6g}")
    c.sweep.tokens = tuple(length // 16 * 2**k for k in range(6))
    c.sweep.seeds = (0, 1)


SWEEPS = {"params": params, "data": data}


def get_config(name="vision.params"):
    field, _, kind = name.partition(".")
    if field not in FIELDS or kind not in SWEEPS:
        known = ", ".join(f"{f}.{k}" for f in FIELDS for k in SWEEPS)
        raise UserError(f"{name!r}: choose one of {known}")
    c = FIELDS[field].get_config()
    c.name = f"{field}_{kind}"
    c.laws.holdout_factor = 0.0
    SWEEPS[kind](c, LENGTH[field])
    return c
