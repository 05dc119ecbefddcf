"""Which machine code a compiled model file holds, and whether this machine runs it."""

from __future__ import annotations

import platform
from functools import lru_cache
from pathlib import Path
from typing import Any

# Any x86-64 machine since 2013 (Haswell), any 64-bit ARM.
_PORTABLE = {"x86_64": "x86-64-v3", "aarch64": "armv8-a"}
_X86_64_V3 = ("abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe")
# What compilers make use of beyond that, by its name in /proc/cpuinfo.
_MORE = ("amx", "avx", "asimd", "bf16", "gfni", "i8mm", "sha", "sse", "sve", "vaes", "vpclmulqdq")


def portable() -> str:
    """Return the name that compilers have (``-march``) for the oldest machine worth compiling for."""
    return _PORTABLE.get(platform.machine(), "native")


def vector_width(march: str) -> int | None:
    """Return the number of bits of vectors to write code for, None to let torch choose for this machine."""
    return 256 if march == "x86-64-v3" else None


@lru_cache(maxsize=1)
def features() -> frozenset[str]:
    """Return the features of this machine's processor, as Linux names them (``avx2``, ``fma``, …)."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    found = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    return frozenset(found.partition(":")[2].split())


def describe(march: str) -> dict[str, Any]:
    """Return what a file compiled here with ``-march=march`` must record."""
    if march == "x86-64-v3":
        needs: tuple[str, ...] = _X86_64_V3
    elif march == "armv8-a":
        needs = ()
    else:
        needs = tuple(sorted(name for name in features() if name.startswith(_MORE) or name in _X86_64_V3))
    return {"machine": platform.machine(), "march": march, "needs": list(needs)}


def missing(recorded: dict[str, Any]) -> str:
    """Return what this machine lacks to run code with that record, empty if nothing."""
    machine = str(recorded.get("machine", "unknown"))
    if machine != platform.machine():
        return f"it is for {machine} processors, this one is {platform.machine()}"
    lacking = [name for name in recorded.get("needs", []) if name not in features()]
    return f"this processor lacks {', '.join(lacking)}" if lacking else ""
