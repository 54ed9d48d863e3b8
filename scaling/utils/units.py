"""Format numbers in readable units."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Format seconds as "45 s", "3.2 min", "5.0 h", "3.1 days" or, from ten years, "12.3 years"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.1f} min"
    if seconds < 172_800:
        return f"{seconds / 3600:.1f} h"
    years = seconds / (365.25 * 86_400)
    return f"{seconds / 86_400:.1f} days" if years < 10 else f"{years:.3g} years"


def size(n_bytes: float) -> str:
    """Format bytes as "512 B", "3.1 MB", ..., in powers of 1000."""
    if n_bytes < 1000:
        return f"{n_bytes:.0f} B"
    for unit in ("kB", "MB", "GB"):
        n_bytes /= 1000
        if n_bytes < 1000:
            return f"{n_bytes:.1f} {unit}"
    terabytes = n_bytes / 1000
    return f"{terabytes:,.1f} TB" if terabytes < 1e6 else f"{terabytes:.3g} TB"
