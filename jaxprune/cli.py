"""The command line: `jaxprune run | report | evaluate | compare | prune | corrupt | doctor`.

Bad input ends with one line on standard error and exit code 2; SIGTERM with one line and 143. Finished work stays.
"""

import contextlib
import dataclasses
import importlib.util
import os
import pathlib
import shlex
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator

EXIT_OK, EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_TERMINATED = 0, 1, 2, 130, 143
_AGAIN_S = 0.02
_KEPT = "finished parts are kept, the same command continues"
TRACEBACK_VARIABLE = "JAXPRUNE_TRACEBACK"
_USAGE = """usage: jaxprune COMMAND ...

  run CONFIG [--out DIR]    [--study.FIELD VALUE ...]   run a study, or what is left of it, and write its report;
                                                        with --dry-run say what that takes
  report DIR [DIR ...]                                  write tables, figures and report.html from runs' rows
  evaluate CHECKPOINT ... --dataset NAME ...            models: clean and corrupted accuracy and calibration
  compare CHECKPOINT CHECKPOINT --dataset NAME ...      which differences between two models are significant
  prune CHECKPOINT --sparsity 0.7 --out DIR ...         prune one model and save it, masked or smaller
  corrupt --dataset NAME --out DIR ...                  write a CIFAR-10-C style folder, or draw a gallery
  doctor                                                devices, versions, data, and what is missing

'jaxprune COMMAND --help' lists a command's options."""


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns the process's exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write(_USAGE + "\n")
        return EXIT_OK if arguments else EXIT_BAD_INPUT
    command, *rest = arguments
    if command not in COMMANDS:
        return _complain(f"unknown command {command!r}; known: {', '.join(COMMANDS)}")
    try:
        with _terminable(), warnings.catch_warnings():
            warnings.showwarning = _show_warning
            return COMMANDS[command](rest) or EXIT_OK
    except KeyboardInterrupt:
        sys.stderr.write(f"\njaxprune: interrupted; {_KEPT}\n")
        return EXIT_INTERRUPTED
    except _Terminated:
        return _complain(f"terminated; {_KEPT}", EXIT_TERMINATED)
    except SystemExit as error:
        # Training that SIGTERM stopped says where it goes on; argument parsing has said what it had to.
        if isinstance(error, _loaded("jaxprune.training", "Interrupted")):
            return _complain(str(error), error.code)
        raise
    except (FloatingPointError, RuntimeError) as error:
        lost = _loaded("jaxprune.devices", "LostProcessError")
        if isinstance(error, RuntimeError) and not isinstance(error, lost):
            raise
        return _complain(str(error), EXIT_FAILED)
    except (ValueError, TypeError, OSError, ImportError) as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        return _complain(str(error) or repr(error))


class _Terminated(SystemExit):
    """SIGTERM came; raised where the program was, so that temporary files are deleted on the way out."""


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Lets SIGTERM raise `_Terminated` for the length of the block; training has its own way to stop meanwhile."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number, frame):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends the process at once
        raise _Terminated(EXIT_TERMINATED)

    def hook(unraisable):
        """Sends the signal again if it came in a callback of the garbage collector, where Python drops exceptions."""
        if unraisable.exc_type is not _Terminated:
            previous_hook(unraisable)
            return
        signal.signal(signal.SIGTERM, terminate)
        again = threading.Timer(_AGAIN_S, os.kill, (os.getpid(), signal.SIGTERM))
        again.daemon = True
        again.start()

    previous, previous_hook = signal.signal(signal.SIGTERM, terminate), sys.unraisablehook
    sys.unraisablehook = hook
    try:
        yield
    finally:
        if sys.unraisablehook is hook:
            sys.unraisablehook = previous_hook
        signal.signal(signal.SIGTERM, signal.SIG_DFL if previous is None else previous)


def _loaded(module: str, name: str):
    """Returns an exception of a room, or none if that room is not loaded: then it cannot have raised it."""
    return getattr(sys.modules[module], name) if module in sys.modules else ()


def _show_warning(message, *where) -> None:
    del where  # where in the library it was noticed says nothing to whom the command line serves
    sys.stderr.write(f"jaxprune: warning: {' '.join(str(message).split())}\n")


