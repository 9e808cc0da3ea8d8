"""The command line. `COMMANDS` is the table; a command is the file of its name here, imported when it is called.

Bad input ends with one line on standard error and exit code 2; SIGTERM with one line and 143. Finished work stays.
"""

import importlib
import os
import sys
import warnings
from collections.abc import Callable
from typing import NamedTuple

from jaxprune.cli import signals
from jaxprune.cli.messages import complain, show_warning

EXIT_OK, EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_TERMINATED = 0, 1, 2, 130, 143
TRACEBACK_VARIABLE = "JAXPRUNE_TRACEBACK"
_KEPT = "finished parts are kept, the same command continues"


class Command(NamedTuple):
    """What follows a command's name, and what it does, a line each."""

    arguments: str
    summary: tuple[str, ...]

    def usage(self, name: str) -> str:
        """Returns the lines of `jaxprune --help` about the command `name`."""
        return "\n".join(
            f"  {left:<52}  {line}".rstrip()
            for left, line in zip((f"{name} {self.arguments}".rstrip(), ""), (*self.summary, ""), strict=False)
            if line
        )


COMMANDS = {
    "run": Command(
        "CONFIG [--out DIR]    [--study.FIELD VALUE ...]",
        ("run a study, or what is left of it, and write its report;", "with --dry-run say what that takes"),
    ),
    "report": Command("DIR [DIR ...]", ("write tables, figures and report.html from runs' rows",)),
    "evaluate": Command("CHECKPOINT ... --dataset NAME ...", ("models: clean and corrupted accuracy and calibration",)),
    "compare": Command(
        "CHECKPOINT CHECKPOINT --dataset NAME ...", ("which differences between two models are significant",)
    ),
    "prune": Command("CHECKPOINT --sparsity 0.7 --out DIR ...", ("prune one model and save it, masked or smaller",)),
    "corrupt": Command("--dataset NAME --out DIR ...", ("write a CIFAR-10-C style folder, or draw a gallery",)),
    "doctor": Command("", ("devices, versions, data, and what is missing",)),
}


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns the process's exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write(_usage())
        return EXIT_OK if arguments else EXIT_BAD_INPUT
    name, *rest = arguments
    if name not in COMMANDS:
        return complain(f"unknown command {name!r}; known: {', '.join(COMMANDS)}", EXIT_BAD_INPUT)
    try:
        with signals.terminable(EXIT_TERMINATED), warnings.catch_warnings():
            warnings.showwarning = lambda message, *where: show_warning(str(message))
            return command(name)(rest) or EXIT_OK
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        return complain(f"interrupted; {_KEPT}", EXIT_INTERRUPTED)
    except signals.Terminated:
        return complain(f"terminated; {_KEPT}", EXIT_TERMINATED)
    except SystemExit as error:
        # Training that SIGTERM stopped says where it goes on; argument parsing has said what it had to.
        if isinstance(error, _loaded("jaxprune.training", "Interrupted")):
            return complain(str(error), error.code)
        raise
    except (FloatingPointError, RuntimeError) as error:
        lost = _loaded("jaxprune.devices", "LostProcessError")
        if isinstance(error, RuntimeError) and not isinstance(error, lost):
            raise
        return complain(str(error), EXIT_FAILED)
    except (ValueError, TypeError, OSError, ImportError) as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        return complain(str(error) or repr(error), EXIT_BAD_INPUT)


def command(name: str) -> Callable[[list[str]], int | None]:
    """Returns the function of a command of the table, which takes its arguments and may return an exit code."""
    try:
        return importlib.import_module(f"jaxprune.cli.{name}").main
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("jaxprune"):
            raise
        raise ModuleNotFoundError(
            f"'jaxprune {name}' needs {error.name}; pip install 'jaxprune[study]' brings it"
        ) from error


def _usage() -> str:
    commands = "\n".join(each.usage(name) for name, each in COMMANDS.items())
    return f"usage: jaxprune COMMAND ...\n\n{commands}\n\n'jaxprune COMMAND --help' lists a command's options.\n"


def _loaded(module: str, name: str):
    """Returns an exception of a room, or none if that room is not loaded: then it cannot have raised it."""
    return getattr(sys.modules[module], name) if module in sys.modules else ()
