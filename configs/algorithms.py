"""Families of models or recipes whose compute experiments/algorithms.py compares.

    python -m experiments.algorithms --question=text --out=docs/algorithms/text

A config is `question.family`, such as configs/algorithms.py:text.lstm. All families train the
same widths and lengths, each at three learning rates around one rule, a factor of three apart.
The best counts, so that no family is judged by another's rate; the table says if it is at the
edge. The plain network on images is cheaper, so it has wider sizes and a fourth rate.

Time: seconds of all families of a question on two CPU cores.
Result: how many times more compute the baseline needs for the same loss, in the middle of the
compute both have (docs/algorithms.md).

    question   seconds    result
    text       294        lstm 3.1 [2.3, 4.9], mlp 2.7 [2, 3.9]
    images     about 480  cnn 4.2 [3.2, 5.9], mlp 13 [8.5, 76]
    optimizer  221        muon 1.3 [0.95, 1.9]
    feature    222        swiglu 1.1 [0.77, 1.4]
"""

from scaling.configs import python_text, vision_quickstart
from scaling.utils.errors import UserError


def transformer(c):
    """Attention over 128 bytes."""


def lstm(c):
    c.model.kind = "lstm"


def mlp(c):
    """Eight bytes of context."""
    c.model.kind = "mlp"


def flat(c):
    """All pixels at once, in widths that cost as much as the patches of the other families."""
    c.model.kind = "mlp"
    c.sweep.min_width, c.sweep.width_ratio = 16, 2.2
    c.sweep.lr_factors = (0.1, 0.3, 1.0, 3.0)


def cnn(c):
    """Three taps along each axis of the 7 x 7 patches."""
    c.model.kind = "cnn"
    c.model.kernel = 3


def muon(c):
    c.optim.name = "muon"


def swiglu(c):
    c.model.mlp = "swiglu"
    c.sweep.mlp_ratio = 8 / 3


# question -> (text or images, its families, the baseline first)
QUESTIONS = {
    "text": ("text", {"transformer": transformer, "lstm": lstm, "mlp": mlp}),
    "images": ("images", {"vit": transformer, "cnn": cnn, "mlp": flat}),
    "optimizer": ("text", {"adamw": transformer, "muon": muon}),
    "feature": ("text", {"relu2": transformer, "swiglu": swiglu}),
}


def on_text():
    c = python_text.get_config()
    c.train.batch_size = 4  # 256 steps of the shortest runs
    c.sweep.lr_factors = (0.3, 1.0, 3.0)
    c.sweep.tokens = (131_072, 262_144, 524_288, 1_048_576)
    return c


def on_images():
    c = vision_quickstart.get_config()
    c.sweep.tokens = (7_680, 15_360, 30_720, 61_440)
    c.sweep.lr_coefficient = 0.3
    c.sweep.lr_factors = (0.3, 1.0, 3.0)
    return c


def get_config(name="text.transformer"):
    question, _, family = name.partition(".")
    if question not in QUESTIONS or family not in QUESTIONS[question][1]:
        known = (f"{q}.{f}" for q, (_, families) in QUESTIONS.items() for f in families)
        raise UserError(f"{name!r}: choose one of {', '.join(known)}")
    field, families = QUESTIONS[question]
    c = {"text": on_text, "images": on_images}[field]()
    c.name = f"algorithms-{question}-{family}"
    c.sweep.kind = "hyper"
    c.sweep.rungs, c.sweep.width_ratio = 4, 1.7
    c.laws.holdout_factor = 0.0
    families[family](c)
    return c