def _complain(message: str, code: int = EXIT_BAD_INPUT) -> int:
    sys.stderr.write(f"jaxprune: {' '.join(message.split())}\n")
    return code


def _parse(kind: type, command: str, arguments: list[str], **defaults):
    """Returns an instance of the dataclass `kind` from the command line; wrong options exit with code 2."""
    try:
        import tyro
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("the command line needs tyro; pip install 'jaxprune[study]' brings it") from error

    default = kind(**defaults) if defaults else None
    options = {"default": default} if default is not None else {}
    return tyro.cli(kind, prog=f"jaxprune {command}", args=arguments, **options)


def _renamed(arguments: list[str], names: dict[str, str]) -> list[str]:
    """Returns the arguments with the present names of options whose former ones still work, with a warning."""
    renamed = []
    for argument in arguments:
        option, equals, value = argument.partition("=")
        option = option.replace("_", "-")
        if option in names:
            _show_warning(f"{option} is called {names[option]} now, and will go in a later release")
            argument = names[option] + equals + value
        renamed.append(argument)
    return renamed


def _run(arguments: list[str]) -> None:
    from etils import epath
    from tyro.conf import Positional

    from jaxprune import files
    from jaxprune.devices import processes
    from jaxprune.study import StudyConfig, unfinished
    from jaxprune.study import run as run_study

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

    named = arguments[0] if arguments and not arguments[0].startswith("-") else None
    if named is None and not {"-h", "--help"} & set(arguments):
        raise ValueError(
            "jaxprune run needs a configuration first: a Python file, or one that came with jaxprune "
            f"({', '.join(_shipped_configs())})"
        )
    default = {"study": _load_config(named)} if named else {}
    parsed = _parse(Run, "run", arguments, **default)
    out = files.named(f"runs/{epath.Path(parsed.config).stem}" if parsed.out is None else parsed.out, what="run folder")
    if parsed.dry_run:
        _print_plan(parsed.study, out)
        return
    if parsed.distributed or parsed.coordinator:
        processes.start(parsed.coordinator, parsed.num_processes, parsed.process_id)
    how = {"command": shlex.join(["jaxprune", "run", *arguments]), "shard": parsed.shard}
    if not processes.is_main_process():
        run_study(parsed.study, out, **how)
        processes.barrier("the report")
        return
    _with_progress(lambda on_progress: run_study(parsed.study, out, **how, on_progress=on_progress))
    missing = unfinished(parsed.study, out)
    if missing:
        sys.stdout.write(
            f"shard {parsed.shard} is done; {len(missing)} parts of others are missing (first: {missing[0]}). The last "
            f"to finish writes the report; jaxprune report {out} writes it of what is there\n"
        )
    else:
        _write_report(out)
    processes.barrier("the report")


def _print_plan(config, out) -> None:
    from jaxprune import study

    arms = study.plan(config, out)
    found = []
    _with_progress(
        lambda on_progress: found.append(
            study.estimate(config, out, on_progress=lambda *what: on_progress(study.Progress(*what)))
        )
    )
    sys.stdout.write(study.plan_text(config, arms, found[0]) + "\n")


def _shipped_configs() -> dict[str, pathlib.Path]:
    """Returns the configurations that came with jaxprune, by name: in a wheel, or beside the package in a checkout."""
    package = pathlib.Path(__file__).parent
    installed = package / "configs"
    folder = installed if installed.is_dir() else package.parent / "configs"
    return {file.stem: file for file in sorted(folder.glob("*.py"))}


def _config_path(path: str) -> str:
    """Returns `path`, or where there is no such file, that of the shipped configuration: digits, configs/digits.py."""
    if os.path.exists(path):
        return path
    shipped, (folder, name) = _shipped_configs(), os.path.split(path)
    name = name.removesuffix(".py")
    if folder not in ("", "configs") or name not in shipped:
        raise FileNotFoundError(
            f"no configuration file at {path}; give one, or the name of one that came with jaxprune: "
            f"{', '.join(shipped)}"
        )
    return str(shipped[name])


