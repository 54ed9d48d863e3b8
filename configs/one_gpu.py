r"""IsoFLOP sweep for one GPU: 1e16 to 1e18 FLOPs of Llama blocks on FineWeb-Edu.

    hf download HuggingFaceFW/fineweb-edu --repo-type dataset --include 'sample/10BT/*' \
        --local-dir fineweb-edu
    scaling plan --config=configs/one_gpu.py --device=h100 --price=2.5
    scaling curves --config=configs/one_gpu.py --workdir=results/one_gpu

Time: the plan counts 25 runs, 5 hours of an H100 at 40% of its peak, 13 dollars, and a held-out run
of 2 hours.
Result: none yet. Its authors had no GPU. CI trains it in miniature, on parquet of its own.

The 14 files of sample/10BT have 28 GB and 10 billion tokens. The longest run reads 6 billion: nine
files are enough, and one for the sweep to 1e17 FLOPs. A BPE of 32,768 tokens is trained on them.
The context is 1,024, the schedule WSD, the numbers bfloat16 with float32 parameters. Rate and batch
follow DeepSeek's rules, which were fitted from 1e17 to 2e19 FLOPs; `scaling tune` fits your own.
On 24 GB add --config.train.accumulate=8.
"""

from scaling.configs import base


def get_config():
    c = base.get_config()
    c.name = "one_gpu"
    c.model.mlp = "swiglu"
    c.model.head_dim = 64
    c.model.qk_norm = True
    c.model.dtype = "bfloat16"
    c.model.remat = "block"  # or batches of 128 rows do not fit 80 GB
    c.model.scan_layers = True
    c.data.name = "parquet"
    c.data.path = "fineweb-edu/sample/10BT"
    c.data.valid_fraction = 0.005
    c.data.tokenizer = "bpe"
    c.data.vocab_size = 32_768
    c.data.seq_len = 1024
    c.optim.schedule = "wsd"
    c.train.batch_size = 64
    c.eval.tokens = 2_097_152
    c.eval.batch_size = 64
    c.checkpoint.every_tokens = 200_000_000
    c.sweep.kind = "compute"
    c.sweep.recipe = "deepseek"
    c.sweep.budgets = (1e16, 3e16, 1e17, 3e17, 1e18)
    c.sweep.sizes_per_budget = 5
    c.sweep.optimum_guess = 5e4  # about 40 tokens per parameter
    c.sweep.optimum_exponent = 0.5
    c.sweep.min_width = 64
    c.sweep.width_ratio = 1.25
    c.sweep.width_multiple = 64
    c.sweep.rungs = 15
    c.sweep.aspect_ratio = 64.0
    c.sweep.mlp_ratio = 2.6875
    c.sweep.assumed_mfu = 0.4
    c.laws.holdout_factor = 3.0
    return c
