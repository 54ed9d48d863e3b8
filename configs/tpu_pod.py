"""IsoFLOP sweep for a TPU pod: 1e18 to 1e20 FLOPs, else as one_gpu.py.

    scaling plan --config=configs/tpu_pod.py --device=v5e --count=64 --price=1.2
    scaling curves --config=configs/tpu_pod.py --workdir=gs://BUCKET/tpu_pod    # on every host

Time: the plan counts 25 runs, 40 hours and 3,000 dollars at 1.2 a chip and hour, and a held-out
run of 16 hours.
Result: none yet. Its authors had no TPU. CI trains it in miniature, on parquet of its own.

All devices share each run: groups of eight split the weights, and the groups split the batch. The
longest run reads 65 billion tokens of the 100 billion of sample/100BT.
"""

from scaling.configs import one_gpu


def get_config():
    c = one_gpu.get_config()
    c.name = "tpu_pod"
    c.data.path = "fineweb-edu/sample/100BT"
    c.data.seq_len = 2048
    c.parallel.fsdp = 8
    c.sweep.budgets = (1e18, 3e18, 1e19, 3e19, 1e20)
    c.launch.workers = 1
    return c