def _load_config(path: str):
    """Returns what `get_config()` of a Python file, or of a shipped configuration, returns."""
    from jaxprune import study

    path = _config_path(path)
    specification = importlib.util.spec_from_file_location("jaxprune_config", path)
    if specification is None:
        raise ValueError(f"{path} is no Python file; give one that defines get_config(), such as configs/digits.py")
    module = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(module)
        config = module.get_config()
    except (SyntaxError, NameError, AttributeError, TypeError) as error:
        raise ValueError(f"{path} cannot be used as a configuration: {error}") from error
    if not isinstance(config, study.StudyConfig):
        raise ValueError(f"get_config() of {path} returned a {type(config).__name__}; it must return a StudyConfig")
    return config


def _with_progress(work: Callable) -> None:
    """Calls `work(on_progress)` with a progress bar on standard error (plain lines where that is no terminal)."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if not console.is_terminal:
        last = None

        def in_lines(progress):
            nonlocal last
            percent = int(100 * progress.fraction)
            if last is None or percent >= last + 5:
                last = percent
                sys.stderr.write(f"{percent:3d} %  {progress.description}\n")
                sys.stderr.flush()

        work(in_lines)
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
        work(lambda progress: bar.update(task, completed=progress.fraction, description=progress.description))


def _counter(on_progress: Callable, num_sets: int) -> Callable:
    """Returns an `on_test_set` that reports how many of `num_sets` are done."""
    from jaxprune.study import Progress

    done = 0

    def on_test_set(name, severity):
        nonlocal done
        done += 1
        on_progress(Progress(f"{name} {severity or ''}", done / num_sets))

    return on_test_set


def _report(arguments: list[str]) -> None:
    from tyro.conf import Positional

    @dataclasses.dataclass
    class Report:
        """Write tables, figures and report.html from the rows of one run, or of several side by side."""

        runs: Positional[tuple[str, ...]]
        """Run folders, which hold rows.jsonl; several are compared in DIR/comparison of the first."""

    runs = _parse(Report, "report", arguments).runs
    _write_report(runs[0] if len(runs) == 1 else runs)


def _write_report(runs) -> None:
    from jaxprune import report

    sys.stdout.write(f"report: {report.write(runs)}\n")


@dataclasses.dataclass
class _DataOptions:
    """Which images."""

    dataset: str
    """A data set name, such as cifar10 or digits."""
    data_dir: str | None = None
    """Where its files lie."""
    split: str = "test"
    limit: int | None = None
    """Use the first so many images."""
    image_size: int | None = None
    """Pixels per side to which an image_folder is brought; needed there."""
    data_corruption: str | None = None
    """Which part of cifar10_corrupted: a corruption; needed there, with --data-severity."""
    data_severity: int | None = None

    def load(self):
        """Returns the data set."""
        from jaxprune import data

        options = {
            "image_size": self.image_size,
            "corruption": self.data_corruption,
            "severity": self.data_severity,
        }
        given = {name: value for name, value in options.items() if value is not None}
        return data.load(self.dataset, split=self.split, data_dir=self.data_dir, limit=self.limit, **given)


@dataclasses.dataclass
class _TorchOptions:
    """What a PyTorch file does not say about itself; files and folders that jaxprune saved say it all."""

    model: str = "resnet20"
    """The architecture of a PyTorch file: a name of models.MODELS."""
    shortcut: str | None = None
    """The shortcut of a CIFAR ResNet in a PyTorch file: subsample, average_pool or projection."""
    head: str | None = None
    """The head of a VGG in a PyTorch file, such as linear or hidden."""
    conv_bias: bool | None = None
    """Whether the convolutions of a VGG in a PyTorch file have biases."""
    stem: str | None = None
    """The first layers of a ResNet-18/34/50 in a PyTorch file: cifar, cifar_max_pool or imagenet; of a MobileNetV2:
    cifar or imagenet."""
    pool: str | None = None
    """What follows the last convolution of a VGG in a PyTorch file: max or average."""
    mean: tuple[float, ...] | None = None
    """Input normalisation of a PyTorch file, for images in [0, 1]; by default that of the data set it meets."""
    std: tuple[float, ...] | None = None

    def architecture(self) -> dict:
        """Returns the options of `models.from_torch` that were given."""
        given = {name: getattr(self, name) for name in ("shortcut", "head", "conv_bias", "stem", "pool")}
        return {name: value for name, value in given.items() if value is not None}


def _load_classifier(path: str, options: _TorchOptions, **known):
    return _load_checkpoint(path, options, **known).classifier


# In the metadata of what `prune` makes of a PyTorch file whose normalisation nobody gave.
_ASSUMED_NORMALISATION = {"normalisation": "assumed"}


def _load_checkpoint(path: str, options: _TorchOptions, *, num_classes: int, mean, std):
    """Returns a checkpoint; `mean` and `std` are for networks that do not know their own, unless options give them."""
    from jaxprune import checkpoints, models

    if (options.mean is None) != (options.std is None):
        raise ValueError("--mean and --std belong together; give both, for images in [0, 1], or neither")
    if os.path.isdir(path):
        checkpoint = checkpoints.load(path)
        if _ASSUMED_NORMALISATION.items() <= checkpoint.metadata.items():
            classifier = checkpoint.classifier
            channels = classifier.mean.shape[-1]
            mean, std = models.normalization(options.mean or mean, options.std or std, channels=channels)
            checkpoint = checkpoint._replace(classifier=classifier.replace(mean=mean, std=std))
        return checkpoint
    if path.endswith(".safetensors"):
        return checkpoints.load_safetensors(path)
    classifier = models.from_torch(
        path,
        name=options.model,
        num_classes=num_classes,
        mean=options.mean or mean,
        std=options.std or std,
        **options.architecture(),
    )
    return checkpoints.Checkpoint(classifier, None, {} if options.mean else dict(_ASSUMED_NORMALISATION))


@dataclasses.dataclass
class _TestSetOptions:
    """Which corrupted versions of the images."""

    corruptions: tuple[str, ...] | None = None
    """Names; none for clean images only. By default all of --corrupted; without it evaluate takes all, compare none."""
    severities: tuple[int, ...] | None = None
    """From 1 (mild) to 5 (strong); by default all."""
    corrupted: str | None = None
    """A folder in CIFAR-10-C's layout to read instead of generating; --corruptions and --severities select from it."""
    seed: int = 0
    """Of the corruptions' randomness, where they are generated."""

    def select(self, default: tuple[str, ...], limit: int | None) -> tuple[dict, int]:
        """Returns the arguments of `evaluation.evaluate` and the number of test sets, the clean one included."""
        from jaxprune import evaluation, models

        if self.corrupted is None:
            names = default if self.corruptions is None else self.corruptions
            severities = evaluation.SEVERITIES if self.severities is None else self.severities
            evaluation.check_corruptions(names, severities)
            key = models.seed_key(self.seed)
            return {"key": key, "corruptions": names, "severities": severities}, 1 + len(names) * len(severities)
        found = evaluation.folder_test_sets(self.corrupted, self.corruptions, self.severities, limit=limit)
        if not found and self.corruptions is None:
            raise FileNotFoundError(f"{self.corrupted} holds no corrupted images; give a folder such as CIFAR-10-C")
        return {"corrupted": found}, 1 + len(found)


