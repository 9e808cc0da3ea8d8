import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import PIL.Image
import pytest

from jaxprune import checkpoints, cli, data, models
from jaxprune.cli.configurations import load_configuration

ROOT = pathlib.Path(__file__).parent.parent.parent


def run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "jaxprune", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "net"
    net = models.create("resnet8", num_classes=10, key=jax.random.key(0), stage_widths=(4, 4, 4))
    checkpoints.save(path, net)
    return path


BAD_INPUT = {
    "unknown command": (["prun"], "unknown command 'prun'; known: run, report, evaluate, compare, prune"),
    "no config": (["run"], "jaxprune run needs a configuration first"),
    "missing config": (["run", "configs/none.py"], "no configuration file at configs/none.py"),
    "not python": (["run", "README.md"], "README.md is no Python file"),
    "unknown data set": (["run", "configs/digits.py", "--study.data.name", "digit"], "unknown data set 'digit'; known"),
    "unknown model": (["run", "configs/digits.py", "--study.model.name", "r8"], "unknown model 'r8'; known: resnet8"),
    "unknown corruption": (
        ["run", "configs/digits.py", "--study.evaluation.corruptions", "rain"],
        "unknown corruption 'rain'; known: gaussian_noise",
    ),
    "missing checkpoint": (["evaluate", "absent.pt", "--dataset", "digits"], "no checkpoint at absent.pt"),
    "missing data": (
        ["evaluate", "absent.pt", "--dataset", "cifar10", "--data-dir", "/nonexistent"],
        "no prepared 'cifar10' in /nonexistent",
    ),
    "nothing to corrupt": (["corrupt", "--dataset", "digits"], "needs either --out DIR"),
    "a seed that is another": (
        ["corrupt", "--preview", "x.png", "--seed", "4294967296"],
        "seed is 4294967296; give an integer in 0 ... 4294967295",
    ),
    "no such image": (
        ["corrupt", "--preview", "x.png", "--index", "500"],
        "--index 500 is not in the test split of digits",
    ),
    "no image": (["corrupt", "--preview", "x.png", "--image", "README.md"], "README.md cannot be read as an image"),
    "no run": (["report", "/nonexistent"], "/nonexistent"),
    "empty run folder": (["run", "configs/digits.py", "--out", ""], "the path of the run folder is ''; give a name"),
    "empty run folder to report": (["report", ""], "the path of the run folder is ''; give a name"),
}


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_gets_one_line_and_exit_code_2(name, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    arguments, message = BAD_INPUT[name]
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("jaxprune: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "configs/digits.py", "--study.seed", "1"], "study.seeds"),
        (["run", "configs/digits.py", "--study.seeds", "one"], "one"),
        (["evaluate", "net.pt"], "--dataset"),
    ],
)
def test_unknown_and_malformed_options_name_themselves(arguments, message, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_a_truncated_checkpoint_ends_with_one_line_and_no_traceback(tmp_path):
    (tmp_path / "net.pt").write_bytes(b"PK\x03\x04 truncated")
    done = run("evaluate", tmp_path / "net.pt", "--dataset", "digits")
    assert done.returncode == 2
    assert "is not a complete PyTorch checkpoint" in done.stderr
    assert "Traceback" not in done.stderr


def test_evaluate_prints_a_table(saved, capsys):
    arguments = ["evaluate", str(saved), "--dataset", "digits", "--limit", "40", "--corruptions", "contrast"]
    assert cli.main([*arguments, "--severities", "1", "5"]) == 0
    table = capsys.readouterr().out
    cells = [line.split("│")[1:3] for line in table.splitlines() if line.startswith("│")]
    assert [(name.strip(), severity.strip()) for name, severity in cells] == [
        ("clean", "-"),
        ("contrast", "1"),
        ("contrast", "5"),
    ]


def test_evaluate_reads_safetensors_and_image_folders(saved, tmp_path, capsys):
    weights = tmp_path / "net.safetensors"
    checkpoints.export_safetensors(weights, checkpoints.load(saved).classifier)
    digits = data.load("digits", split="test", limit=20)
    for index, (pixels, label) in enumerate(zip(digits.images, digits.labels, strict=True)):
        path = tmp_path / "images" / "test" / str(label) / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(pixels).save(path)
    folder = ["image_folder", "--data-dir", str(tmp_path / "images"), "--image-size", "32"]
    tables = []
    for checkpoint, source in ((weights, folder), (saved, folder)):
        assert cli.main(["evaluate", str(checkpoint), "--dataset", *source, "--corruptions"]) == 0
        tables.append(capsys.readouterr().out.replace(str(checkpoint), ""))
    assert [line for line in tables[0].splitlines() if "clean" in line] == [
        line for line in tables[1].splitlines() if "clean" in line
    ]
    assert "20 test images of images" in " ".join(tables[0].split())


def test_options_of_a_data_set_reach_it(capsys):
    assert cli.main(["evaluate", "absent.pt", "--dataset", "digits", "--data-severity", "3"]) == 2
    assert "'digits' has no option 'severity'" in capsys.readouterr().err
    assert cli.main(["evaluate", "absent.pt", "--dataset", "cifar10_corrupted", "--data-dir", "/nonexistent"]) == 2
    assert "corruption" in capsys.readouterr().err


def test_compare_says_which_differences_are_significant(saved, tmp_path, capsys):
    other = tmp_path / "other"
    checkpoints.save(other, models.create("resnet8", num_classes=10, key=jax.random.key(7), stage_widths=(4, 6, 8)))
    arguments = ["--dataset", "digits", "--limit", "40", "--corruptions", "contrast", "--severities", "3"]
    assert cli.main(["compare", str(saved), str(other), *arguments]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"first: {saved}\nsecond: {other}\n")
    assert "clean" in printed
    assert "contrast" in printed
    assert cli.main(["compare", str(saved), str(tmp_path / "absent.pt"), *arguments]) == 2
    assert "absent.pt" in capsys.readouterr().err


def test_prune_writes_a_checkpoint_with_masks(saved, tmp_path, capsys):
    out = tmp_path / "sparse"
    assert cli.main(["prune", str(saved), "--sparsity", "0.75", "--out", str(out)]) == 0
    assert "total" in capsys.readouterr().out
    pruned = checkpoints.load(out)
    kernels = [leaf for leaf in jax.tree.leaves(pruned.classifier.params) if leaf.ndim == 4]
    masks = jax.tree.leaves(pruned.masks)
    assert len(masks) == len(kernels)
    zeros = sum(int((leaf == 0).sum()) for leaf in kernels)
    assert zeros == sum(int((mask == 0).sum()) for mask in masks)
    size = sum(leaf.size for leaf in kernels)
    assert size - zeros == round(size * 0.25)
    assert pruned.metadata["method"] == "weight"
    assert cli.main(["prune", str(saved), "--sparsity", "0.5", "--out", str(out)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_prune_takes_the_filter_that_its_messages_advise(saved, tmp_path, capsys):
    out = tmp_path / "sparse"
    assert cli.main(["prune", str(saved), "--sparsity", "0.75", "--filter-fn", "kernels", "--out", str(out)]) == 0
    assert "Masks cover " in capsys.readouterr().out
    shapes = [mask.ndim for mask in jax.tree.leaves(checkpoints.load(out).masks)]
    assert (shapes.count(2), set(shapes)) == (1, {2, 4})


def test_prune_says_when_no_channel_is_gone(saved, tmp_path, capsys):
    arguments = ["--method", "filter_l1", "--sparsity", "0", "--out", str(tmp_path / "same")]
    assert cli.main(["prune", str(saved), *arguments]) == 0
    printed = capsys.readouterr().out
    assert "No channel is gone. Saved" in printed
    assert "smaller" not in printed


def test_prune_removes_channels_and_exports_the_smaller_network(saved, tmp_path, capsys):
    out, exported = tmp_path / "small", tmp_path / "small.stablehlo"
    arguments = ["--method", "filter_l1", "--sparsity", "0.5", "--round-to", "2", "--out", out, "--export", exported]
    assert cli.main(["prune", str(saved), *map(str, arguments)]) == 0
    printed = capsys.readouterr().out
    assert "Against the network before: weights -" in printed
    assert "The channels are gone, the network is smaller." in printed
    small, dense = checkpoints.load(out), checkpoints.load(saved).classifier
    assert small.masks is None
    assert sum(leaf.size for leaf in jax.tree.leaves(small.classifier.params)) < sum(
        leaf.size for leaf in jax.tree.leaves(dense.params)
    )
    assert all(group.width % 2 == 0 for group in small.classifier.channel_groups())
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    logits = models.load_stablehlo(exported)(images)
    np.testing.assert_allclose(logits, small.classifier.logits(images), atol=1e-4)


def test_a_warning_is_one_line(saved, tmp_path):
    # All scales of a new network are 1, so the first layer's channels are the first to go.
    done = run("prune", saved, "--method", "slimming", "--sparsity", "0.5", "--out", tmp_path / "small")
    assert done.returncode == 0
    assert "jaxprune: warning: channel_sparsity=0.5 would remove all channels of stage1_block0; one" in done.stderr
    assert "warnings.warn" not in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sparsity", "1.5"], "sparsity"),
        (["--sparsity", "0.5", "--method", "wait"], "unknown pruning method 'wait'"),
        (["--sparsity", "0.5", "--layers", "study"], "--layers and --round-to are for methods that remove channels"),
        (["--sparsity", "0.5", "--method", "slimming", "--layers", "conv7"], "no layers 'conv7'"),
        (["--sparsity", "0.5", "--method", "filter_l1", "--round-to", "1000"], "round_to=1000 keeps every channel"),
        (["--sparsity", "0.5", "--method", "taylor"], "needs training images, which this command has none of"),
        (["--sparsity", "0.5", "--method", "slimming", "--filter-fn", "kernels"], "--filter-fn is for methods that"),
        (["--sparsity", "0.5", "--filter-fn", "convolutions"], "unknown filter_fn 'convolutions'; give one of conv_k"),
    ],
)
def test_prune_refuses_what_it_cannot_do(saved, tmp_path, options, message, capsys):
    assert cli.main(["prune", str(saved), "--out", str(tmp_path / "x"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_shipped_configurations_are_found_by_name(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("digits", "digits.py", "configs/digits.py"):
        assert load_configuration(name).name == "digits"
    (tmp_path / "digits.py").write_text(
        "from jaxprune.study import StudyConfig as C\nget_config = lambda: C(name='own')\n"
    )
    assert load_configuration("digits.py").name == "own"
    for name in ("digit", "elsewhere/digits.py"):
        with pytest.raises(
            FileNotFoundError, match=f"no configuration file at {name}; .* cifar10_pretrained, digits, "
        ):
            load_configuration(name)


def test_help_lists_the_commands_and_a_studys_fields(capsys):
    assert cli.main(["--help"]) == 0
    usage = capsys.readouterr().out
    assert all(f"\n  {command} " in usage for command in cli.COMMANDS)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["run", "--help"])
    assert stopped.value.code == 0
    assert "--study.finetune.epochs" in capsys.readouterr().out
