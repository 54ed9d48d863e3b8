"""Image classifiers on Fashion-MNIST: IsoFLOP sweeps of Vision Transformers, in minutes on two CPU cores.

60,000 images to train on and 10,000 held out, of Debian's package dataset-fashion-mnist (MIT). 28 x 28 pixels in 49
patches of 4 x 4, learned positions, attention to all patches, mean over patches; 8 images per step; cosine
decay to the end of each run, warm-up 5% of it. The rate rule is a compromise: the best is
twice as high at 7,680 images and lower at 61,440 (docs/algorithms/images/vit.csv). D counts images.

    scaling curves --config=configs/vision_quickstart.py --workdir=results/vision
"""

from configs import base


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
