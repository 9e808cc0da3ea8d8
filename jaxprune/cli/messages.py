"""What the command line says on standard error: one line at a time."""

import sys


def complain(message: str, code: int) -> int:
    """Writes a message as one line and returns the exit code."""
    sys.stderr.write(f"jaxprune: {' '.join(message.split())}\n")
    return code


def show_warning(message: str) -> None:
    """Writes a warning as one line; where in the library it was noticed says nothing to whom the commands serve."""
    sys.stderr.write(f"jaxprune: warning: {' '.join(message.split())}\n")
