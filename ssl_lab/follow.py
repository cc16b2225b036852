"""A command that another has started ends with it, however that ends."""

import ctypes
import os
import signal
import sys

MARK = "SSL_LAB_FOLLOWS"  # in the environment of what is to end with the process of this number
_PR_SET_PDEATHSIG = 1


def follow() -> None:
    """Ask the system for SIGTERM when the process that started this one is gone; Linux alone can."""
    parent = os.environ.pop(MARK, None)  # not for what this one starts itself
    if parent is None or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it went before we asked
        os.kill(os.getpid(), signal.SIGTERM)
