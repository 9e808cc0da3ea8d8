"""`jaxprune evaluate` and `compare` with files: rows on disk, folders of corrupted images, several models at once."""

import hashlib
import json

import flax
import jax
import numpy as np
import optax
import pytest

from jaxprune import __version__, checkpoints, cli, data, evaluation, models
from jaxprune.cli.evaluate import checkpoint_names, print_rows
from jaxprune.corruptions import CORRUPTIONS
from jaxprune.evaluation import corrupted_sets

LIMIT = 20
DIGITS = ("--dataset", "digits", "--limit", str(LIMIT))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with two networks of one architecture; the second as a file as well."""
    folder = tmp_path_factory.mktemp("saved")
    for seed, name in enumerate(("one", "two")):
        net = models.create("resnet8", num_classes=10, key=jax.random.key(seed), stage_widths=(4, 4, 4))
        checkpoints.save(folder / name, net)
    checkpoints.export_safetensors(folder / "two.safetensors", net)
    return folder


@pytest.fixture(scope="module")
def corrupted(tmp_path_factory):
    """A folder in CIFAR-10-C's layout that `evaluate` with the seed 7 would generate, of more images than `LIMIT`."""
    folder = tmp_path_factory.mktemp("digits-c")
    test = data.load("digits", split="test", limit=LIMIT + 5)
    corrupted_sets.write(folder, test, seed=7, names=["contrast", "pixelate"], severities=[1, 5])
    return folder


def command(name, *arguments):
    return cli.main([name, *map(str, arguments)])


def rows_of(folder):
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


def test_out_holds_the_rows_of_evaluate_and_how_they_were_made(saved, tmp_path, capsys):
    out, weights = tmp_path / "new" / "out", saved / "two.safetensors"
    chosen = ("--corruptions", "contrast", "--severities", "5", "--seed", "3", "--batch-size", "8")
    assert command("evaluate", saved / "one", weights, *DIGITS, *chosen, "--out", out, "--keep-examples") == 0
    printed = capsys.readouterr().out
    assert printed.count("contrast") == 2  # a table for each
    assert f"rows: {out / 'rows.jsonl'}" in printed

    networks = {
        "one": checkpoints.load(saved / "one").classifier,
        "two": checkpoints.load_safetensors(weights).classifier,
    }
    test = data.load("digits", split="test", limit=LIMIT)
    options = {"corruptions": ["contrast"], "severities": [5], "batch_size": 8}
    expected = evaluation.evaluate(networks, test, key=jax.random.key(3), **options)
    rows = rows_of(out)
    assert [{name: row[name] for name in each} for row, each in zip(rows, expected, strict=True)] == expected

    provenance = json.loads((out / "evaluation.json").read_text())
    of_folder = provenance["checkpoints"]["one"]["sha256"]
    assert len(of_folder) == 64
    assert provenance["checkpoints"] == {
        "one": {"path": str(saved / "one"), "sha256": of_folder},
        "two": {"path": str(weights), "sha256": hashlib.sha256(weights.read_bytes()).hexdigest()},
    }
    assert provenance["dataset"] == {"name": test.name, "split": "test", "num_images": LIMIT}
    assert provenance["command"].startswith(f"jaxprune evaluate {saved / 'one'} {weights} --dataset digits")
    assert provenance["versions"] == {
        "jaxprune": __version__,
        "jax": jax.__version__,
        "flax": flax.__version__,
        "optax": optax.__version__,
        "numpy": np.__version__,
    }
    assert provenance["device"].startswith("cpu x8")
    assert (provenance["seed"], provenance["precision"], provenance["batch_size"]) == (3, "float32", 8)
    for row in expected:
        path = evaluation.examples_path(out / "examples", row["classifier"], row["corruption"], row["severity"])
        examples = evaluation.load_examples(path)
        assert int((examples.prediction == examples.labels).sum()) == row["num_correct"]
    assert not [path for path in out.rglob("*") if path.name.endswith(".tmp")]


def test_existing_rows_are_refused_before_anything_is_read(tmp_path, capsys):
    (tmp_path / "rows.jsonl").write_text("old\n")
    assert command("evaluate", "absent.pt", *DIGITS, "--out", tmp_path) == 2
    assert f"{tmp_path / 'rows.jsonl'} exists already; give --out a new folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]
    assert (tmp_path / "rows.jsonl").read_text() == "old\n"


def test_a_failed_evaluation_leaves_no_rows(saved, tmp_path, capsys):
    out = tmp_path / "out"
    wrong = ("--precision", "float8", "--corruptions")
    assert command("evaluate", saved / "one", *DIGITS, *wrong, "--out", out) == 2
    assert "unknown precision 'float8'; known: float32, bfloat16" in capsys.readouterr().err
    assert not out.exists()


