"""The memory of short-lived arrays."""

from __future__ import annotations

from functools import cache

import numpy as np

#: just below the 32 MiB up to which glibc raises its thresholds (`DEFAULT_MMAP_THRESHOLD_MAX` of mallopt(3)), in bytes
_LARGEST = 32 * 2**20 - 2**16


@cache
def keep_freed_memory() -> None:
    """Let the allocator keep up to 64 MiB that arrays have freed, for the arrays that follow; once in a process.

    A solver makes and frees arrays of some megabytes at every step. glibc gives such memory back to the system at once
    and takes it anew, page by page, which took a third of the time of a fit. Freeing one large block raises the sizes
    from which glibc does so (mallopt(3), M_MMAP_THRESHOLD). The block is never touched, so that it takes no memory.
    Other allocators are not changed by it.
    """
    np.empty(_LARGEST, dtype=np.uint8)
