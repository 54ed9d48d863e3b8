"""One run of Qwen3's model, parameter for parameter: 8,190,735,360 of 8B, 596,049,920 of 0.6B.

    scaling plan --config=configs/qwen3.py
    scaling train --config=configs/qwen3.py:0.6B --workdir=results/qwen3

It shares the architecture with Qwen3 (Yang et al. 2025): that of Llama 3, with RMSNorm on queries
and keys. The head of 0.6B is tied, and its 16 heads of 128 are wider than the model. Data and
recipe are those of base.py. Without `data.tokenizer_path` a tokenizer of that many tokens is
trained on the data.

Time: `scaling plan` counts 5.18e16 FLOPs of 8B for a million tokens, minutes on GPUs. Parameters,
gradients and AdamW's state take 131 GB: split them by `parallel.fsdp`.
Result: a loss of 8.19 billion parameters after 15 steps. No reference value is published.

A smaller model needs sizes alone: `model.depth`, `width`, `head_dim`, `kv_heads` and `mlp_width`,
`data.vocab_size` and `seq_len`.
"""

from scaling.configs import base
from scaling.utils.errors import UserError

# depth, width, query heads (None: width / head_dim), hidden width of the MLP, tied head
SIZES = {"8B": (36, 4096, None, 12_288, False), "0.6B": (28, 1024, 16, 3072, True)}


def get_config(size="8B"):
    if size not in SIZES:
        raise UserError(f"configs/qwen3.py:{size}: no such size; choose one of {', '.join(SIZES)}")
    c = base.get_config()
    c.name = "qwen3"
    c.model.norm = "rmsnorm"
    c.model.positions = "rotary"
    c.model.rope_base = 1_000_000.0
    c.model.qk_norm = True
    c.model.mlp = "swiglu"
    c.model.depth, c.model.width, c.model.heads, c.model.mlp_width, c.model.tied_head = SIZES[size]
    c.model.head_dim = 128
    c.model.kv_heads = 8
    c.model.dtype = "bfloat16"
    c.model.remat = "block"
    c.model.scan_layers = True
    c.data.tokenizer = "bpe"
    c.data.vocab_size = 151_936
    c.data.seq_len = 4096
    return c
