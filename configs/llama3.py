"""One run of Llama 3 8B's model, parameter for parameter: 8,030,261,248 of them.

    scaling plan --config=configs/llama3.py
    scaling train --config=configs/llama3.py --workdir=results/llama3

It shares the architecture with Llama 3 (Grattafiori et al. 2024): RMSNorm, rotary positions,
SwiGLU, an untied head, 32 query heads that share 8 key-value heads. Data and recipe are those of
base.py. Without `data.tokenizer_path` a tokenizer of that many tokens is trained on the data.

Time: `scaling plan` counts 6.08e16 FLOPs for a million tokens, minutes on GPUs. Parameters,
gradients and AdamW's state take 128 GB: split them by `parallel.fsdp`.
Result: a loss of 8.03 billion parameters after 8 steps. No reference value is published.

A smaller model needs sizes alone: `model.depth`, `width`, `head_dim`, `kv_heads` and `mlp_width`,
`data.vocab_size` and `seq_len`.
"""

from scaling.configs import base


def get_config():
    c = base.get_config()
    c.name = "llama3"
    c.model.norm = "rmsnorm"
    c.model.norm_eps = 1e-5
    c.model.positions = "rotary"
    c.model.rope_base = 500_000.0
    c.model.mlp = "swiglu"
    c.model.tied_head = False
    c.model.depth = 32
    c.model.width = 4096
    c.model.head_dim = 128
    c.model.kv_heads = 8
    c.model.mlp_width = 14_336
    c.model.dtype = "bfloat16"
    c.model.remat = "block"
    c.model.scan_layers = True
    c.data.tokenizer = "bpe"
    c.data.vocab_size = 128_256
    c.data.seq_len = 8192
    return c
