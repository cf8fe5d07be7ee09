"""Keeps the memory of freed tensors in the process while a model trains, or never, and gives it back afterwards.

The C library gives every large block back to the system, and the next tensor of that size gets fresh pages, which the
system has to clear: on a virtual machine that takes longer than the sums done in them. What is kept lies in pieces, in
which the next tensor may not fit: a base that is held in few bits for the sake of memory would be outgrown by them.
"""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # of malloc.h
USUAL_MMAP_MAX, LARGEST_MMAP_THRESHOLD = 65536, 32 * 2**20
SMALL_MMAP_THRESHOLD = 2**20
"""Of a block that goes back as soon as it is freed, where little is to be kept and steps are to stay fast."""
LEAST_MMAP_THRESHOLD = 2**17
"""The same where memory is bounded: parts of adapters and their gradients would leave gaps in which nothing fits."""


def keep_freed_memory() -> None:
    """From now on, where the C library is glibc."""
    library = _c_library()
    if library is not None and hasattr(library, "mallopt"):
        library.mallopt(M_MMAP_MAX, 0)  # large blocks come from the heap, too
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)  # which is not given back in between


def keep_no_freed_memory(of_bytes: int = SMALL_MMAP_THRESHOLD) -> None:
    """From now on, where the C library is glibc: a block of so many bytes or more goes back as soon as it is freed."""
    library = _c_library()
    if library is not None and hasattr(library, "mallopt"):
        library.mallopt(M_MMAP_MAX, USUAL_MMAP_MAX)
        library.mallopt(M_MMAP_THRESHOLD, of_bytes)


def return_freed_memory() -> None:
    """Gives the system back, once, what has been kept so far."""
    library = _c_library()
    if library is not None and hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


def keep_usual_memory() -> None:
    """From now on as before `keep_freed_memory`: what has been set stays set, so it is set to what glibc comes to."""
    library = _c_library()
    if library is not None and hasattr(library, "mallopt"):
        library.mallopt(M_MMAP_MAX, USUAL_MMAP_MAX)
        library.mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
        library.mallopt(M_TRIM_THRESHOLD, 2 * LARGEST_MMAP_THRESHOLD)


def _c_library() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if sys.platform.startswith("linux") else None
