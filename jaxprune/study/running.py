"""Running a study: every finished part is kept, so a killed run continues.

A run folder holds `study.json` (configuration and provenance), `checkpoints/` (one folder per network), `rows/` (one
JSON Lines file per seed, arm and corruption), `rows.jsonl` (all rows, in the order of the plan) and `examples/` (what
each network said of each image). `training/` holds the epochs' records of each network, and the state of the one that
is being trained. Each file is written under a temporary name and renamed; what exists is skipped.
Everything random follows from the configuration, so the rows do not depend on where a run was interrupted.

Independent jobs may share a folder, each with its `shard` of the (seed, arm) pairs. Processes that `distributed.start`
joined evaluate together; process 0 trains and writes. To spread the training, use shards.
"""

import contextlib
import json
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath

from jaxprune import checkpoints, data, distributed, evaluation, models, pruning, training
from jaxprune.study.configuration import (
    DENSE,
    GRANULARITY_CHANNELS,
    SCHEMA_VERSION,
    STAGE_DENSE,
    STAGE_FINE_TUNED,
    STAGE_PRUNED,
    STAGE_RECALIBRATED,
    ArmConfig,
    Network,
    StudyConfig,
    TrainConfig,
    check,
    config_hash,
    frost_textures,
    granularity,
    networks,
)
from jaxprune.study.provenance import claim, read_study, write_atomically

# Processes that have nothing to train wait for those that do; one that dies is noticed long before.
_TRAINING_TIMEOUT_S = 7 * 24 * 3600
# A training step costs about three forward passes; used to weigh the parts of the progress bar only.
_TRAINING_COST = 3


