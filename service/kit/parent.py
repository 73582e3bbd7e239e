"""Lets a child process end with its parent, whatever ends the parent (Linux; elsewhere nothing happens)."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1

# Loaded at import: a child between fork and exec must not load anything.
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def end_with_parent(death_signal: signal.Signals, parent_pid: int) -> None:
    """Ask the kernel to send us `death_signal` when the thread that started us ends; end at once if it has already."""
    if _LIBC is None:
        return
    _LIBC.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(1)
