"""Memory that tensors have freed stays with the process.

The C library gives every large block back to the system, and the next tensor of that size gets fresh pages, which the
system has to clear: on a virtual machine that takes longer than the sums done in them.
"""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h


def keep_freed_memory() -> None:
    """From now on, where the C library is glibc."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc alone has it
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)  # large blocks come from the heap, too
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)  # which is not given back in between
