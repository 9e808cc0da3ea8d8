"""A progress bar on standard error; plain lines where that is no terminal."""

import contextlib
import sys
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

# Where there is no terminal, a line for so many percent.
_PERCENT_PER_LINE = 5


@contextlib.contextmanager
def progress_bar() -> Iterator[Callable[[str, float], None]]:
    """Yields a function that shows what is being done, and which fraction is done."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _line_writer()
        return
    columns = (
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("starting", total=1.0)
        yield lambda description, fraction: bar.update(task, completed=fraction, description=description)


def count_test_sets(show: Callable[[str, float], None], num_sets: int) -> Callable[[str, int], None]:
    """Returns an `on_test_set` of an evaluation, which shows how many of `num_sets` are done."""
    done = 0

    def on_test_set(name: str, severity: int) -> None:
        nonlocal done
        done += 1
        show(f"{name} {severity or ''}", done / num_sets)

    return on_test_set


def _line_writer() -> Callable[[str, float], None]:
    last = None

    def show(description: str, fraction: float) -> None:
        nonlocal last
        percent = int(100 * fraction)
        if last is None or percent >= last + _PERCENT_PER_LINE:
            last = percent
            sys.stderr.write(f"{percent:3d} %  {description}\n")
            sys.stderr.flush()

    return show