def _evaluate(arguments: list[str]) -> None:
    from tyro.conf import OmitArgPrefixes, Positional

    from jaxprune import evaluation
    from jaxprune.evaluation import folder

    @dataclasses.dataclass
    class Evaluate:
        """Clean and corrupted accuracy and calibration of one model, or of several on the same images."""

        checkpoints: Positional[tuple[str, ...]]
        """PyTorch .pt files, .safetensors files or folders that jaxprune saved."""
        data: OmitArgPrefixes[_DataOptions]
        test_sets: OmitArgPrefixes[_TestSetOptions] = dataclasses.field(default_factory=_TestSetOptions)
        out: str | None = None
        """A folder for rows.jsonl, one row per model and test set, and evaluation.json, which says how it was made."""
        keep_examples: bool = False
        """Also write every image's confidence, prediction and losses into the folder examples of --out."""
        batch_size: int = evaluation.BATCH_SIZE
        """Images per step."""
        precision: str = "float32"
        """float32, or bfloat16 for weights and activations of that type."""
        torch: OmitArgPrefixes[_TorchOptions] = dataclasses.field(default_factory=_TorchOptions)

    options = _parse(Evaluate, "evaluate", _renamed(arguments, {"--compute-dtype": "--precision"}))
    if not options.checkpoints:
        raise ValueError("jaxprune evaluate needs a checkpoint first, such as: jaxprune evaluate net.pt --dataset NAME")
    if options.keep_examples and options.out is None:
        raise ValueError("--keep-examples needs --out DIR, the folder to write into")
    out = None if options.out is None else folder.check(options.out)
    with folder.held(out) if out is not None else contextlib.nullcontext():
        _evaluate_into(out, options, shlex.join(["jaxprune", "evaluate", *arguments]))


