"""Describe the machine and code behind the numbers: versions, commit, device, matrix peak."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
import os
import platform
import re
import subprocess
import time
from importlib import metadata
from pathlib import Path

from scaling.utils import devices, files
from scaling.utils.errors import UserError

PACKAGE = Path(__file__).resolve().parent.parent  # the folder `scaling/`
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
CONTROL_GROUP = Path("/sys/fs/cgroup")

# Rounds that measure a CPU's peak, once: at least LEAST, until SAME of them find nothing faster.
LEAST_ROUNDS, SAME_ROUNDS, MOST_ROUNDS = 5, 3, 12


def cache_root() -> Path:
    """Return the folder of what every study of this machine may use again."""
    return Path(os.environ.get("SCALING_CACHE") or "~/.cache/scaling").expanduser()


def enable_compilation_cache() -> None:
    """Keep compiled programs on disk; `$JAX_COMPILATION_CACHE_DIR` overrides the folder."""
    import jax

    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(cache_root() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def start_jax(cpu_devices: int) -> None:
    """Configure jax before its first use: `cpu_devices` devices on CPU hosts, programs on disk.

    Raises UserError if something has used jax before.
    """
    import jax

    try:
        jax.config.update("jax_num_cpu_devices", cpu_devices)
    except RuntimeError as error:  # JAX has started with other devices
        raise UserError(
            "JAX has started before its devices were chosen: the file of --config, or a module "
            "that it imports, uses a JAX array; use numpy or plain numbers there"
        ) from error
    enable_compilation_cache()


@functools.cache
def versions() -> str:
    """Return "jax 0.10.2, ...", the versions of the packages that determine the numbers."""
    return ", ".join(f"{p} {metadata.version(p)}" for p in PACKAGES)


@functools.cache
def commit() -> str:
    """Return the commit of this code, "+changes" if tracked files differ, "unknown" without git."""
    try:
        run = functools.partial(
            subprocess.run, cwd=PACKAGE, capture_output=True, text=True, check=True, timeout=10
        )
        head = run(["git", "rev-parse", "--short=12", "HEAD"]).stdout.strip()
        changed = run(["git", "status", "--porcelain", "--untracked-files=no"]).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return head + ("+changes" if changed else "")


@functools.cache
def code_hash() -> str:
    """Return the SHA-256 of this package's sources.

    Unlike the commit, it also identifies installed code and uncommitted changes.
    """
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(f"{path.relative_to(PACKAGE)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


@functools.cache
def memory_bytes() -> int:
    """Return the memory that this process may use: the machine's, or its control group's."""
    least = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # of version 2, of version 1
        with contextlib.suppress(OSError, ValueError):  # "max" is no limit
            least = min(least, int((CONTROL_GROUP / name).read_text()))
    return least


def device_name() -> str:
    """Return e.g. "2 x NVIDIA H200 (32 host cores)"."""
    import jax

    all_devices = jax.devices()
    return f"{len(all_devices)} x {all_devices[0].device_kind} ({os.cpu_count()} host cores)"


def on_cpu() -> bool:
    """Return whether JAX computes on CPUs."""
    import jax

    return jax.default_backend() == "cpu"


def device_count() -> int:
    """Return the number of billed devices; a CPU host is one, even if jax sees several."""
    import jax

    return jax.process_count() if jax.default_backend() == "cpu" else jax.device_count()


@functools.cache
def peak_flops(dtype: str = "float32") -> float:
    """Return the FLOP/s of all devices: measured on CPUs in `dtype`, else from data sheets.

    NaN for an unknown accelerator. The first process of a CPU measures and the cache folder keeps
    the number, so that two plans agree. Rounds go on while another process slows some of them.
    """
    import jax

    all_devices = jax.devices()
    if all_devices[0].platform != "cpu":
        known = devices.of_kind(all_devices[0].device_kind)
        return known.peak(dtype)[0] * len(all_devices) if known else math.nan
    path = cache_root() / "peaks" / f"{_cpu_name()}-{dtype}.json"
    best, count = _known_peak(path)
    if count < LEAST_ROUNDS:
        best, count = _best_of_rounds(dtype)
        with contextlib.suppress(UserError):  # a folder that cannot be written keeps no peak
            files.write_json(path, {"flops_per_second": best, "measurements": count})
    return best * jax.process_count()


def utilisation(flops_per_second: float, dtype: str) -> float:
    """Return the share of the peak, NaN if no peak is known.

    NaN, too, above 1: then every measurement of the peak was slowed down.
    """
    share = flops_per_second / peak_flops(dtype)
    return share if share <= 1 else math.nan


def _best_of_rounds(dtype: str) -> tuple[float, int]:
    """Return (the fastest of several rounds in FLOP/s, their number)."""
    rounds: list[float] = []
    while len(rounds) < MOST_ROUNDS:
        rounds.append(_measured_peak(dtype))
        since_best = len(rounds) - 1 - rounds.index(max(rounds))
        if len(rounds) >= LEAST_ROUNDS and since_best >= SAME_ROUNDS:
            break
    return max(rounds), len(rounds)


def _measured_peak(dtype: str) -> float:
    """Return the FLOP/s of the fastest of several matrix products on an idle device."""
    import jax
    import jax.numpy as jnp

    size = 1536
    x = jax.device_put(jnp.ones((size, size), dtype))
    product = jax.jit(lambda x: x @ x)
    product(x).block_until_ready()
    best = math.inf
    for _ in range(5):
        start = time.perf_counter()
        product(x).block_until_ready()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def _known_peak(path: Path) -> tuple[float, int]:
    """Return (best FLOP/s, measurements) of a file; (0, 0) for a missing or damaged one."""
    try:
        row = json.loads(path.read_text())
        best, count = float(row["flops_per_second"]), int(row["measurements"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return 0.0, 0
    return (best, count) if 0 < best < math.inf and count > 0 else (0.0, 0)


def visible_cores() -> list[int]:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _cpu_name() -> str:
    """Return the CPU's model and the cores that this process may use, as part of a file's name."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        names = re.findall(r"^model name\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        model = names[0] if names else model
    return "-".join([*re.findall(r"\w+", model), f"{len(visible_cores())}-cores"])
