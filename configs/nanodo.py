"""One run whose block is NanoDO's: learned positions, LayerNorm without bias, GELU, tied head.

scaling train --config=configs/nanodo.py --workdir=results/nanodo
"""

from configs import base


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