def _evaluate_into(out, options, command: str) -> None:
    """Evaluates, prints the tables and, unless `out` is None, writes into that folder, which is held."""
    from jaxprune import evaluation, files
    from jaxprune.corruptions import CORRUPTIONS
    from jaxprune.evaluation import folder
    from jaxprune.study import provenance

    selection, num_sets = options.test_sets.select(tuple(CORRUPTIONS), options.data.limit)
    dataset = options.data.load()
    paths = dict(zip(_checkpoint_names(options.checkpoints), options.checkpoints, strict=True))
    known = {"num_classes": dataset.num_classes, "mean": dataset.mean, "std": dataset.std}
    classifiers = {name: _load_classifier(path, options.torch, **known) for name, path in paths.items()}
    record, claimed = {}, contextlib.nullcontext()
    if out is not None:
        record = {
            "command": command,
            **provenance.about_here(),
            "dataset": {"name": dataset.name, "split": dataset.split, "num_images": len(dataset)},
            "corrupted": options.test_sets.corrupted,
            "seed": None if options.test_sets.corrupted else options.test_sets.seed,
            "precision": options.precision,
            "batch_size": options.batch_size,
            "checkpoints": {name: {"path": path, "sha256": files.checksum_of(path)} for name, path in paths.items()},
        }
        claimed = folder.claimed(out, record)
    rows = []
    with claimed:
        _with_progress(
            lambda on_progress: rows.extend(
                evaluation.evaluate(
                    classifiers,
                    dataset,
                    **selection,
                    batch_size=options.batch_size,
                    precision=options.precision,
                    keep_examples=out / folder.EXAMPLES_FOLDER if options.keep_examples else None,
                    on_test_set=_counter(on_progress, num_sets),
                )
            )
        )
        for name, path in paths.items():
            of_this = [row for row in rows if row["classifier"] == name]
            _print_rows(of_this, f"{path} on {len(dataset)} {dataset.split} images of {dataset.name}")
        if out is not None:
            folder.finish(out, record, rows)
            sys.stdout.write(f"rows: {out / folder.ROWS_FILE}\n")


def _checkpoint_names(paths: tuple[str, ...]) -> list[str]:
    """Returns names that tell the checkpoints apart: without folder and suffix, or with as much as that takes."""
    whole = [os.path.abspath(path) for path in paths]
    if len(set(whole)) < len(whole):
        twice = next(path for path, place in zip(paths, whole, strict=True) if whole.count(place) > 1)
        raise ValueError(f"checkpoint {twice} is given twice; give each once")
    files = [os.path.basename(path) for path in whole]
    stems = [
        file if os.path.isdir(path) else os.path.splitext(file)[0] for file, path in zip(files, whole, strict=True)
    ]
    for names in (stems, files):
        if len(set(names)) == len(names):
            return names
    common = os.path.commonpath(whole)
    return [os.path.relpath(path, common).replace("_", "__").replace(os.sep, "_") for path in whole]


