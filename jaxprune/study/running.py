"""Running a study: every finished part is kept, so a killed run continues.

A run folder holds `study.json` (configuration and provenance), `checkpoints/` (one folder per network), `rows/` (one
JSON Lines file per seed, arm and corruption), `rows.jsonl` (all rows, in the order of the plan), `examples/` (what each
network said of each image) and `images.npz` (pictures for the report). `training/` holds the epochs' records of each
network, and the state of the one that is being trained. Each file is written whole or not at all; what is there and
intact is skipped. Everything random follows from the configuration, so but for their `seconds` the rows do not depend
on where a run was interrupted, or who computed them.

Several processes may run the same study in one folder: each takes parts that nobody is at (`files.lock`). Independent
jobs may also get a `shard` of the (seed, arm) pairs each. Processes that `devices.start` joined evaluate together;
process 0 trains and writes.
"""

import contextlib
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
from etils import epath

from jaxprune import checkpoints, data, evaluation, files, models, training
from jaxprune.devices import processes
from jaxprune.results import outputs, study_file
from jaxprune.results import rows as row_file
from jaxprune.results.versions import SCHEMA_VERSION
from jaxprune.study import parts
from jaxprune.study.candidates import (
    Candidate,
    Trained,
    from_scratch,
    initial,
    key_of,
    removed,
    sizes,
    stages,
)
from jaxprune.study.checking import check, frost_textures
from jaxprune.study.configuration import (
    STAGE_DENSE,
    STAGE_FINE_TUNED,
    STAGE_SCRATCH,
    STAGE_TEMPERATURE,
    ArmConfig,
    Network,
    StudyConfig,
    TrainConfig,
    config_hash,
    granularity,
    networks,
    num_evaluated,
    test_set_names,
)
from jaxprune.study.images import write_images
from jaxprune.study.parts import Unit
from jaxprune.study.provenance import (
    TRAINING_FOLDER,
    claim,
    device,
    refuse_another_study,
    refuse_foreign,
    versions,
)

# Processes that have nothing to train wait for those that do; one that dies is noticed long before.
_TRAINING_TIMEOUT_S = 7 * 24 * 3600
# A training step costs about three forward passes; used to weigh the parts of the progress bar only.
_TRAINING_COST = 3
_SECONDS_DECIMALS = 4


class Progress(NamedTuple):
    """What `run` tells its caller: what it is doing, and how much of the whole is done, in [0, 1]."""

    description: str
    fraction: float


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
    check(config)
    out = files.check_folder(out, what="run folder")
    units = processes.shard(parts.units(config), shard)
    refuse_another_study(out, config)
    parts.check_rows(config, out)
    refuse_foreign(out)
    this_run = _Run(config, out, units, on_progress or (lambda progress: None))
    processes.agree("study", {"configuration": config_hash(config), "run folder": str(out), "shard": shard})
    if processes.is_main_process():
        claim(out, config, command)
    processes.barrier("the run folder")
    this_run.whole()
    return out / row_file.FILE


def load_data(config: StudyConfig) -> tuple[data.Dataset, data.Dataset | None, data.Dataset]:
    """Returns the training, validation (None if the study takes none) and test images of a study."""
    chosen = config.data
    options = {"data_dir": chosen.data_dir} | ({"image_size": chosen.image_size} if chosen.image_size else {})
    train = data.load(chosen.name, split="train", limit=chosen.train_limit, **options)
    test = data.load(chosen.name, split="test", limit=chosen.test_limit, **options)
    if not chosen.validation_images:
        return train, None, test
    if chosen.validation_images >= len(train):
        raise ValueError(
            f"data.validation_images={chosen.validation_images} leaves nothing of {len(train)} training images; "
            f"give fewer"
        )
    # The same images for all seeds: the seeds are those of the networks.
    train, validation = data.split_validation(train, fraction=chosen.validation_images / len(train), seed=0)
    return train, validation, test