class Candidate(NamedTuple):
    """A network as it is evaluated; `sparsity_achieved` is the fraction of weights or channels that its method took."""

    classifier: models.Classifier
    masks: Any
    sparsity_achieved: float


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
      ValueError, FileNotFoundError: the configuration cannot be run, `out` holds another study, or several processes
        were given different ones. Nothing has been computed or changed then.
      Interrupted: SIGTERM came during training, whose state is saved; the same call continues.
      LostProcessError: another of several processes has died or hangs.
    """
    check(config)
    out = epath.Path(out)
    units = distributed.shard(_units(config), shard)
    distributed.agree("study", {"configuration": config_hash(config), "run folder": str(out), "shard": shard})
    if distributed.is_writer():
        claim(out, config, command)
    distributed.wait_for_all("the run folder")
    _Run(config, out, units, on_progress or (lambda progress: None)).whole()
    return out / "rows.jsonl"


def unfinished(config: StudyConfig, out) -> list[str]:
    """Returns the rows files that a run folder still lacks: none when all its shards are done."""
    paths = (_rows_path(epath.Path(out), *unit, name) for unit in _units(config) for name in _test_set_names(config))
    return [path.name for path in paths if not path.exists()]


class _Run:
    """One pass over the plan; holds what the parts share."""

    def __init__(self, config: StudyConfig, out: epath.Path, units: list[tuple[int, ArmConfig]], on_progress):
        self.config, self.out, self.units, self.on_progress = config, out, units, on_progress
        where = {"data_dir": config.data.data_dir}
        self.train = data.load(config.data.name, split="train", limit=config.data.train_limit, **where)
        self.test = data.load(config.data.name, split="test", limit=config.data.test_limit, **where)
        # Made once each: the training step is compiled once per optimizer object.
        self.optimizers = {
            train: self._optimizer(train) for arm in config.all_arms() for train in (arm.pretrain, arm.finetune)
        }
        # Read once: frost is compiled once per object that holds its textures.
        self.frost_textures = frost_textures(config.evaluation)
        self.done = 0.0
        self.total = sum(self._cost(arm) for _, arm in units)

    def whole(self) -> None:
        for seed, arm in self.units:
            self._one_arm(seed, arm)

    def _one_arm(self, seed: int, arm: ArmConfig) -> None:
        with self._timed("training"):
            dense = self._dense(seed, arm)
        with self._timed("fine-tuning"):
            trained = self._all_fine_tuned(networks(self.config, arm, seed), arm, dense)
        candidates = dict(self._candidates(dense, trained, arm))
        for name in _test_set_names(self.config):
            with self._timed("evaluation"):
                self._evaluate(seed, arm, name, candidates)
            if distributed.is_writer():
                self._gather()

    @contextlib.contextmanager
    def _timed(self, part: str):
        """Adds the seconds that its block takes to `study.json`, over all the calls that a run took."""
        start = time.monotonic()
        yield
        if not distributed.is_writer():
            return
        content = read_study(self.out)  # again: another shard may have written since
        seconds = content.setdefault("seconds", {})
        seconds[part] = round(seconds.get(part, 0.0) + time.monotonic() - start, 1)
        write_atomically(self.out / "study.json", json.dumps(content, indent=2) + "\n")

    def _dense(self, seed: int, arm: ArmConfig) -> models.Classifier:
        path = self.out / "checkpoints" / f"seed{seed}-{arm.name}-trained"
        trained = None
        if distributed.is_writer() and not path.exists():
            trained = self._trained(path, seed, arm)
        distributed.wait_for_all(f"the training of {arm.name}", timeout_s=_TRAINING_TIMEOUT_S)
        return trained or self._found(path, arm.pretrain)

    def _trained(self, path: epath.Path, seed: int, arm: ArmConfig) -> models.Classifier:
        options = {
            "name": arm.model.name,
            "num_classes": self.train.num_classes,
            "mean": arm.model.mean or self.train.mean,
            "std": arm.model.std or self.train.std,
            **arm.model.options(),
        }
        if arm.model.checkpoint is not None:
            classifier = models.from_torch(arm.model.checkpoint, **options)
        else:
            classifier = models.create(key=_key(seed, "init"), **options)
        description = f"seed {seed}: training {arm.name}"
        return self._fit(path, classifier, arm.pretrain, description, _key(seed, "pretrain"), masks=None)

    def _all_fine_tuned(self, planned: list[Network], arm: ArmConfig, dense) -> dict[Network, models.Classifier]:
        """Returns every network fine-tuned; process 0 does that, to those that are not there yet."""
        paths = {network: self.out / "checkpoints" / network.label for network in planned}
        trained = {
            network: self._fine_tuned(paths[network], network, arm, dense)
            for network in planned
            if distributed.is_writer() and not paths[network].exists()
        }
        distributed.wait_for_all(f"the fine-tuning of {arm.name}", timeout_s=_TRAINING_TIMEOUT_S)
        return {network: trained.get(network) or self._found(paths[network], arm.finetune) for network in planned}

    def _fine_tuned(self, path: epath.Path, network: Network, arm: ArmConfig, dense) -> models.Classifier:
        start = _remove(network, dense)
        key = _key(network.seed, "finetune")
        return self._fit(path, start.classifier, arm.finetune, f"fine-tuning {network.label}", key, start.masks)

    def _found(self, path: epath.Path, train: TrainConfig) -> models.Classifier:
        self._advance(f"{path.name} found", self._training_cost(train))
        if distributed.is_writer():
            training.delete_checkpoints(self._training_path(path))  # of a run that was killed just before it did
        return checkpoints.load(path).classifier

    def _training_path(self, path: epath.Path) -> epath.Path:
        """Returns where the training that makes the checkpoint at `path` keeps its records and its state."""
        return self.out / "training" / path.name

    def _fit(self, path: epath.Path, classifier, train: TrainConfig, description: str, key: jax.Array, masks):
        """Trains, continuing what was stopped, and saves the result at `path`; keeps the losses of the epochs."""
        cost = self._training_cost(train)
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
            on_epoch=lambda record: self._advance(f"{description}, loss {record.loss:.3f}", cost / record.epochs),
            checkpoint_dir=unfinished,
        )
        checkpoints.save(path, trained, masks=masks)
        training.delete_checkpoints(unfinished)
        return trained

    def _candidates(self, dense, trained: dict, arm: ArmConfig) -> Iterator[tuple[tuple[Network, str], Candidate]]:
        """Yields every (network, stage) with what is evaluated."""
        for network, fine_tuned in trained.items():
            start = _remove(network, dense)
            yield (network, STAGE_DENSE if network.method == DENSE else STAGE_PRUNED), start
            if network.method != DENSE and self.config.recalibration_images:
                images = self.train.take(self.config.recalibration_images)
                recalibrated = training.recalibrate_batch_norm(start.classifier, images)
                yield (network, STAGE_RECALIBRATED), start._replace(classifier=recalibrated)
            if arm.finetune.epochs:
                yield (network, STAGE_FINE_TUNED), start._replace(classifier=fine_tuned)

    def _evaluate(self, seed: int, arm: ArmConfig, name: str, candidates: dict) -> None:
        path, cost = _rows_path(self.out, seed, arm, name), self._evaluation_cost(arm, name)
        if path.exists():
            self._advance(f"seed {seed}, {arm.name}: {name} found", cost)
            return
        config = self.config.evaluation
        severities = () if name == evaluation.CLEAN else config.severities
        labels = {f"{network.label}-{stage}": (network, stage) for network, stage in candidates}
        measured = evaluation.evaluate(
            {label: candidates[key].classifier for label, key in labels.items()},
            self.test,
            key=_key(config.seed, "corruptions"),
            corruptions=() if name == evaluation.CLEAN else (name,),
            severities=severities,
            clean=name == evaluation.CLEAN,
            batch_size=config.batch_size,
            frost_textures=self.frost_textures,
            keep_examples=self.out / "examples" if config.keep_examples else None,
            on_test_set=lambda name, severity: self._advance(
                f"seed {seed}, {arm.name}: {name} {severity or ''}", cost / max(1, len(severities))
            ),
        )
        rows = [self._row(arm, *labels[row.pop("classifier")], row, candidates) for row in measured]
        if not distributed.is_writer():
            return
        write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows))

    def _row(self, arm: ArmConfig, network: Network, stage: str, measured: dict, candidates: dict) -> dict:
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
            **_sizes(candidates[network, stage], self.test.images.shape[1]),
            "stage": stage,
            **measured,
        }

    def _gather(self) -> None:
        """Writes `rows.jsonl` from the finished parts, in the order of the plan."""
        names = _test_set_names(self.config)
        parts = [_rows_path(self.out, *unit, name) for unit in _units(self.config) for name in names]
        text = None
        # Again where another shard finished a part meanwhile: whoever writes last has seen all parts.
        while text != (text := "".join(part.read_text() for part in parts if part.exists())):
            write_atomically(self.out / "rows.jsonl", text)

    def _optimizer(self, config: TrainConfig):
        steps = training.num_steps(len(self.train), epochs=config.epochs, batch_size=config.batch_size)
        return training.sgd(
            learning_rate=config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            schedule=config.schedule if config.epochs else "constant",
            num_steps=steps,
            scale_penalty=config.scale_penalty,
        )

    def _training_cost(self, config: TrainConfig) -> float:
        return _TRAINING_COST * config.epochs * len(self.train)

    def _evaluation_cost(self, arm: ArmConfig, name: str) -> float:
        sets = 1 if name == evaluation.CLEAN else len(self.config.evaluation.severities)
        stages = 1 + bool(arm.finetune.epochs) + bool(self.config.recalibration_images)
        return sets * len(self.test) * stages * len(networks(self.config, arm, 0))

    def _cost(self, arm: ArmConfig) -> float:
        """Returns what one seed of an arm costs, in forward passes of one image."""
        return (
            self._training_cost(arm.pretrain)
            + len(networks(self.config, arm, 0)) * self._training_cost(arm.finetune)
            + sum(self._evaluation_cost(arm, name) for name in _test_set_names(self.config))
        )

    def _advance(self, description: str, cost: float) -> None:
        self.done += cost
        self.on_progress(Progress(description, min(1.0, self.done / self.total)))


def _units(config: StudyConfig) -> list[tuple[int, ArmConfig]]:
    """Returns the parts of a study that share no network, in the order of its rows."""
    return [(seed, arm) for seed in config.seeds for arm in config.all_arms()]


def _rows_path(out: epath.Path, seed: int, arm: ArmConfig, name: str) -> epath.Path:
    return out / "rows" / f"seed{seed}-{arm.name}-{name}.jsonl"


def _test_set_names(config: StudyConfig) -> tuple[str, ...]:
    return (evaluation.CLEAN, *config.evaluation.corruptions)


def _remove(network: Network, dense: models.Classifier) -> Candidate:
    """Returns a network of the plan before fine-tuning; physically smaller where channels go."""
    if network.method == DENSE:
        return Candidate(dense, None, 0.0)
    key = _key(network.seed, "masks")
    sparse, masks = pruning.prune(dense, method=network.method, sparsity=network.sparsity, key=key)
    if granularity(network.method) == GRANULARITY_CHANNELS:
        return Candidate(pruning.compact(sparse, masks), None, _fraction_removed(masks, only="scale"))
    return Candidate(sparse, masks, _fraction_removed(masks))


def _fraction_removed(masks, *, only: str | None = None) -> float:
    """Returns the fraction of masked entries that are 0; with `only`, over the leaves of that name.

    Masked BatchNorm scales stand for the channels of the layers that a structured method chose.
    """
    leaves = [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(masks) if only in (None, path[-1].key)]
    kept, size = sum(int(np.sum(leaf)) for leaf in leaves), sum(leaf.size for leaf in leaves)
    return round(1 - kept / size, 6) if size else 0.0


def _sizes(candidate: Candidate, image_size: int) -> dict:
    """Returns the sizes that a row states: of the network as it is stored, per image where it says operations."""
    total = pruning.summarize(candidate.classifier, candidate.masks, image_size=image_size).total
    return {
        "sparsity_achieved": candidate.sparsity_achieved,
        "num_parameters": total.size,
        "num_nonzero": total.nonzero,
        "size_bytes": total.dense_bytes,
        "multiply_accumulates": total.multiply_accumulates,
        "multiply_accumulates_nonzero": total.multiply_accumulates_nonzero,
    }


def _key(seed: int, purpose: str) -> jax.Array:
    return jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), zlib.crc32(purpose.encode()))