def _compare(arguments: list[str]) -> None:
    import tempfile

    from tyro.conf import OmitArgPrefixes, Positional

    @dataclasses.dataclass
    class Compare:
        """Which differences between two models are significant, on the same images, clean and corrupted."""

        checkpoints: Positional[tuple[str, str]]
        """Two models: PyTorch .pt files, .safetensors files or folders that jaxprune saved."""
        data: OmitArgPrefixes[_DataOptions]
        test_sets: OmitArgPrefixes[_TestSetOptions] = dataclasses.field(default_factory=_TestSetOptions)
        torch: OmitArgPrefixes[_TorchOptions] = dataclasses.field(default_factory=_TorchOptions)

    options = _parse(Compare, "compare", arguments)
    from jaxprune import evaluation, report

    selection, num_sets = options.test_sets.select((), options.data.limit)
    dataset = options.data.load()
    known = {"num_classes": dataset.num_classes, "mean": dataset.mean, "std": dataset.std}
    both = {
        name: _load_classifier(path, options.torch, **known)
        for name, path in zip(("first", "second"), options.checkpoints, strict=True)
    }
    with tempfile.TemporaryDirectory() as folder:
        _with_progress(
            lambda on_progress: evaluation.evaluate(
                both, dataset, **selection, keep_examples=folder, on_test_set=_counter(on_progress, num_sets)
            )
        )
        differences = report.compare(f"{folder}/first", f"{folder}/second")
    first, second = options.checkpoints
    sys.stdout.write(f"first: {first}\nsecond: {second}\n{report.comparison_text(differences)}\n")


def _prune(arguments: list[str]) -> None:
    from tyro.conf import OmitArgPrefixes, Positional

    @dataclasses.dataclass
    class Prune:
        """Prune a model and save it, with its masks or physically smaller; no fine-tuning."""

        checkpoint: Positional[str]
        """A PyTorch .pt file, a .safetensors file or a folder that jaxprune saved; what its masks took stays away."""
        sparsity: float
        """The fraction to remove, in [0, 1): of the convolution weights, or of the channels of the chosen layers."""
        out: str
        """The folder to write: a checkpoint that every jaxprune command reads."""
        method: str = "weight"
        """A method of pruning.METHODS, such as weight, random, filter_l1, slimming or channel_random."""
        filter_fn: str | None = None
        """Methods that remove weights: from which parameters, a name in pruning.FILTERS such as kernels, which takes
        linear and attention layers too. By default from the kernels of 2-D convolutions."""
        layers: tuple[str, ...] | None = None
        """Methods that remove channels: channel groups, or one word: study, all. By default the method's own choice."""
        round_to: int = 1
        """Methods that remove channels: keep a multiple of so many in each layer, such as 8."""
        export: str | None = None
        """Also write the pruned model as StableHLO into this file, which runs without jaxprune; replaces only such."""
        seed: int = 0
        """Of methods that draw."""
        num_classes: int = 10
        """The number of classes of a PyTorch file."""
        torch: OmitArgPrefixes[_TorchOptions] = dataclasses.field(default_factory=_TorchOptions)

    options = _parse(Prune, "prune", arguments)
    _check_prune_outputs(options.checkpoint, options.out, options.export)
    import jax

    from jaxprune import checkpoints, data, models, pruning

    method = pruning.find_method(options.method)
    if "images" in method.needs:
        raise ValueError(
            f"method {options.method!r} needs training images, which this command has none of; use it in a study, or "
            "pruning.prune in Python"
        )
    dense, earlier_masks, source = _load_checkpoint(
        options.checkpoint,
        options.torch,
        num_classes=options.num_classes,
        mean=data.CIFAR10_MEAN,
        std=data.CIFAR10_STD,
    )
    layers = options.layers[0] if options.layers and len(options.layers) == 1 else options.layers
    if method.removes_channels and options.filter_fn is not None:
        raise ValueError(
            f"--filter-fn is for methods that remove weights ({pruning.methods_with('filter_fn')}), not for "
            f"{options.method!r}"
        )
    if not method.removes_channels and (layers or options.round_to != 1):
        raise ValueError(
            f"--layers and --round-to are for methods that remove channels ({pruning.methods_with('layers')}), not for "
            f"{options.method!r}"
        )
    if method.removes_channels:
        choice = {"layers": layers, "round_to": options.round_to}
    else:
        choice = {"filter_fn": options.filter_fn}
    key = models.seed_key(options.seed)
    sparse, masks = pruning.prune(dense, method=options.method, sparsity=options.sparsity, key=key, **choice)
    if earlier_masks is not None:
        # What was pruned stays pruned; masks of single weights keep channels from being taken out, as `compact` says.
        masks = pruning.intersect_masks(masks, earlier_masks)
        sparse = sparse.replace(params=pruning.mask_params(sparse.params, masks))
    note = "Masks make no forward pass faster"
    if method.removes_channels:
        sparse, masks = pruning.compact(sparse, masks), None
        smaller = sum(leaf.size for leaf in jax.tree.leaves(sparse.params))
        is_smaller = smaller < sum(leaf.size for leaf in jax.tree.leaves(dense.params))
        note = "The channels are gone, the network is smaller" if is_smaller else "No channel is gone"
    metadata = {"method": pruning.canonical_name(options.method), "sparsity": options.sparsity, "seed": options.seed}
    metadata["source"] = options.checkpoint
    if _ASSUMED_NORMALISATION.items() <= source.items() and options.torch.mean is None:
        metadata |= _ASSUMED_NORMALISATION
        _show_warning(
            "the normalisation of this network is not known: other commands will take that of the data set, a "
            "StableHLO export CIFAR-10's; --mean and --std say what it was trained with"
        )
    checkpoints.save(options.out, sparse, masks=masks, metadata=metadata, replace=False)
    sys.stdout.write(f"{pruning.summarize(sparse, masks, before=dense)}\n{note}. Saved: {options.out}\n")
    if options.export is not None:
        models.export_stablehlo(options.export, sparse)
        sys.stdout.write(f"exported: {options.export}\n")


