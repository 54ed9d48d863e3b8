"""A sweep of sixteen runs of 288 to 576 steps for kill tests: 6 share two trunks, 8 are cosine."""

from scaling.configs import mini
from tests.common import STEP, TINY


def get_config():
    c = mini.get_config()
    c.name = "sixteen"
    c.update_from_flattened_dict(TINY)
    c.sweep.kind = "grid"
    c.sweep.grid_keys = ("optim.schedule", "train.tokens", "seed")
    lengths = tuple(STEP * steps for steps in (288, 384, 480, 576))
    c.sweep.grid_values = (("wsd", "cosine"), lengths, (0, 1))
    c.optim.warmup_tokens = STEP * 48
    c.checkpoint.every_tokens = STEP * 64
    return c
