"""SIGTERM during training: finish the step, save, and leave with an exit code of its own."""

import contextlib
import signal
import threading
from collections.abc import Iterator

# What a shell reports for a process that SIGTERM ended.
EXIT_TERMINATED = 128 + signal.SIGTERM


class Interrupted(SystemExit):
    """SIGTERM stopped training after its state was saved; uncaught, the process exits with `EXIT_TERMINATED`.

    Attributes:
      checkpoint: the path of the saved state; the same call to `fit` continues from it.
    """

    def __init__(self, checkpoint):
        super().__init__(EXIT_TERMINATED)
        self.checkpoint = checkpoint

    def __str__(self):
        return f"training was stopped by SIGTERM and saved to {self.checkpoint}; the same call continues from there"


@contextlib.contextmanager
def terminations(active: bool) -> Iterator[threading.Event]:
    """Yields an event that SIGTERM sets, in place of what it did before, for the length of the block.

    Signal handlers belong to the main thread: in another one, or where not `active`, the event is never set. A signal
    that the block did not act upon is raised again after it.
    """
    received = threading.Event()
    if not active or threading.current_thread() is not threading.main_thread():
        yield received
        return
    previous = signal.signal(signal.SIGTERM, lambda number, frame: received.set())
    try:
        yield received
    finally:
        # None stands for a handler that was not installed from Python and cannot be put back.
        signal.signal(signal.SIGTERM, signal.SIG_DFL if previous is None else previous)
    if received.is_set():
        signal.raise_signal(signal.SIGTERM)