def test_a_folder_of_corrupted_images_is_read_instead_of_generating(saved, corrupted, tmp_path):
    read, generated = tmp_path / "read", tmp_path / "generated"
    assert command("evaluate", saved / "one", *DIGITS, "--corrupted", corrupted, "--out", read) == 0
    chosen = ("--corruptions", "contrast", "pixelate", "--severities", "1", "5", "--seed", "7")
    assert command("evaluate", saved / "one", *DIGITS, *chosen, "--out", generated) == 0
    rows = rows_of(read)
    assert len(rows) == 5
    assert {row["n"] for row in rows} == {LIMIT}
    of_sets = [
        {(row["corruption"], row["severity"]): row | {"config_hash": ""} for row in each}
        for each in (rows, rows_of(generated))
    ]
    assert of_sets[0] == of_sets[1]
    provenance = json.loads((read / "evaluation.json").read_text())
    assert (provenance["corrupted"], provenance["seed"]) == (str(corrupted), None)


def test_corruptions_and_severities_select_from_a_folder(saved, corrupted, tmp_path, capsys):
    chosen = ("--corrupted", corrupted, "--corruptions", "pixelate", "--severities", "5")
    bfloat16 = ("--compute-dtype", "bfloat16")  # the former name
    assert command("evaluate", saved / "one", *DIGITS, *chosen, *bfloat16, "--out", tmp_path / "one") == 0
    found = [(row["corruption"], row["severity"], row["precision"]) for row in rows_of(tmp_path / "one")]
    assert found == [("clean", 0, "bfloat16"), ("pixelate", 5, "bfloat16")]
    assert "warning: --compute-dtype is called --precision now" in capsys.readouterr().err
    nothing = ("--corrupted", corrupted, "--corruptions")
    assert command("evaluate", saved / "one", *DIGITS, *nothing, "--out", tmp_path / "none") == 0
    assert [row["corruption"] for row in rows_of(tmp_path / "none")] == ["clean"]


def test_compare_reads_a_folder_of_corrupted_images(saved, corrupted, capsys):
    pair = (saved / "one", saved / "two")
    assert command("compare", *pair, *DIGITS, "--corrupted", corrupted, "--severities", "5") == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("clean-0", "contrast-5", "pixelate-5", "mean over corruptions"))
    assert "contrast-1" not in printed


def test_the_table_stays_whole_in_a_narrow_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    metrics = ("accuracy", "negative_log_likelihood", "brier_score", "ece_equal_width_10", "ece_equal_mass_15")
    values = {metric: 0.01 + index / 10 for index, metric in enumerate(metrics)}
    print_rows([{"corruption": name, "severity": 5} | values for name in CORRUPTIONS], "title")
    lines = [line.strip("│").split("│") for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    shown = ["5", *(f"{value:.5f}" for value in values.values())]
    assert [[cell.strip() for cell in line] for line in lines] == [[name, *shown] for name in CORRUPTIONS]


REFUSED = {
    "no checkpoint": (["--dataset", "digits"], "jaxprune evaluate needs a checkpoint first"),
    "examples without a folder": (["a.pt", *DIGITS, "--keep-examples"], "--keep-examples needs --out DIR"),
    "no folder": (["a.pt", *DIGITS, "--corrupted", "/absent"], "/absent holds no corrupted images"),
    "not in the folder": (["a.pt", *DIGITS, "--corrupted", "{c}", "--corruptions", "fog"], "holds no fog.npy"),
    "severity not in the folder": (
        ["a.pt", *DIGITS, "--corrupted", "{c}", "--severities", "3"],
        "severity 3 is not in",
    ),
    "one twice": (["{s}/one", "{s}/../{n}/one", *DIGITS, "--corruptions"], "is given twice; give each once"),
    "no batch": (["{s}/one", *DIGITS, "--corruptions", "--batch-size", "0"], "batch_size=0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_done_ends_with_one_line(name, saved, corrupted, capsys):
    arguments, message = REFUSED[name]
    arguments = [each.format(s=saved, n=saved.name, c=corrupted) for each in arguments]
    assert command("evaluate", *arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_checkpoints_have_names_that_tell_them_apart(tmp_path):
    for path in ("a/net.pt", "b/net.pt", "a/net.safetensors", "b/other.pt"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / "lr0.1").mkdir()

    def names(*paths):
        return checkpoint_names(tuple(str(tmp_path / path) for path in paths))

    assert names("a/net.pt", "b/other.pt", "lr0.1") == ["net", "other", "lr0.1"]
    assert names("a/net.pt", "a/net.safetensors") == ["net.pt", "net.safetensors"]
    assert names("a/net.pt", "b/net.pt") == ["a_net.pt", "b_net.pt"]
