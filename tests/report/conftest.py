"""Plausible rows of a study whose every mean is known in closed form."""

import importlib.util
import json
import math
import pathlib

import pytest

CORRUPTIONS = ("gaussian_noise", "impulse_noise", "gaussian_blur", "contrast", "brightness", "pixelate")
SEVERITIES = (1, 2, 3, 4, 5)
SPARSITIES = (0.3, 0.5, 0.7, 0.9)
PARAMETERS, MULTIPLY_ACCUMULATES = 78_042, 12_300_000
LOSS_AT_FULL_SPARSITY = {"dense": 0.0, "weight": 0.05, "random": 0.25, "movement": 0.03}
LOSS_PER_SEVERITY = 0.04
SEED_STEP = 0.004


def accuracy(method, sparsity, stage, seed, corruption, severity):
    """Seeds 0, 1, 2 are moved by 0, 0.004, 0.008: their mean is that of seed 1, their standard deviation 0.004."""
    loss = LOSS_AT_FULL_SPARSITY[method] * sparsity**2 * (1.0 if stage == "fine_tuned" else 1.8)
    weight = 1.0 if corruption == "clean" else 0.5 + CORRUPTIONS.index(corruption) / 5
    return 0.93 + 0.005 * (stage == "fine_tuned") + SEED_STEP * seed - loss - LOSS_PER_SEVERITY * severity * weight


def calibration_error(method, sparsity, stage, seed, corruption, severity):
    correct = accuracy(method, sparsity, stage, seed, corruption, severity)
    return 0.02 + 0.4 * (0.95 - correct)


def wilson(correct, n, z=1.959964):
    centre = (correct + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * math.sqrt(correct * (1 - correct) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return centre - half, centre + half


def networks(methods, seeds, sparsities):
    for seed in seeds:
        for stage in ("dense", "fine_tuned"):
            yield "dense", 0.0, stage, seed
        for method in methods:
            for sparsity in sparsities:
                for stage in ("pruned", "fine_tuned"):
                    yield method, sparsity, stage, seed


def fake_rows(
    *,
    seeds=(0,),
    methods=("weight", "random"),
    sparsities=SPARSITIES,
    corruptions=CORRUPTIONS,
    model="resnet8",
    n=400,
):
    test_sets = [("clean", 0), *((name, severity) for name in corruptions for severity in SEVERITIES)]
    out = []
    for method, sparsity, stage, seed in networks(methods, seeds, sparsities):
        for corruption, severity in test_sets:
            where = (method, sparsity, stage, seed, corruption, severity)
            correct, error = accuracy(*where), calibration_error(*where)
            low, high = wilson(correct, n)
            out.append(
                {
                    "schema_version": 2,
                    "study": "digits",
                    "config_hash": "ab12cd34",
                    "dataset": "digits",
                    "arm": model,
                    "model": model,
                    "seed": seed,
                    "method": method,
                    "granularity": "none" if method == "dense" else "weights",
                    "sparsity": sparsity,
                    "sparsity_achieved": sparsity + (0.0003 if sparsity else 0.0),
                    "num_parameters": PARAMETERS,
                    "num_nonzero": round(PARAMETERS * (1 - sparsity)),
                    "size_bytes": 4 * PARAMETERS,
                    "multiply_accumulates": MULTIPLY_ACCUMULATES,
                    "multiply_accumulates_nonzero": round(MULTIPLY_ACCUMULATES * (1 - sparsity)),
                    "stage": stage,
                    "corruption": corruption,
                    "severity": severity,
                    "n": n,
                    "accuracy": correct,
                    "accuracy_low": low,
                    "accuracy_high": high,
                    "negative_log_likelihood": 3 * (1 - correct),
                    "brier_score": 1.5 * (1 - correct),
                    "mean_confidence": min(correct + error, 1.0),
                    "signed_calibration_gap": min(error, 1 - correct),
                    "ece_equal_width_10": error,
                    "ece_equal_width_15": error,
                    "ece_equal_mass_10": error - 0.003,
                    "ece_equal_mass_15": error - 0.003,
                }
            )
    return out


STUDY = {
    "study": "digits",
    "config": {
        "dataset": {"name": "digits", "image_size": 32},
        "model": "resnet8",
        "pretrain": {"epochs": 20, "learning_rate": 0.1},
        "fine_tune": {"epochs": 5, "learning_rate": 0.001},
        "sparsities": [0.0, 0.3, 0.5, 0.7, 0.9],
    },
    "config_hash": "ab12cd34",
    "versions": {"jaxprune": "0.1.0", "jax": "0.10.2", "flax": "0.12.8", "python": "3.12.3"},
    "device": "cpu x1 (2 cores)",
    "precision": "float32",
    "command": "jaxprune run configs/digits.py --out runs/digits",
    "created": "2026-11-22T21:30:00+00:00",
    "seconds": {"pretrain": 61.23, "fine_tune": 80.5, "evaluate": 44.0},
}


@pytest.fixture
def run_folder(tmp_path):
    """Returns a function that writes rows and study.json into a new folder and returns it."""

    def write(rows, study=STUDY, *, name="run"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        if study is not None:
            (folder / "study.json").write_text(json.dumps(study))
        return folder

    return write


@pytest.fixture(scope="session")
def make_rows():
    return fake_rows


@pytest.fixture(scope="session")
def true_accuracy():
    return accuracy


@pytest.fixture(scope="session")
def true_calibration_error():
    return calibration_error


@pytest.fixture(scope="session")
def study():
    return STUDY


@pytest.fixture(scope="session")
def simulation():
    """The module beside this file that simulates outputs of networks."""
    specification = importlib.util.spec_from_file_location(
        "simulation", pathlib.Path(__file__).with_name("simulation.py")
    )
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module
