"""IsoFLOP sweep of spectrogram Transformers that classify the sounds of Russian speech.

    scaling curves --config=configs/speech_quickstart.py --workdir=results/speech

Time: 571 s on two CPU cores.
Result: N* ~ C^0.56 [0.38, 0.71] and L* ~ C^-0.195 [-0.201, -0.190]. At 3 times the largest budget
the forecast is 0.690 [0.644, 0.778] nats, the measurement 0.671 (docs/fields.md).

Debian's package festvox-ru has one speaker's utterances: 52,437 segments to train on and 1,935
held out, by utterance, with 51 labels. A segment is its middle 16 frames of 10 ms and 40 mel
bands; a shorter one is filled with silence. It has 20 patches of 4 frames x 8 bands with learned
positions. Each patch attends to all; a label is read from their mean. A step has 16 segments. The
learning rate warms up over 5% of each run and follows a cosine to 0. At 32,000 segments the best
of three rates is the rule's at width 16 and twice that, the highest tried, at widths 8 and 32. At
128,000 segments, in batches of 32, it is the rule's (docs/fields/lr_grids.csv). D counts
segments.
"""

from scaling.configs import base


def get_config():
    c = base.get_config()
    c.name = "speech_quickstart"
    c.data.field = "speech"
    c.data.name = "debian/festvox_ru"
    c.data.height, c.data.width, c.data.channels = 16, 40, 1
    c.data.classes = 51
    c.data.crop = 1
    c.data.time_masks, c.data.mask_frames = 1, 2
    c.data.band_masks, c.data.mask_bands = 1, 6
    c.model.patch_height, c.model.patch_width = 4, 8
    c.model.positions = "learned"
    c.model.head_dim = 4
    c.optim.beta2 = 0.99
    c.train.batch_size = 16
    c.eval.tokens = 1_935
    c.eval.batch_size = 256
    c.checkpoint.every_tokens = 60_000
    c.sweep.kind = "compute"
    c.sweep.budgets = (3e10, 1e11, 3e11, 1e12)
    c.sweep.sizes_per_budget = 6
    c.sweep.optimum_guess = 2e4
    c.sweep.optimum_exponent = 0.5
    c.sweep.min_width = 4
    c.sweep.width_ratio = 1.25
    c.sweep.width_multiple = 4
    c.sweep.rungs = 16
    c.sweep.lr_coefficient = 0.3
    c.sweep.lr_n_exponent = 0.4
    c.laws.huber_delta = 1e-2
    c.laws.holdout_factor = 3.0
    return c
