"""IsoFLOP sweep of Vision Transformers that classify Fashion-MNIST.

    scaling curves --config=configs/vision_quickstart.py --workdir=results/vision

Time: 399 s on two CPU cores.
Result: N* ~ C^0.49 [0.37, 0.60] and L* ~ C^-0.159 [-0.210, -0.111]. At 3 times the largest budget
the forecast is 0.415 [0.322, 0.456] nats, the measurement 0.406 (docs/fields.md).

Debian's package dataset-fashion-mnist (MIT) has 60,000 images to train on and 10,000 held out. An
image of 28 x 28 pixels has 49 patches of 4 x 4 with learned positions. Each patch attends to all;
a label is read from their mean. A step has 8 images. The learning rate warms up over 5% of each
run and follows a cosine to 0. Its rule is a compromise: the best rate is twice as high at 7,680
images and lower at 61,440 (docs/algorithms/images/vit.csv). D counts images.
"""

from scaling.configs import base


def get_config():
    c = base.get_config()
    c.name = "vision_quickstart"
    c.data.field = "vision"
    c.data.name = "debian/fashion_mnist"
    c.data.valid_split = "test"
    c.data.height = c.data.width = 28
    c.data.channels = 1
    c.data.classes = 10
    c.data.crop = 2
    c.data.flip = True
    c.model.patch_height = c.model.patch_width = 4
    c.model.positions = "learned"
    c.model.head_dim = 4
    c.optim.beta2 = 0.99
    c.train.batch_size = 8
    c.eval.tokens = 10_000
    c.eval.batch_size = 256
    c.checkpoint.every_tokens = 60_000
    c.sweep.kind = "compute"
    c.sweep.budgets = (3e10, 1e11, 3e11, 1e12)
    c.sweep.sizes_per_budget = 6
    c.sweep.optimum_guess = 1e4
    c.sweep.optimum_exponent = 0.5
    c.sweep.min_width = 4
    c.sweep.width_ratio = 1.25
    c.sweep.width_multiple = 4
    c.sweep.rungs = 16
    c.sweep.lr_coefficient = 0.15
    c.sweep.lr_n_exponent = 0.4
    c.launch.workers = 2  # a core each: eight images are too few to be shared by two devices
    c.laws.huber_delta = 1e-2
    c.laws.holdout_factor = 3.0
    return c
