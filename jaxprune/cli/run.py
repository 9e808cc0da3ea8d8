"""`jaxprune run`: a study, or what is left of it, and its report."""

import dataclasses
import shlex
import sys

from etils import epath
from tyro.conf import Positional

from jaxprune import files, study
from jaxprune.cli import options
from jaxprune.cli.configurations import load_configuration, shipped_configurations
from jaxprune.cli.progress import progress_bar
from jaxprune.cli.report import write_report
from jaxprune.devices import processes
from jaxprune.study import StudyConfig


@dataclasses.dataclass
class Run:
    """Run a study, or what is left of it, and write its report."""

    config: Positional[str] = "CONFIG.py"
    """A Python file with get_config(), or the name of a configuration that came with jaxprune, such as digits."""
    out: str | None = None
    """The run folder; by default runs/ and the name of the configuration file."""
    shard: str = "1/1"
    """i/n runs every n-th (seed, arm) pair from the i-th: n jobs that share a run folder complete the study."""
    distributed: bool = False
    """Work together with the other processes of a Cloud TPU, SLURM or Open MPI job; elsewhere give the address."""
    coordinator: str | None = None
    """The address of process 0, host:port; with --num-processes and --process-id."""
    num_processes: int | None = None
    process_id: int | None = None
    dry_run: bool = False
    """Print what would be done and, from a short trial, for how long and in how much memory; write nothing."""
    study: StudyConfig = dataclasses.field(default_factory=StudyConfig)


def main(arguments: list[str]) -> None:
    """Runs the command."""
    named = arguments[0] if arguments and not arguments[0].startswith("-") else None
    if named is None and not {"-h", "--help"} & set(arguments):
        raise ValueError(
            "jaxprune run needs a configuration first: a Python file, or one that came with jaxprune "
            f"({', '.join(shipped_configurations())})"
        )
    default = {"study": load_configuration(named)} if named else {}
    parsed = options.parse(Run, "run", arguments, **default)
    out = files.named(f"runs/{epath.Path(parsed.config).stem}" if parsed.out is None else parsed.out, what="run folder")
    if parsed.dry_run:
        _print_plan(parsed.study, out)
        return
    if parsed.distributed or parsed.coordinator:
        processes.start(parsed.coordinator, parsed.num_processes, parsed.process_id)
    how = {"command": shlex.join(["jaxprune", "run", *arguments]), "shard": parsed.shard}
    if not processes.is_main_process():
        study.run(parsed.study, out, **how)
        processes.barrier("the report")
        return
    with progress_bar() as show:
        study.run(parsed.study, out, **how, on_progress=lambda progress: show(*progress))
    missing = study.unfinished(parsed.study, out)
    if missing:
        sys.stdout.write(
            f"shard {parsed.shard} is done; {len(missing)} parts of others are missing (first: {missing[0]}). The last "
            f"to finish writes the report; jaxprune report {out} writes it of what is there\n"
        )
    else:
        write_report(out)
    processes.barrier("the report")


def _print_plan(config: StudyConfig, out: epath.Path) -> None:
    arms = study.plan(config, out)
    with progress_bar() as show:
        estimate = study.estimate(config, out, on_progress=show)
    sys.stdout.write(study.plan_text(config, arms, estimate) + "\n")
