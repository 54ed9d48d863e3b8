"""One run of NanoDO's model: learned positions, LayerNorm without bias, GELU, tied head.

It shares the architecture, the default sizes (D 512, 6 blocks, 8 heads, F 2048) and the start of
embeddings. Matrices start otherwise: uniform (Xavier) in NanoDO, here normal, and those that write
into the residual stream smaller with depth. The recipe is not NanoDO's: data, vocabulary, context,
batch, learning rate and schedule, clipping and number type are those of base.py.

    scaling train --config=configs/nanodo.py --workdir=results/nanodo

Time: `scaling plan` counts 1.19e14 FLOPs for a million tokens, hours on two CPU cores.
Result: a loss of 18.9 million parameters after 488 steps. No reference value is published.
"""

from scaling.configs import base


def get_config():
    c = base.get_config()
    c.name = "nanodo"
    c.model.norm = "layernorm"
    c.model.positions = "learned"
    c.model.mlp = "gelu"
    c.model.tied_head = True
    c.model.depth = 6
    c.model.width = 512
    c.model.head_dim = 64
    c.model.mlp_width = 2048
    return c