def _check_prune_outputs(checkpoint: str, out: str, export: str | None) -> None:
    """Raises a ValueError or an OSError if what `prune` will write would replace something, or lie in one another."""
    from jaxprune import files

    files.check_output(out, what="checkpoint folder")
    pairs = [("--out", out, "the checkpoint that is read", checkpoint)]
    if export is not None:
        from jaxprune.models.export import check_export_path

        check_export_path(export)
        pairs += [("--export", export, *pairs[0][2:]), ("--export", export, "--out", out)]
        pairs += [("--out", out, "--export", export)]
    for option, path, where, folder in pairs:
        if pathlib.Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
            raise ValueError(f"{option} {path} lies in {where}, {folder}; give another path")


def _print_rows(rows: list[dict], title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, pad_edge=False, collapse_padding=True)
    columns = {
        "accuracy": "accuracy",
        "NLL": "negative_log_likelihood",
        "Brier": "brier_score",
        "ECE, equal width, 10 bins": "ece_equal_width_10",
        "ECE, equal mass, 15 bins": "ece_equal_mass_15",
    }
    # In a narrow terminal the headings wrap, the names stay whole.
    table.add_column("corruption", no_wrap=True)
    for heading in ("severity", *columns):
        table.add_column(heading, justify="right")
    for row in rows:
        # A network that returned NaN has no metrics.
        values = ["-" if row[metric] is None else f"{row[metric]:.5f}" for metric in columns.values()]
        table.add_row(row["corruption"], str(row["severity"] or "-"), *values)
    Console().print(table)


