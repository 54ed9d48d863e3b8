r"""IsoFLOP sweep for the eight GPUs of a node: 1e17 to 1e19 FLOPs, else as one_gpu.py.

    hf download HuggingFaceFW/fineweb-edu --repo-type dataset --include 'sample/100BT/*' \
        --local-dir fineweb-edu
    scaling plan --config=configs/eight_gpus.py --device=h100 --count=8 --price=2.5
    scaling curves --config=configs/eight_gpus.py --workdir=results/eight_gpus

Time: the plan counts 25 runs, 6 hours of eight H100 at 40% of their peak, 126 dollars, and a
held-out run of 2.6 hours.
Result: none yet. Its authors had no GPU. CI trains it in miniature, on parquet of its own.

All devices share each run by splitting its batch. The longest run reads 25 billion tokens of the
100 billion of sample/100BT: a quarter of its files is enough.
"""

from scaling.configs import one_gpu


def get_config():
    c = one_gpu.get_config()
    c.name = "eight_gpus"
    c.data.path = "fineweb-edu/sample/100BT"
    c.sweep.budgets = (1e17, 3e17, 1e18, 3e18, 1e19)
    c.launch.workers = 1
    return c
