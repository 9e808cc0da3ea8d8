"""A small study's rows without its trainings: parts of a run folder for tests that look at files only."""

from jaxprune import study
from jaxprune.study import DataConfig, EvaluationConfig, ModelConfig, StudyConfig, TrainConfig, parts, planning

UNTRAINED = TrainConfig(epochs=0, batch_size=32, augment="none")
CONFIG = StudyConfig(
    name="small",
    data=DataConfig(name="digits", train_limit=32, test_limit=20),
    model=ModelConfig(stage_widths=(4, 4, 4)),
    pretrain=UNTRAINED,
    finetune=UNTRAINED,
    methods=("weight",),
    sparsities=(0.0, 0.5),
    seeds=(0,),
    recalibration_images=0,
    controls=False,
    evaluation=EvaluationConfig(corruptions=("contrast",), severities=(1, 5), batch_size=20, keep_examples=False),
)
PLAN = planning.list_plan(CONFIG)  # without the checks, which start a device
NETWORKS = (("dense", 0.0, "dense"), ("weight", 0.5, "pruned"))
SEVERITIES = {"clean": (0,), "contrast": (1, 5)}
NUM_PARAMETERS, N = 4321, 20


def rows_of(name, *, config=CONFIG):
    """Returns the rows of the test sets of one name, in the order in which a study measures them."""
    rows = []
    for severity in SEVERITIES[name]:
        for method, sparsity, stage in NETWORKS:
            correct = 17 - severity - int(8 * sparsity)
            error = 0.0123456789 * (1 + severity) + sparsity / 10
            rows.append(
                {
                    "schema_version": 2,
                    "study": config.name,
                    "config_hash": study.config_hash(config),
                    "dataset": "digits",
                    "arm": "resnet8",
                    "model": "resnet8",
                    "seed": 0,
                    "method": method,
                    "granularity": "none" if method == "dense" else "weights",
                    "sparsity": sparsity,
                    "sparsity_achieved": sparsity,
                    "num_parameters": NUM_PARAMETERS,
                    "num_nonzero": int(NUM_PARAMETERS * (1 - sparsity)),
                    "size_bytes": 4 * NUM_PARAMETERS,
                    "multiply_accumulates": 10 * NUM_PARAMETERS,
                    "multiply_accumulates_nonzero": int(10 * NUM_PARAMETERS * (1 - sparsity)),
                    "stage": stage,
                    "corruption": name,
                    "severity": severity,
                    "n": N,
                    "num_correct": correct,
                    "accuracy": correct / N,
                    "accuracy_low": correct / N - 0.1,
                    "accuracy_high": min(1.0, correct / N + 0.1),
                    "negative_log_likelihood": 1 - correct / N,
                    "brier_score": 1 - correct / N,
                    "mean_confidence": 0.5,
                    "signed_calibration_gap": -0.1,
                    **{f"ece_{kind}_{bins}": error for kind in ("equal_width", "equal_mass") for bins in (10, 15)},
                    "seconds": 0.25,
                }
            )
    return rows


def part_path(out, name):
    (unit,) = PLAN.units
    return parts.rows_path(out, unit, name)


def write_parts(out):
    """Writes all parts of a finished study, and gathers them; returns the path of `rows.jsonl`."""
    for name in SEVERITIES:
        parts.write_rows(part_path(out, name), rows_of(name))
    parts.gather(PLAN, out)
    return out / "rows.jsonl"
