"""IsoFLOP sweep for one GPU: 3M to 167M parameters, 1e16 to 1e18 FLOPs, on English web text.

    scaling plan --config=configs/one_gpu.py
    scaling curves --config=configs/one_gpu.py --workdir=results/one_gpu

Time: `scaling plan` counts 30 runs, 8.6e18 FLOPs, and a held-out run of 3e18: some 26 hours of an
A100 at 40% of its peak.
Result: none yet. Its authors had no GPU. CI plans it. The learning-rate rule is a starting point
that experiments/lr_study.py should confirm.

Blocks are Llama's, in bfloat16 with float32 parameters. BPE of 32,768 tokens is trained on the
data. The context is 1,024, a step 64 sequences (65,536 tokens), the schedule WSD. The data are
c4, which TFDS prepares as array_record in `data.cache_dir`/tfds (docs/data.md); `data.name` takes
any TFDS text. All of the split is tokenised: `data.train_split="train[:10%]"` is enough for the
longest run.
"""

from scaling.configs import base


def get_config():
    c = base.get_config()
    c.name = "one_gpu"
    c.model.mlp = "swiglu"
    c.model.head_dim = 64
    c.model.qk_norm = True
    c.model.dtype = "bfloat16"
    c.data.name = "c4/en"
    c.data.valid_split = "validation"
    c.data.tokenizer = "bpe"
    c.data.vocab_size = 32_768
    c.data.seq_len = 1024
    c.optim.schedule = "wsd"
    c.train.batch_size = 64
    c.eval.tokens = 2_097_152
    c.eval.batch_size = 64
    c.checkpoint.every_tokens = 200_000_000
    c.sweep.kind = "compute"
    c.sweep.budgets = (1e16, 3e16, 1e17, 3e17, 1e18)
    c.sweep.sizes_per_budget = 6
    c.sweep.optimum_guess = 1e5
    c.sweep.optimum_exponent = 0.5
    c.sweep.min_width = 128
    c.sweep.width_ratio = 1.25
    c.sweep.width_multiple = 64
    c.sweep.rungs = 10
    c.sweep.aspect_ratio = 64.0
    c.sweep.mlp_ratio = 2.6875
    c.sweep.assumed_mfu = 0.4
    c.sweep.lr_coefficient = 1.0
    c.sweep.lr_n_exponent = 0.36
    c.laws.holdout_factor = 3.0
    return c
