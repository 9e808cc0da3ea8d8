"""Training a unit: its dense network, those whose masks move, every fine-tuning, and networks from scratch."""

import functools
from typing import Any

from etils import epath
from jaxtyping import PyTree

from jaxprune import checkpoints, data, files, models, names, pruning, training
from jaxprune.devices import processes
from jaxprune.study.candidates import Trained, before_fine_tuning, from_scratch, pruned
from jaxprune.study.configuration import TrainConfig
from jaxprune.study.context import Context, share, timed, wait_for_trainings
from jaxprune.study.inputs import initial, key_of
from jaxprune.study.network import Network
from jaxprune.study.parts import checkpoint_path
from jaxprune.study.planning import Training, Unit
from jaxprune.study.provenance import TRAINING_FOLDER

# In this order each finds what it begins with.
_AFTER_THE_DENSE = (names.STAGE_PRUNED, names.STAGE_FINE_TUNED, names.STAGE_SCRATCH)
# What `study.json` says that the time went into.
_TRAINING, _FINE_TUNING = "training", "fine-tuning"


def train_unit(run: Context, unit: Unit, *, wait: bool) -> bool:
    """Does the trainings of a unit that nobody has done, and waits for those that another process is at.

    Returns False, without having done anything, if another process trains the dense network and `wait` is false.
    """
    dense, trained = unit.trainings[0], results(run, unit)
    if processes.is_main_process() and not _is_there(run, dense.name):
        if wait:
            run.ledger.tell(f"seed {unit.seed}: {unit.arm.name}")
        with files.lock(run.out, dense.name, wait=wait) as mine:
            if not mine:
                return False
            if not _is_there(run, dense.name):
                _train(run, unit, dense, trained)
    wait_for_trainings(f"the training of {unit.arm.name}")
    run.ledger.tell(f"{dense.name} is there", [dense.name], 1.0)
    if processes.is_main_process():
        for stage in _AFTER_THE_DENSE:
            named = {each.name: each for each in unit.trainings if each.stage == stage}
            share(
                run,
                named,
                is_done=functools.partial(_is_there, run),
                do=lambda name, named=named: _train(run, unit, named[name], trained),
            )
    wait_for_trainings(f"the fine-tuning of {unit.arm.name}")
    return True


def results(run: Context, unit: Unit) -> Trained:
    """Returns the function from a network and a stage to what its training left, read once."""
    names_of = {(each.network, each.stage): each.name for each in unit.trainings}

    @functools.cache
    def trained(network: Network, stage: str) -> checkpoints.Checkpoint:
        name = names_of[network, stage]
        if processes.is_main_process():
            with files.lock(run.out, name, wait=False) as mine:
                if mine:  # of a run that was killed just before it did
                    training.delete_checkpoints(_training_folder(run, name))
        return checkpoints.load(checkpoint_path(run.out, name))

    return trained


def _train(run: Context, unit: Unit, this: Training, trained: Trained) -> None:
    """Takes one training of a unit to its end, continuing what was stopped, and saves its result."""
    network, how, name = this.network, this.how, this.name
    is_fine_tuning = this.stage == names.STAGE_FINE_TUNED
    described = f"fine-tuning {name}" if is_fine_tuning else f"training {name}"
    if this.stage == names.STAGE_DENSE:
        described = f"seed {unit.seed}: training {unit.arm.name}"
    from_the_beginning = this.stage in (names.STAGE_DENSE, names.STAGE_PRUNED)
    with timed(run, _FINE_TUNING if is_fine_tuning else _TRAINING):
        start, masks = _beginning(run, unit, this, trained)
        options = {
            "optimizer": run.optimizers[how],
            "epochs": how.epochs,
            "key": key_of(network.seed, "pretrain" if from_the_beginning else "finetune"),
            "batch_size": how.batch_size,
            "augment": data.AUGMENTATIONS[how.augment],
            "precision": how.precision,
            "on_epoch": lambda record: run.ledger.tell(
                f"{described}, loss {record.loss:.3f}", [name], record.epoch / record.epochs
            ),
            "checkpoint_dir": _training_folder(run, name),
        }
        if this.stage == names.STAGE_PRUNED:
            updater = new_updater(network, how, num_images=len(run.train))
            result, masks = training.fit_sparse(start, run.train, updater=updater, **options)
        else:
            result = training.fit(start, run.train, masks=masks, **options)
        checkpoints.save(checkpoint_path(run.out, name), result, masks=masks)
        training.delete_checkpoints(_training_folder(run, name))


def _beginning(run: Context, unit: Unit, this: Training, trained: Trained) -> tuple[models.Classifier, PyTree | None]:
    """Returns the network that a training begins with, and its masks."""
    network = this.network
    if this.stage in (names.STAGE_DENSE, names.STAGE_PRUNED):
        return initial(unit.arm.model, run.train, unit.seed), None
    if this.stage == names.STAGE_SCRATCH:
        start = before_fine_tuning(unit, network, trained, run.train)
        return from_scratch(network, unit.arm.model, start), start.masks
    if network.masks_move:
        start = before_fine_tuning(unit, network, trained, run.train)
    else:
        dense = trained(unit.networks[0], names.STAGE_DENSE).classifier
        start = pruned(network, unit.arm, dense, run.train)
    return start.classifier, start.masks


def new_updater(network: Network, how: TrainConfig, *, num_images: int) -> Any:
    """Returns what moves the masks of a network while it trains."""
    row = pruning.METHODS[network.method]
    num_steps = training.num_steps(num_images, epochs=how.epochs, batch_size=how.batch_size)
    return row.updater(network.sparsity, row.filter_fn, key_of(network.seed, "masks"), num_steps)


def _is_there(run: Context, name: str) -> bool:
    return files.is_there(checkpoint_path(run.out, name))


def _training_folder(run: Context, name: str) -> epath.Path:
    """Returns where a training keeps its records and its state."""
    return run.out / TRAINING_FOLDER / name
