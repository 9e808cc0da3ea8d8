"""Plausible rows of a study whose every mean is known in closed form, and the `study.json` that belongs to them."""

import json
import math

from etils import epath

from jaxprune import study
from jaxprune.study import provenance

CORRUPTIONS = ("gaussian_noise", "impulse_noise", "gaussian_blur", "contrast", "brightness", "pixelate")
SEVERITIES = (1, 2, 3, 4, 5)
SPARSITIES = (0.3, 0.5, 0.7, 0.9)
PARAMETERS, MULTIPLY_ACCUMULATES = 78_042, 12_300_000
LOSS_AT_FULL_SPARSITY = {"dense": 0.0, "weight": 0.05, "random": 0.25, "movement": 0.03}
LOSS_PER_SEVERITY = 0.04
SEED_STEP = 0.004
CONFIG = study.StudyConfig(
    name="digits",
    pretrain=study.TrainConfig(epochs=20, learning_rate=0.1),
    finetune=study.TrainConfig(epochs=5, learning_rate=0.001),
    sparsities=(0.0, *SPARSITIES),
    seeds=(0,),
    evaluation=study.EvaluationConfig(corruptions=CORRUPTIONS),
)
COMMAND = "jaxprune run configs/digits.py --out runs/digits"


def write(folder, rows, config=CONFIG):
    """Writes rows and, with a configuration, the study's record into a folder, made if missing; returns the folder."""
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    if config is not None:
        write_study(folder, config)
    return folder


def write_study(folder, config):
    """Writes `study.json` as a study does when it begins. Nothing else here knows how that is done."""
    provenance.claim(epath.Path(folder), config, COMMAND)


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
    config=CONFIG,
    arm=None,
):
    """Returns the rows of one arm, with the names and epochs that the configuration gives them."""
    test_sets = [("clean", 0), *((name, severity) for name in corruptions for severity in SEVERITIES)]
    trainings = {each.name: each for each in config.all_arms()}.get(arm or model, config)
    shared = {
        "schema_version": 2,
        "study": config.name,
        "config_hash": study.config_hash(config),
        "dataset": config.data.name,
        "arm": arm or model,
        "model": model,
        "num_parameters": PARAMETERS,
        "size_bytes": 4 * PARAMETERS,
        "multiply_accumulates": MULTIPLY_ACCUMULATES,
        "pretrain_epochs": trainings.pretrain.epochs,
        "train_images": 1000,
        "precision": "float32",
        "device": "cpu x1 (cpu)",
        "versions": "jaxprune 0.1.0, jax 0.10.2",
        "n": n,
    }
    out = []
    for method, sparsity, stage, seed in networks(methods, seeds, sparsities):
        for corruption, severity in test_sets:
            where = (method, sparsity, stage, seed, corruption, severity)
            network = {
                "method": method,
                "granularity": "none" if method == "dense" else "weights",
                "sparsity": sparsity,
                "sparsity_achieved": sparsity + (0.0003 if sparsity else 0.0),
                "num_nonzero": round(PARAMETERS * (1 - sparsity)),
                "multiply_accumulates_nonzero": round(MULTIPLY_ACCUMULATES * (1 - sparsity)),
                "stage": stage,
                "seed": seed,
                "finetune_epochs": trainings.finetune.epochs if stage == "fine_tuned" else 0,
                "corruption": corruption,
                "severity": severity,
            }
            out.append(shared | network | metrics(accuracy(*where), calibration_error(*where), n))
    return out


def metrics(correct, error, n):
    """Returns the metrics of a row whose accuracy and calibration error are given."""
    low, high = wilson(correct, n)
    return {
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