def _corrupt(arguments: list[str]) -> None:
    from jaxprune.corruptions import COMMON_CORRUPTIONS, CORRUPTIONS, FrostTextures

    @dataclasses.dataclass
    class Corrupt:
        """Write corrupted versions of a data set in CIFAR-10-C's layout (--out), or a picture of them (--preview)."""

        dataset: str = "digits"
        """A data set name, such as cifar10 or digits."""
        out: str | None = None
        """The folder to write; what this command wrote there already is kept, anything else refused."""
        preview: str | None = None
        """Draw one image under every corruption and severity into this file instead; replaces another preview only."""
        names: tuple[str, ...] | None = None
        """Corruptions; by default the 15 common ones, for a preview all."""
        severities: tuple[int, ...] = (1, 2, 3, 4, 5)
        preset: str | None = None
        """Whose constants: cifar, tiny_imagenet or imagenet; by default by the images' size."""
        post_jpeg: int | None = None
        """Re-encode at this JPEG quality, as the released Tiny-ImageNet-C and ImageNet-C files were (85)."""
        frost_textures: str = "procedural"
        """What frost is cropped from: procedural, imagecorruptions (that package's files) or a directory."""
        data_dir: str | None = None
        """Where prepared data lies."""
        split: str = "test"
        limit: int | None = None
        """Use the first so many images."""
        index: int = 0
        """Which image of the data set a preview shows."""
        image: str | None = None
        """An image file that a preview shows instead."""
        seed: int = 0
        """Of the corruptions' randomness."""

    options = _parse(Corrupt, "corrupt", arguments)
    if (options.out is None) == (options.preview is None):
        raise ValueError("jaxprune corrupt needs either --out DIR (write images) or --preview FILE.png (draw one)")
    import jax

    from jaxprune import data, evaluation, files
    from jaxprune.evaluation import corrupted_sets

    where = (
        files.check_folder(options.out, what="folder of corrupted images")
        if options.preview is None
        else files.named(options.preview, what="gallery")
    )
    default = COMMON_CORRUPTIONS if options.preview is None else CORRUPTIONS
    names = tuple(options.names or default)
    evaluation.check_corruptions(names, options.severities)
    how = {
        "preset": options.preset,
        "post_jpeg": options.post_jpeg,
        "frost_textures": FrostTextures.from_name(options.frost_textures),
    }
    source = {"name": options.dataset, "split": options.split, "data_dir": options.data_dir}
    if options.preview is not None:
        corrupted_sets.draw_gallery(
            jax.random.key(options.seed),
            _image_file(options.image) if options.image else _image_of(source, options.index),
            where,
            names=names,
            severities=options.severities,
            **how,
        )
        sys.stdout.write(f"preview: {where}\n")
        return
    dataset = data.load(**source, limit=options.limit)
    num_sets = len(names) * len(options.severities)
    _with_progress(
        lambda on_progress: corrupted_sets.write(
            where,
            dataset,
            seed=options.seed,
            names=names,
            severities=options.severities,
            **how,
            on_test_set=_counter(on_progress, num_sets),
        )
    )
    sys.stdout.write(f"corrupted images: {where}\n")


def _image_of(source: dict, index: int):
    from jaxprune import data

    dataset = data.load(**source, limit=index + 1 if index >= 0 else 0)
    if not 0 <= index < len(dataset):
        raise ValueError(f"--index {index} is not in the {source['split']} split of {source['name']}; give 0 or more")
    return dataset.images[index]


def _image_file(path: str):
    import numpy as np

    from jaxprune.files.images import read_rgb

    return np.asarray(read_rgb(path))


def _doctor(arguments: list[str]) -> int:
    # Nothing but the standard library and JAX: what is missing should not keep it from saying so.
    import argparse
    import textwrap

    from jaxprune import doctor

    parser = argparse.ArgumentParser(
        "jaxprune doctor",
        description="Show versions, devices, data, caches and what is missing. Exit code 1 if something is wrong.",
    )
    parser.add_argument("--expect", choices=doctor.PLATFORMS, help="say what is wrong if JAX uses another platform")
    parser.add_argument("--data-dir", help="where prepared data sets lie; by default where TFDS looks")
    options = parser.parse_args(arguments)
    findings = doctor.examine(expect=options.expect, data_dir=options.data_dir)
    wrong = sum(finding.is_wrong for finding in findings)
    summary = f"{wrong} to put right" if wrong else "nothing is wrong"
    try:
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table
    except ModuleNotFoundError:
        for finding in findings:
            mark = "!" if finding.is_wrong else " "
            sys.stdout.write(f"{mark} {finding.subject}: {finding.found}\n")
            if finding.advice:
                sys.stdout.write(textwrap.indent(finding.advice, "      ") + "\n")
        sys.stdout.write(summary + "\n")
    else:
        table = Table("what", "found", "to do", title="jaxprune doctor")
        for finding in findings:
            cells = map(escape, (finding.subject, finding.found, finding.advice))
            table.add_row(*cells, style="red" if finding.is_wrong else None)
        console = Console()
        console.print(table)
        console.print(summary)
    return EXIT_FAILED if wrong else EXIT_OK


COMMANDS = {
    "run": _run,
    "report": _report,
    "evaluate": _evaluate,
    "compare": _compare,
    "prune": _prune,
    "corrupt": _corrupt,
    "doctor": _doctor,
}
