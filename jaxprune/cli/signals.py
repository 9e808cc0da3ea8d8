"""SIGTERM as an exception, so that temporary files are deleted on the way out."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator

_AGAIN_S = 0.02


class Terminated(SystemExit):
    """SIGTERM came; raised where the program was."""


@contextlib.contextmanager
def terminable(code: int) -> Iterator[None]:
    """Lets SIGTERM raise `Terminated(code)` for the length of the block; training has its own way to stop meanwhile."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number, frame):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends the process at once
        raise Terminated(code)

    def hook(unraisable):
        """Sends the signal again if it came in a callback of the garbage collector, where Python drops exceptions."""
        if unraisable.exc_type is not Terminated:
            previous_hook(unraisable)
            return
        signal.signal(signal.SIGTERM, terminate)
        again = threading.Timer(_AGAIN_S, os.kill, (os.getpid(), signal.SIGTERM))
        again.daemon = True
        again.start()

    previous, previous_hook = signal.signal(signal.SIGTERM, terminate), sys.unraisablehook
    sys.unraisablehook = hook
    try:
        yield
    finally:
        if sys.unraisablehook is hook:
            sys.unraisablehook = previous_hook
        signal.signal(signal.SIGTERM, signal.SIG_DFL if previous is None else previous)
