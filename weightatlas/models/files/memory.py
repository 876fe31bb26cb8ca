"""How much memory there is, and what would not fit."""

from __future__ import annotations

import os
from pathlib import Path

from ...errors import LoadError

GIB = 2**30


def memory_free() -> int:
    """Bytes of memory that can be had without swapping, as far as the system tells."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return 4 * GIB


def amount(count: int) -> str:
    """A number of bytes in words.

    Example:
        >>> amount(1), amount(900), amount(40 * GIB), amount(2**80)
        ('1 byte', '900 bytes', '40.0 GiB', '1.1e+15 GiB')
    """
    for size, name in ((GIB, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if count >= size:
            shown = count / size
            return f"{shown:.1f} {name}" if shown < 1e6 else f"{shown:.1e} {name}"
    return f"{count} byte{'' if count == 1 else 's'}"


def require_memory(path: Path, needed: int, what: str) -> None:
    """Refuses what would not fit, before it is begun.

    Args:
        path: the file that asks for it.
        needed: bytes.
        what: takes them, e.g. ``"reading its 12 tensors"``.

    Raises:
        LoadError: if less is free, with both numbers.
    """
    free = memory_free()
    if needed > free:
        raise LoadError(
            f"{path}: {what} takes {amount(needed)} of memory, and {amount(free)} are free; use a machine with more, "
            "or save only the tensors that are to be read into a file of their own"
        )
