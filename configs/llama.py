"""One run whose block is Llama's: RMSNorm, rotary positions, SwiGLU, untied head.

    scaling train --config=configs/llama.py --workdir=results/llama

Time: `scaling plan` counts 1.59e14 FLOPs for a million tokens, hours on two CPU cores.
Result: a loss of 25.3 million parameters after 488 steps. No reference value is published.
"""

from scaling.configs import base


def get_config():
    c = base.get_config()
    c.name = "llama"
    c.model.norm = "rmsnorm"
    c.model.positions = "rotary"
    c.model.mlp = "swiglu"
    c.model.tied_head = False
    c.model.depth = 8
    c.model.width = 512
    c.model.head_dim = 64
    c.model.mlp_width = 1376
    return c
