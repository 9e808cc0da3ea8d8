"""A study: train, prune, fine-tune and evaluate over a grid; every finished part is kept, so a killed run continues.

A run folder holds `study.json` (configuration and provenance), `checkpoints/` (one folder per network), `rows/` (one
JSON Lines file per seed and corruption) and `rows.jsonl` (all rows, in the order of the plan). Each file is written
under a temporary name and renamed; what exists is skipped. Everything random follows from the configuration, so the
rows do not depend on where a run was interrupted.
"""

import collections
import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import time
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np
from etils import epath

from jaxprune import __version__, checkpoints, corruptions, data, evaluation, models, pruning, training

SCHEMA_VERSION = 1
DENSE = "dense"
STAGE_DENSE, STAGE_PRUNED, STAGE_FINE_TUNED = "dense", "pruned", "fine_tuned"
# A training step costs about three forward passes; used to weigh the parts of the progress bar only.
_TRAINING_COST = 3
# Where files lie says nothing about the result, so these fields stay out of the configuration's hash.
_LOCATIONS = (("data", "data_dir"), ("model", "checkpoint"))


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which images. A limit of None takes all."""

    name: str = "digits"
    data_dir: str | None = None
    train_limit: int | None = None
    test_limit: int | None = None


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Which network; `checkpoint` imports a PyTorch file, `mean` and `std` default to the data set's."""

    name: str = "resnet8"
    checkpoint: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    shortcut: str = "subsample"
    stage_widths: tuple[int, ...] = (16, 32, 64)

    def options(self) -> dict:
        """Returns the module's own options, as `models.create` takes them."""
        return {"shortcut": self.shortcut, "stage_widths": self.stage_widths}


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How to train or fine-tune; see `training.sgd` and `data.AUGMENTATIONS`."""

    epochs: int = 160
    learning_rate: float = training.LEARNING_RATE
    momentum: float = training.MOMENTUM
    weight_decay: float = training.WEIGHT_DECAY
    batch_size: int = training.BATCH_SIZE
    schedule: str = "step"
    augment: str = "crop_and_flip"


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """Which test sets; the corruptions' pixels follow from `seed` alone and are the same for all networks.

    `frost_textures` is "procedural", "imagecorruptions" (the files of that package, if installed) or a directory.
    """

    corruptions: tuple[str, ...] = tuple(name for name in corruptions.COMMON_CORRUPTIONS)
    severities: tuple[int, ...] = evaluation.SEVERITIES
    batch_size: int = evaluation.BATCH_SIZE
    seed: int = 0
    frost_textures: str = "procedural"


@dataclasses.dataclass(frozen=True)
class StudyConfig:
    """A whole study. `finetune` defaults to the protocol of Mitra et al. 2024; so does everything else by choice.

    `methods` are keys of `pruning.METHODS`. Sparsity 0 stands for the dense network, which is always evaluated as
    trained and after the same fine-tuning as the pruned ones.
    """

    name: str = "study"
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    pretrain: TrainConfig = TrainConfig()
    finetune: TrainConfig = TrainConfig(epochs=40, learning_rate=0.001, schedule="constant")
    methods: tuple[str, ...] = ("weight", "random")
    sparsities: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    seeds: tuple[int, ...] = (0, 1, 2)
    evaluation: EvaluationConfig = EvaluationConfig()


class Network(NamedTuple):
    """One network of the plan, before fine-tuning."""

    seed: int
    method: str
    sparsity: float

    @property
    def label(self) -> str:
        """The name of its checkpoint folder."""
        return f"seed{self.seed}-{self.method}-{self.sparsity:g}"


class Progress(NamedTuple):
    """What `run` tells its caller: what it is doing, and how much of the whole is done, in [0, 1]."""

    description: str
    fraction: float


def check(config: StudyConfig) -> None:
    """Raises a ValueError or FileNotFoundError if the configuration cannot be run; computes nothing."""
    if config.data.name not in data.DATASETS:
        raise ValueError(f"unknown data set {config.data.name!r}; known: {', '.join(data.DATASETS)}")
    models.abstract_state(config.model.name, num_classes=2, **config.model.options())
    if config.model.checkpoint is not None and not epath.Path(config.model.checkpoint).exists():
        raise FileNotFoundError(
            f"no checkpoint at {config.model.checkpoint}; give --study.model.checkpoint the path of a PyTorch file"
        )
    for part, train in (("pretrain", config.pretrain), ("finetune", config.finetune)):
        _check_train(part, train)
    for method in config.methods:
        if method not in pruning.METHODS:
            raise ValueError(f"unknown pruning method {method!r}; known: {', '.join(pruning.METHODS)}")
    for sparsity in config.sparsities:
        if not 0 <= sparsity < 1:
            raise ValueError(f"sparsity {sparsity} is outside [0, 1); give the fraction of weights to remove")
    if not config.seeds or len(set(config.seeds)) != len(config.seeds):
        raise ValueError(f"seeds are {config.seeds}; give one or more different integers")
    evaluation.check_corruptions(config.evaluation.corruptions, config.evaluation.severities)
    _frost_textures(config.evaluation)


def _frost_textures(config: EvaluationConfig) -> corruptions.FrostTextures | None:
    """Returns what frost is cropped from, None where there is no frost: growing textures takes a second."""
    return corruptions.FrostTextures.from_name(config.frost_textures) if "frost" in config.corruptions else None


def _check_train(part: str, train: TrainConfig) -> None:
    if train.epochs < 0 or train.batch_size < 1 or train.learning_rate <= 0:
        raise ValueError(
            f"{part}: epochs={train.epochs}, batch_size={train.batch_size}, learning_rate={train.learning_rate}; "
            f"epochs must be >= 0, batch_size >= 1, learning_rate > 0"
        )
    if train.schedule not in training.SCHEDULES:
        raise ValueError(f"{part}: unknown schedule {train.schedule!r}; known: {', '.join(training.SCHEDULES)}")
    if train.augment not in data.AUGMENTATIONS:
        raise ValueError(f"{part}: unknown augment {train.augment!r}; known: {', '.join(data.AUGMENTATIONS)}")


def networks(config: StudyConfig, seed: int) -> list[Network]:
    """Returns the networks of one seed: the dense one first, then every method at every sparsity above 0."""
    pruned = [Network(seed, method, s) for method in config.methods for s in config.sparsities if s > 0]
    return [Network(seed, DENSE, 0.0), *pruned]


def run(
    config: StudyConfig, out, *, command: str = "", on_progress: Callable[[Progress], None] | None = None
) -> epath.Path:
    """Runs a study, or what is left of it, and returns the path of its `rows.jsonl`.

    Args:
      config: the study.
      out: the run folder, local or `gs://`; made if missing, continued if it holds the same study.
      command: how the user started it, for the provenance.
      on_progress: called after every epoch and test set.

    Raises:
      ValueError, FileNotFoundError: the configuration cannot be run, or `out` holds another study. Nothing has been
        computed or changed then.
    """
    check(config)
    out = epath.Path(out)
    _claim(out, config, command)
    _Run(config, out, on_progress or (lambda progress: None)).whole()
    return out / "rows.jsonl"


class _Run:
    """One pass over the plan; holds what the parts share."""

    def __init__(self, config: StudyConfig, out: epath.Path, on_progress):
        self.config, self.out, self.on_progress = config, out, on_progress
        where = {"data_dir": config.data.data_dir}
        self.train = data.load(config.data.name, split="train", limit=config.data.train_limit, **where)
        self.test = data.load(config.data.name, split="test", limit=config.data.test_limit, **where)
        # Made once: the training step is compiled once per optimizer object.
        self.optimizers = {part: self._optimizer(getattr(config, part)) for part in ("pretrain", "finetune")}
        # Read once: frost is compiled once per object that holds its textures.
        self.frost_textures = _frost_textures(config.evaluation)
        self.seconds = collections.Counter(_read_study(out).get("seconds", {}))
        self.done = 0.0
        self.total = len(config.seeds) * (
            self._training_cost(config.pretrain)
            + len(networks(config, 0)) * self._training_cost(config.finetune)
            + sum(self._evaluation_cost(name) for name in self._test_set_names())
        )

    def whole(self) -> None:
        for seed in self.config.seeds:
            with self._timed("training"):
                dense = self._dense(seed)
            with self._timed("fine-tuning"):
                trained = {network: self._fine_tuned(network, dense) for network in networks(self.config, seed)}
            candidates = dict(self._candidates(dense, trained))
            for name in self._test_set_names():
                with self._timed("evaluation"):
                    self._evaluate(seed, name, candidates)
                self._gather()

    @contextlib.contextmanager
    def _timed(self, part: str):
        """Adds the seconds that its block takes to `study.json`, over all the calls that a run took."""
        start = time.monotonic()
        yield
        self.seconds[part] = round(self.seconds[part] + time.monotonic() - start, 1)
        content = _read_study(self.out) | {"seconds": dict(self.seconds)}
        write_atomically(self.out / "study.json", json.dumps(content, indent=2) + "\n")

    def _dense(self, seed: int) -> models.Classifier:
        config, path = self.config, self.out / "checkpoints" / f"seed{seed}-trained"
        if path.exists():
            self._advance(f"seed {seed}: trained network found", self._training_cost(config.pretrain))
            return checkpoints.load(path).classifier
        options = {
            "name": config.model.name,
            "num_classes": self.train.num_classes,
            "mean": config.model.mean or self.train.mean,
            "std": config.model.std or self.train.std,
            **config.model.options(),
        }
        if config.model.checkpoint is not None:
            classifier = models.from_torch(config.model.checkpoint, **options)
        else:
            classifier = models.create(key=_key(seed, "init"), **options)
        classifier = self._fit(classifier, "pretrain", f"seed {seed}: training {config.model.name}", seed, masks=None)
        checkpoints.save(path, classifier)
        return classifier

    def _fine_tuned(self, network: Network, dense: models.Classifier) -> checkpoints.Checkpoint:
        path = self.out / "checkpoints" / network.label
        if path.exists():
            self._advance(f"{network.label} found", self._training_cost(self.config.finetune))
            return checkpoints.load(path)
        start, masks = _prune(network, dense)
        classifier = self._fit(start, "finetune", f"fine-tuning {network.label}", network.seed, masks)
        checkpoints.save(path, classifier, masks=masks)
        return checkpoints.Checkpoint(classifier, masks, {})

    def _fit(self, classifier, part: str, description: str, seed: int, masks) -> models.Classifier:
        config: TrainConfig = getattr(self.config, part)
        cost = self._training_cost(config)
        return training.fit(
            classifier,
            self.train,
            optimizer=self.optimizers[part],
            epochs=config.epochs,
            key=_key(seed, part),
            masks=masks,
            batch_size=config.batch_size,
            augment=data.AUGMENTATIONS[config.augment],
            on_epoch=lambda record: self._advance(f"{description}, loss {record.loss:.3f}", cost / record.epochs),
        )

    def _candidates(self, dense, trained) -> Iterator[tuple[tuple[Network, str], tuple]]:
        """Yields every (network, stage) with its classifier and masks."""
        for network, checkpoint in trained.items():
            stage = STAGE_DENSE if network.method == DENSE else STAGE_PRUNED
            yield (network, stage), _prune(network, dense)
            if self.config.finetune.epochs:
                yield (network, STAGE_FINE_TUNED), (checkpoint.classifier, checkpoint.masks)

    def _evaluate(self, seed: int, name: str, candidates: dict) -> None:
        path, cost = self._rows_path(seed, name), self._evaluation_cost(name)
        if path.exists():
            self._advance(f"seed {seed}: {name} found", cost)
            return
        config = self.config.evaluation
        severities = () if name == evaluation.CLEAN else config.severities
        labels = {f"{network.label}-{stage}": (network, stage) for network, stage in candidates}
        measured = evaluation.evaluate(
            {label: candidates[key][0] for label, key in labels.items()},
            self.test,
            key=_key(config.seed, "corruptions"),
            corruptions=() if name == evaluation.CLEAN else (name,),
            severities=severities,
            clean=name == evaluation.CLEAN,
            batch_size=config.batch_size,
            frost_textures=self.frost_textures,
            on_test_set=lambda name, severity: self._advance(
                f"seed {seed}: {name} {severity or ''}", cost / max(1, len(severities))
            ),
        )
        rows = [self._row(*labels[row.pop("classifier")], row, candidates) for row in measured]
        write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows))

    def _row(self, network: Network, stage: str, measured: dict, candidates: dict) -> dict:
        classifier, masks = candidates[network, stage]
        return {
            "schema_version": SCHEMA_VERSION,
            "study": self.config.name,
            "config_hash": config_hash(self.config),
            "dataset": self.config.data.name,
            "model": self.config.model.name,
            "seed": network.seed,
            "method": network.method,
            "sparsity": network.sparsity,
            **_counts(classifier, masks),
            "stage": stage,
            **measured,
        }

    def _gather(self) -> None:
        """Writes `rows.jsonl` from the finished parts, in the order of the plan."""
        parts = [self._rows_path(seed, name) for seed in self.config.seeds for name in self._test_set_names()]
        write_atomically(self.out / "rows.jsonl", "".join(part.read_text() for part in parts if part.exists()))

    def _rows_path(self, seed: int, name: str) -> epath.Path:
        return self.out / "rows" / f"seed{seed}-{name}.jsonl"

    def _test_set_names(self) -> tuple[str, ...]:
        return (evaluation.CLEAN, *self.config.evaluation.corruptions)

    def _optimizer(self, config: TrainConfig):
        steps = training.num_steps(len(self.train), epochs=config.epochs, batch_size=config.batch_size)
        return training.sgd(
            learning_rate=config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            schedule=config.schedule if config.epochs else "constant",
            num_steps=steps,
        )

    def _training_cost(self, config: TrainConfig) -> float:
        return _TRAINING_COST * config.epochs * len(self.train)

    def _evaluation_cost(self, name: str) -> float:
        sets = 1 if name == evaluation.CLEAN else len(self.config.evaluation.severities)
        stages = 2 if self.config.finetune.epochs else 1
        return sets * len(self.test) * stages * len(networks(self.config, 0))

    def _advance(self, description: str, cost: float) -> None:
        self.done += cost
        self.on_progress(Progress(description, min(1.0, self.done / self.total)))


def _prune(network: Network, dense: models.Classifier):
    if network.method == DENSE:
        return dense, None
    return pruning.prune(dense, method=network.method, sparsity=network.sparsity, key=_key(network.seed, "masks"))


def _counts(classifier: models.Classifier, masks) -> dict:
    """Returns the sizes that a row states; `sparsity_achieved` is over the leaves that have a mask."""
    leaves = jax.tree.leaves(classifier.params)
    kept = [(np.asarray(mask).sum(), mask.size) for mask in jax.tree.leaves(masks)]
    achieved = 1 - sum(k for k, _ in kept) / sum(n for _, n in kept) if kept else 0.0
    return {
        "sparsity_achieved": round(float(achieved), 6),
        "num_parameters": sum(leaf.size for leaf in leaves),
        "num_nonzero": sum(int(np.count_nonzero(leaf)) for leaf in leaves),
    }


def _key(seed: int, purpose: str) -> jax.Array:
    return jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), zlib.crc32(purpose.encode()))


def config_dict(config: StudyConfig) -> dict:
    """Returns a configuration as JSON holds it."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def config_hash(config: StudyConfig) -> str:
    """Returns twelve hexadecimal digits that change with whatever may change the rows, file locations excepted."""
    content = config_dict(config)
    for part, field in _LOCATIONS:
        content[part][field] = content[part][field] is not None
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def _claim(out: epath.Path, config: StudyConfig, command: str) -> None:
    """Writes `study.json` into a new run folder, or checks that an existing one belongs to this study."""
    path = out / "study.json"
    if path.exists():
        found = _read_study(out)
        if found["config_hash"] != config_hash(config):
            changes = ", ".join(_differences(found["config"], config_dict(config)))
            raise ValueError(
                f"{out} holds a study with another configuration ({changes}); "
                f"choose another --out, or delete {out} to start again"
            )
        return
    provenance = {
        "study": config.name,
        "config": config_dict(config),
        "config_hash": config_hash(config),
        "versions": _versions(),
        "device": _device(),
        "precision": "float32",
        "command": command,
        "created": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
    }
    textures = _frost_textures(config.evaluation)
    if textures is not None:
        provenance["frost_textures"] = textures.provenance
    if config.model.checkpoint is not None:
        content = epath.Path(config.model.checkpoint).read_bytes()
        provenance["checkpoint_sha256"] = hashlib.sha256(content).hexdigest()
    write_atomically(path, json.dumps(provenance, indent=2) + "\n")


def _read_study(out: epath.Path) -> dict:
    path = out / "study.json"
    try:
        found = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged ({error}); choose another --out, or delete {out}") from error
    if not isinstance(found, dict) or not {"config", "config_hash"} <= found.keys():
        raise ValueError(f"{path} is not a study's record; choose another --out, or delete {out}")
    return found


def _differences(there, here, prefix: str = "") -> Iterator[str]:
    if isinstance(there, dict) and isinstance(here, dict):
        for name in sorted(there.keys() | here.keys()):
            yield from _differences(there.get(name), here.get(name), f"{prefix}.{name}" if prefix else name)
    elif there != here:
        yield f"{prefix}: {there} there, {here} here"


def _versions() -> dict[str, str]:
    return {"jaxprune": __version__} | {
        package: importlib.metadata.version(package) for package in ("jax", "flax", "optax", "numpy")
    }


def _device() -> str:
    devices = jax.devices()
    return f"{devices[0].platform} x{len(devices)} ({devices[0].device_kind})"


def write_atomically(path: epath.Path, text: str) -> None:
    """Writes a text file under a temporary name beside it, and renames it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.tmp"
    temporary.write_text(text)
    temporary.replace(path)
