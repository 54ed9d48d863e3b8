"""Peaks and memory of accelerators, from their makers' data sheets: the one table of them.

Peaks are dense, without sparsity, at the boost clock that the maker states, with sums in float32.
Bytes are powers of 1000, as sold. "network" is what a device sends to its neighbours in a ring: all
NVLinks or Infinity Fabric links in one direction, PCIe in one direction, of TPUs both directions of
one axis of the torus (https://jax-ml.github.io/scaling-book).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from scaling.utils import suggest
from scaling.utils.errors import UserError

# Words of a device's kind that mark a variant of another speed.
VARIANTS = {"ti", "d", "super", "laptop", "mobile", "nvl"}
NVIDIA, IMAGES = "https://www.nvidia.com", "https://images.nvidia.com/aem-dam"
GOOGLE = "https://cloud.google.com/tpu/docs"


@dataclass(frozen=True)
class Device:
    """One accelerator, as a device of JAX (of TPU v3, whose two cores are devices, one chip)."""

    name: str  # as --device takes it
    kinds: tuple[str, ...]  # words of jax's `device_kind`; the longest match names the device
    platform: str  # gpu | tpu
    generation: int  # CUDA's compute capability, its first number; 0 elsewhere
    bf16: float  # FLOP/s; 0 if the matrix units have no bfloat16
    tf32: float  # FLOP/s; 0 if they have no TF32
    fp32: float  # FLOP/s; 0 if the maker states none
    memory: float  # bytes
    bandwidth: float  # bytes/s of its memory
    network: float  # bytes/s sent to its neighbours; 0 if not known
    source: str

    def peak(self, dtype: str) -> tuple[float, str]:
        """Return (FLOP/s of products of `dtype` under JAX's defaults, the precision used).

        JAX multiplies float32 in TF32 on NVIDIA GPUs since Ampere and in bfloat16 on TPUs. A GPU
        without bfloat16 units computes in float32.
        """
        if dtype == "bfloat16" and self.bf16:
            return self.bf16, "bf16"
        if self.platform == "tpu":
            return self.bf16, "bf16"
        return (self.tf32, "tf32") if self.generation >= 8 else (self.fp32, "fp32")


def _nvidia(name, kind, generation, bf16, tf32, fp32, gb, gb_per_s, network, source) -> Device:
    """Return a row; speeds in TFLOP/s and GB/s, memory in GB."""
    peaks = (bf16 * 1e12, tf32 * 1e12, fp32 * 1e12)
    rates = (gb * 1e9, gb_per_s * 1e9, network * 1e9)
    return Device(name, (kind,), "gpu", generation, *peaks, *rates, source)


def _tpu(name, kinds, bf16, gb, gb_per_s, network) -> Device:
    rates = (gb * 1e9, gb_per_s * 1e9, network * 1e9)
    version = name.removeprefix("tpu-")
    return Device(name, kinds, "tpu", 0, bf16 * 1e12, 0.0, 0.0, *rates, f"{GOOGLE}/{version}")


_A100 = f"{NVIDIA}/en-us/data-center/a100"
_H100 = f"{NVIDIA}/en-us/data-center/h100"
_BLACKWELL = f"{IMAGES}/Solutions/geforce/blackwell/nvidia-rtx-blackwell-gpu-architecture.pdf"

# fmt: off
DEVICES = (
    #       name        kind of jax              CC  bf16   tf32   fp32   GB  GB/s  network
    _nvidia("a100-40", "NVIDIA A100 40GB",        8, 312,   156,   19.5,  40, 1555, 300, _A100),
    _nvidia("a100-80", "NVIDIA A100",             8, 312,   156,   19.5,  80, 2039, 300, _A100),
    _nvidia("h100", "NVIDIA H100",                9, 989,   494.5, 67,    80, 3350, 450, _H100),
    _nvidia("h100-pcie", "NVIDIA H100 PCIe",      9, 756,   378,   51,    80, 2000, 64,
        f"{NVIDIA}/content/dam/en-zz/Solutions/gtcs22/data-center/h100/PB-11133-001_v01.pdf"),
    _nvidia("h200", "NVIDIA H200",                9, 989,   494.5, 67,   141, 4800, 450,
        f"{NVIDIA}/en-us/data-center/h200"),
    _nvidia("b200", "NVIDIA B200",               10, 2250,  1125,  75,   180, 7700, 900,
        f"{NVIDIA}/en-us/data-center/hgx"),
    _nvidia("l4", "NVIDIA L4",                    8, 121,   60,    30.3,  24, 300, 32,
        f"{NVIDIA}/en-us/data-center/l4"),
    _nvidia("l40s", "NVIDIA L40S",                8, 362,   183,   91.6,  48, 864, 32,
        f"{NVIDIA}/en-us/data-center/l40s"),
    _nvidia("a10", "NVIDIA A10",                  8, 125,   62.5,  31.2,  24, 600, 32,
        f"{NVIDIA}/en-us/data-center/products/a10-gpu"),
    _nvidia("rtx-3090", "NVIDIA GeForce RTX 3090", 8, 71.2, 35.6,  35.6,  24, 936, 32,
        f"{NVIDIA}/content/dam/en-zz/Solutions/geforce/ampere/pdf/NVIDIA-ampere-GA102-GPU-"
        "Architecture-Whitepaper-V1.pdf"),
    _nvidia("rtx-4090", "NVIDIA GeForce RTX 4090", 8, 165.2, 82.6, 82.6,  24, 1008, 32,
        _BLACKWELL),
    _nvidia("rtx-5090", "NVIDIA GeForce RTX 5090", 12, 209.5, 104.8, 104.8, 32, 1792, 64,
        _BLACKWELL),
    _nvidia("v100", "Tesla V100 SXM2",            7, 0,     0,     15.7,  32, 900, 150,
        f"{NVIDIA}/en-us/data-center/v100"),
    _nvidia("t4", "Tesla T4",                     7, 0,     0,     8.1,   16, 320, 16,
        f"{NVIDIA}/en-us/data-center/tesla-t4"),
    # float32 products by its fp32 matrix units: whether XLA takes TF32 there is not known
    _nvidia("mi300x", "AMD Instinct MI300X",      0, 1307.4, 653.7, 163.4, 192, 5300, 448,
        "https://www.amd.com/en/products/accelerators/instinct/mi300/mi300x.html"),
    _tpu("tpu-v3", (), 123, 32, 900, 0),  # no kind: jax has a device for each of its two cores
    _tpu("tpu-v4", ("TPU v4",), 275, 32, 1200, 90),
    _tpu("tpu-v5e", ("TPU v5 lite", "TPU v5e"), 197, 16, 820, 90),
    _tpu("tpu-v5p", ("TPU v5", "TPU v5p"), 459, 95, 2800, 180),
    _tpu("tpu-v6e", ("TPU v6 lite", "TPU v6e"), 918, 32, 1600, 180),
)
# fmt: on
OTHER_NAMES = {"a100": "a100-80", "h100-sxm": "h100"}


def named(name: str) -> Device:
    """Return the device that `--device` names. Raises UserError with the nearest known name."""
    known = {device.name: device for device in DEVICES}
    key = re.sub(r"[\s_]+", "-", name.strip().lower())
    for form in (key, f"tpu-{key}", key.replace("rtx", "rtx-"), f"rtx-{key}"):
        form = OTHER_NAMES.get(form, form)
        if form in known:
            return known[form]
    nearest = suggest.nearest(key, [*known, *OTHER_NAMES])
    hint = f"did you mean {nearest}? " if nearest else f"known are {', '.join(known)}; "
    raise UserError(
        f"--device={name}: unknown device; {hint}For another, leave --device out and state "
        "--peak_flops (FLOP/s of one device) with --count"
    )


def of_kind(kind: str) -> Device | None:
    """Return the device of jax's `device_kind`, None for an unknown one."""
    words = set(re.findall(r"\w+", kind.lower()))
    matches = [
        (len(one), device)
        for device in DEVICES
        for one in device.kinds
        if set(one.lower().split()) <= words and not words & VARIANTS
    ]
    return max(matches, key=lambda match: match[0])[1] if matches else None
