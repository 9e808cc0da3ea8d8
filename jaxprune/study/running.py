"""Running a study: every finished part is kept, so a killed run continues.

A run folder holds `study.json` (configuration and provenance), `checkpoints/` (one folder per network), `rows/` (one
JSON Lines file per seed, arm and corruption), `rows.jsonl` (all rows, in the order of the plan), `examples/` (what each
network said of each image) and `images.npz` (pictures for the report). `training/` holds the epochs' records of each
network, and the state of the one that is being trained. Each file is written whole or not at all; what is there and
intact is skipped. Everything random follows from the configuration, so but for their `seconds` the rows do not depend
on where a run was interrupted. Sums round differently on other devices and on another number of cores, and training
carries that on: rows name both.

Several processes may run the same study in one folder: each takes parts that nobody is at (`files.lock`). Independent
jobs may also get a `shard` of the (seed, arm) pairs each. Processes that `devices.start` joined evaluate together;
process 0 trains and writes.
"""

from collections.abc import Callable, Sequence

from etils import epath

from jaxprune import files, randomness
from jaxprune.devices import processes
from jaxprune.results import rows as row_file
from jaxprune.study import parts
from jaxprune.study.checking import check_channels
from jaxprune.study.configuration import StudyConfig
from jaxprune.study.context import Context, is_joined
from jaxprune.study.evaluate_unit import evaluate_unit
from jaxprune.study.images import write_images
from jaxprune.study.inputs import load_data, new_optimizer
from jaxprune.study.planning import Plan, Unit, make_plan
from jaxprune.study.progress import Ledger, Progress, costs, parts_of
from jaxprune.study.provenance import claim, device, refuse_another_study, refuse_foreign, versions
from jaxprune.study.train_unit import train_unit


@randomness.default_settings()
def run(
    config: StudyConfig,
    out,
    *,
    command: str = "",
    shard: str = "1/1",
    on_progress: Callable[[Progress], None] | None = None,
) -> epath.Path:
    """Runs a study, or what is left of it, and returns the path of its `rows.jsonl`.

    Args:
      config: the study.
      out: the run folder, local or `gs://`; made if missing, continued if it holds the same study.
      command: how the user started it, for the provenance.
      shard: "i/n" runs every n-th (seed, arm) pair from the i-th; n jobs that share `out` complete the study.
      on_progress: called after every epoch and test set.

    Raises:
      ValueError, OSError: the configuration cannot be run; `out` is empty, holds another study, damaged rows, or what
        no study wrote; or several processes were given different ones. Nothing has been computed or changed then.
      Interrupted: SIGTERM came during training, whose state is saved; the same call continues.
      LostProcessError: another of several processes has died or hangs.
    """
    plan = make_plan(config)
    out = files.check_folder(out, what="run folder")
    units = processes.shard(plan.units, shard)
    refuse_another_study(out, config)
    parts.check_rows(plan, out)
    refuse_foreign(out)
    this_run = _begin(plan, out, units, on_progress or (lambda progress: None))
    processes.agree("study", {"configuration": plan.config_hash, "run folder": str(out), "shard": shard})
    if processes.is_main_process():
        claim(out, config, command, plan.frost_textures)
    processes.barrier("the run folder")
    _run_units(this_run, units)
    if processes.is_main_process():
        parts.gather(plan, out)
        if not parts.unfinished_parts(plan, out):
            with files.lock(out, "images", wait=True):
                write_images(config, out, this_run.test, plan.frost_textures)
    return out / row_file.FILE


def _begin(plan: Plan, out: epath.Path, units: Sequence[Unit], on_progress: Callable[[Progress], None]) -> Context:
    """Returns what the units share; reads the images and writes nothing."""
    train, validation, test = load_data(plan.config)
    check_channels(plan.arms, train)
    return Context(
        plan=plan,
        out=out,
        train=train,
        validation=validation,
        test=test,
        optimizers={how: new_optimizer(how, len(train)) for arm in plan.arms for how in (arm.pretrain, arm.finetune)},
        about={"device": device(), "versions": ", ".join(f"{name} {v}" for name, v in versions().items())},
        ledger=Ledger(costs(plan, units, num_train=len(train), num_test=len(test)), on_progress),
    )


def _run_units(run: Context, units: Sequence[Unit]) -> None:
    # First what no other process has begun, then, waiting, what is left.
    for wait in (True,) if is_joined() else (False, True):
        for unit in units:
            if all(parts.is_done(run.plan, run.out, unit, name) for name in run.plan.test_sets):
                run.ledger.tell(f"seed {unit.seed}, {unit.arm.name} found", parts_of(run.plan, unit), 1.0)
            elif train_unit(run, unit, wait=wait):
                evaluate_unit(run, unit)