def optimizer(config: TrainConfig, num_images: int):
    """Returns the optimizer of one training."""
    return training.sgd(
        learning_rate=config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        schedule=config.schedule if config.epochs else "constant",
        num_steps=training.num_steps(num_images, epochs=config.epochs, batch_size=config.batch_size),
        scale_penalty=config.scale_penalty,
    )


class _Run:
    """One pass over the plan; holds what the parts share."""

    def __init__(self, config: StudyConfig, out: epath.Path, units: list[Unit], on_progress):
        self.config, self.out, self.units, self.on_progress = config, out, units, on_progress
        self.train, self.validation, self.test = load_data(config)
        # Made once each: the training step is compiled once per optimizer object.
        self.optimizers = {
            train: optimizer(train, len(self.train))
            for arm in config.all_arms()
            for train in (arm.pretrain, arm.finetune)
        }
        # Read once: frost is compiled once per object that holds its textures.
        self.frost_textures = frost_textures(config.evaluation)
        self.about = {"device": device(), "versions": ", ".join(f"{name} {v}" for name, v in versions().items())}
        self.done = {}  # part -> how much of its cost
        self.costs = {part: cost for unit in units for part, cost in self._costs(unit).items()}

    def whole(self) -> None:
        # First what no other process has begun, then, waiting, what is left.
        for wait in (True,) if self.is_joined else (False, True):
            for unit in self.units:
                if all(self._has_rows(unit, name) for name in test_set_names(self.config)):
                    self._tell(f"seed {unit[0]}, {unit[1].name} found", unit, 1.0)
                else:
                    self._one_unit(unit, wait=wait)
        if processes.is_main_process():
            parts.gather(self.config, self.out)
            if not parts.unfinished(self.config, self.out):
                with files.lock(self.out, "images", wait=True):
                    write_images(self.config, self.out, self.test, self.frost_textures)

    @property
    def is_joined(self) -> bool:
        """Whether several processes work on every part together; they must all take the same parts then."""
        return jax.process_count() > 1

    def _one_unit(self, unit: Unit, *, wait: bool) -> None:
        seed, arm = unit
        dense = self._dense(unit, wait=wait)
        if dense is None:
            return
        planned = networks(self.config, arm, seed)
        trained = self._all_trained(unit, planned, dense)
        candidates = dict(stages(self.config, arm, dense, trained, self.train, self.validation))
        image_size = self.test.images.shape[1]
        about = {key: self._about(arm, *key, candidate, image_size) for key, candidate in candidates.items()}

        def measure(name: str) -> None:
            with self._timed("evaluation"):
                self._evaluate(unit, name, candidates, about)
            if processes.is_main_process():
                parts.gather(self.config, self.out)

        self._all_parts(
            test_set_names(self.config),
            path=lambda name: self._rows_path(unit, name),
            is_done=lambda name: self._has_rows(unit, name),
            do=measure,
            part=lambda name: (unit, name),
        )

    def _all_parts(self, items, *, path, is_done, do, part) -> None:
        """Does what is not done of a unit's items, each of which leaves a file or folder; waits for other processes."""
        if self.is_joined:
            for item in items:
                if not is_done(item):
                    do(item)
        else:
            files.do_each(
                self.out,
                items,
                name=lambda item: path(item).name,
                is_done=is_done,
                do=do,
                on_wait=lambda name: self._tell(f"waiting for another process at {name}"),
            )
        for item in items:
            self._tell(f"{path(item).name} is there", part(item), 1.0)

    @contextlib.contextmanager
    def _timed(self, part: str):
        """Adds the seconds that its block takes to `study.json`, over all calls and processes that a run took."""
        start = time.monotonic()
        yield
        if processes.is_main_process():
            study_file.add_seconds(self.out, part, time.monotonic() - start)

    def _dense(self, unit: Unit, *, wait: bool) -> models.Classifier | None:
        """Returns the dense network as trained; None if another process is at it, and `wait` is false."""
        seed, arm = unit
        name, planned = next(iter(parts.trainings(self.config, unit).items()))
        path = parts.checkpoint_path(self.out, name)
        if processes.is_main_process() and not path.exists():
            if wait:
                self._tell(f"seed {seed}: {arm.name}")
            with files.lock(self.out, path.name, wait=wait) as mine:
                if not mine:
                    return None
                if not path.exists():
                    start = initial(arm.model, self.train, seed)
                    description = f"seed {seed}: training {arm.name}"
                    with self._timed("training"):
                        self._fit(path, start, planned.how, description, key_of(seed, "pretrain"), masks=None)
        processes.barrier(f"the training of {arm.name}", timeout_s=_TRAINING_TIMEOUT_S)
        return self._found(path)

    def _all_trained(self, unit: Unit, planned: list[Network], dense: models.Classifier) -> dict[Network, Trained]:
        """Returns every network after its trainings; process 0 does those that nobody has done."""
        arm = unit[1]
        wanted = {
            parts.checkpoint_path(self.out, name): each
            for name, each in parts.trainings(self.config, unit).items()
            if each.stage != STAGE_DENSE
        }

        def do(path: epath.Path) -> None:
            network, stage, how = wanted[path]
            start = removed(network, arm, dense, self.train)
            is_scratch = stage == STAGE_SCRATCH
            begin = from_scratch(network, arm.model, start) if is_scratch else start.classifier
            description = f"{'training' if is_scratch else 'fine-tuning'} {path.name}"
            with self._timed("training" if is_scratch else "fine-tuning"):
                self._fit(path, begin, how, description, key_of(network.seed, "finetune"), start.masks)

        if processes.is_main_process():
            self._all_parts(
                list(wanted), path=lambda path: path, is_done=files.is_there, do=do, part=lambda path: path.name
            )
        processes.barrier(f"the fine-tuning of {arm.name}", timeout_s=_TRAINING_TIMEOUT_S)
        results = {(each.network, each.stage): self._found(path) for path, each in wanted.items()}
        return {
            network: Trained(results[network, STAGE_FINE_TUNED], results.get((network, STAGE_SCRATCH)))
            for network in planned
        }

    def _rows_path(self, unit: Unit, name: str) -> epath.Path:
        return parts.rows_path(self.out, unit, name)

    def _has_rows(self, unit: Unit, name: str) -> bool:
        return parts.is_done(self.config, self.out, unit, name)

    def _found(self, path: epath.Path) -> models.Classifier:
        if processes.is_main_process():
            with files.lock(self.out, path.name, wait=False) as mine:
                if mine:  # of a run that was killed just before it did
                    training.delete_checkpoints(self._training_path(path))
        return checkpoints.load(path).classifier

    def _training_path(self, path: epath.Path) -> epath.Path:
        """Returns where the training that makes the checkpoint at `path` keeps its records and its state."""
        return self.out / TRAINING_FOLDER / path.name

    def _fit(self, path: epath.Path, classifier, train: TrainConfig, description: str, key: jax.Array, masks) -> None:
        """Trains, continuing what was stopped, and saves the result at `path`; keeps the losses of the epochs."""
        unfinished = self._training_path(path)
        trained = training.fit(
            classifier,
            self.train,
            optimizer=self.optimizers[train],
            epochs=train.epochs,
            key=key,
            masks=masks,
            batch_size=train.batch_size,
            augment=data.AUGMENTATIONS[train.augment],
            precision=train.compute_dtype,
            on_epoch=lambda record: self._tell(
                f"{description}, loss {record.loss:.3f}", path.name, record.epoch / record.epochs
            ),
            checkpoint_dir=unfinished,
        )
        checkpoints.save(path, trained, masks=masks)
        training.delete_checkpoints(unfinished)

    def _evaluate(self, unit: Unit, name: str, candidates: dict[tuple[Network, str], Candidate], about: dict) -> None:
        (seed, arm), config = unit, self.config.evaluation
        is_clean = name == evaluation.CLEAN
        num_sets, finished, seconds = parts.num_severities(self.config, name), 0, {}
        clock = time.monotonic()

        def on_test_set(name: str, severity: int) -> None:
            nonlocal clock, finished
            seconds[severity], clock, finished = time.monotonic() - clock, time.monotonic(), finished + 1
            self._tell(f"seed {seed}, {arm.name}: {name} {severity or ''}", (unit, name), finished / num_sets)

        if is_clean:
            test_sets = {"corruptions": (), "severities": ()}
        elif config.corrupted is not None:
            limit = self.config.data.test_limit
            test_sets = {
                "corrupted": evaluation.folder_test_sets(config.corrupted, [name], config.severities, limit=limit)
            }
        else:
            test_sets = {"corruptions": (name,), "severities": config.severities}
        labels = {f"{network.label}-{stage}": (network, stage) for network, stage in candidates}
        measured = evaluation.evaluate(
            {label: candidates[key].classifier for label, key in labels.items()},
            self.test,
            key=key_of(config.seed, "corruptions"),
            **test_sets,
            clean=is_clean,
            batch_size=config.batch_size,
            precision=config.compute_dtype,
            frost_textures=self.frost_textures,
            keep_examples=self.out / outputs.FOLDER if config.keep_examples else None,
            non_finite="mark",
            on_test_set=on_test_set,
        )
        if not processes.is_main_process():
            return
        rows = []
        for row in measured:
            about_network = about[labels[row.pop("classifier")]]
            shared = round(seconds[row["severity"]] / len(candidates), _SECONDS_DECIMALS)
            rows.append(about_network | row | {"seconds": shared})
        parts.write_rows(self._rows_path(unit, name), rows)

    def _about(self, arm: ArmConfig, network: Network, stage: str, candidate: Candidate, image_size: int) -> dict:
        """Returns what all rows of a network say of it."""
        is_fine_tuned = stage in (STAGE_FINE_TUNED, STAGE_TEMPERATURE)
        temperature = candidate.classifier.temperature
        return {
            "schema_version": SCHEMA_VERSION,
            "study": self.config.name,
            "config_hash": config_hash(self.config),
            "dataset": self.config.data.name,
            "arm": arm.name,
            "model": arm.model.name,
            "seed": network.seed,
            "method": network.method,
            "granularity": granularity(network.method),
            "sparsity": network.sparsity,
            **sizes(candidate, image_size),
            "stage": stage,
            "pretrain_epochs": arm.pretrain.epochs,
            "finetune_epochs": arm.finetune.epochs if is_fine_tuned else 0,
            "train_images": len(self.train),
            **({"temperature": float(temperature)} if stage == STAGE_TEMPERATURE else {}),
            **self.about,
        }

    def _costs(self, unit: Unit) -> dict:
        """Returns what each part of a unit costs, in forward passes of one image."""
        seed, arm = unit
        trainings = parts.trainings(self.config, unit).items()
        costs = {name: _TRAINING_COST * each.how.epochs * len(self.train) for name, each in trainings}
        in_all = num_evaluated(self.config, arm, seed)
        for name in test_set_names(self.config):
            costs[unit, name] = parts.num_severities(self.config, name) * len(self.test) * in_all
        return costs

    def _tell(self, description: str, part=None, fraction: float = 0.0) -> None:
        """Reports what is being done, and how much of a part, or of a whole unit, is done."""
        if part in self.units:
            self.done |= self._costs(part)
        elif part is not None:
            self.done[part] = self.costs[part] * fraction
        done = sum(self.done.values()) / max(1.0, sum(self.costs.values()))
        self.on_progress(Progress(description, min(1.0, done)))
