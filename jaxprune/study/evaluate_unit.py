"""Evaluating a unit: every network and stage on every test set, whose rows make one file each."""

import time

from jaxprune import evaluation, names
from jaxprune.devices import processes
from jaxprune.results import outputs
from jaxprune.results.versions import SCHEMA_VERSION
from jaxprune.study import parts
from jaxprune.study.candidates import Candidate, sizes, stages
from jaxprune.study.configuration import granularity
from jaxprune.study.context import Context, share, timed
from jaxprune.study.inputs import key_of
from jaxprune.study.network import Network
from jaxprune.study.planning import Unit
from jaxprune.study.stages import STAGES
from jaxprune.study.train_unit import results

_SECONDS_DECIMALS = 4


def evaluate_unit(run: Context, unit: Unit) -> None:
    """Measures what nobody has measured of a unit whose trainings are done, and gathers the rows."""
    plan = run.plan
    candidates = dict(stages(plan.config, unit, results(run, unit), run.train, run.validation))
    about = {key: _about(run, unit, *key, candidate) for key, candidate in candidates.items()}
    test_sets = {unit.rows_name(name): name for name in plan.test_sets}

    def measure(part: str) -> None:
        with timed(run, "evaluation"):
            rows = _measure(run, unit, test_sets[part], candidates, about)
        if processes.is_main_process():
            parts.write_rows(parts.rows_path(run.out, unit, test_sets[part]), rows)
            parts.gather(plan, run.out)

    share(run, test_sets, is_done=lambda part: parts.is_done(plan, run.out, unit, test_sets[part]), do=measure)


def _measure(
    run: Context, unit: Unit, name: str, candidates: dict[tuple[Network, str], Candidate], about: dict
) -> list[dict]:
    """Returns the rows of one corruption, or of the clean images."""
    config, severities = run.plan.config.evaluation, run.plan.test_sets[name]
    finished, seconds, clock = 0, {}, time.monotonic()

    def on_test_set(name: str, severity: int) -> None:
        nonlocal clock, finished
        seconds[severity], clock, finished = time.monotonic() - clock, time.monotonic(), finished + 1
        described = f"seed {unit.seed}, {unit.arm.name}: {name} {severity or ''}"
        run.ledger.tell(described, [unit.rows_name(name)], finished / len(severities))

    labels = {f"{network.label}-{stage}": (network, stage) for network, stage in candidates}
    measured = evaluation.evaluate(
        {label: candidates[key].classifier for label, key in labels.items()},
        run.test,
        key=key_of(config.seed, "corruptions"),
        **_test_sets(run, name),
        clean=name == names.CLEAN,
        batch_size=config.batch_size,
        precision=config.precision,
        frost_textures=run.plan.frost_textures,
        keep_examples=run.out / outputs.FOLDER if config.keep_examples else None,
        non_finite="mark",
        on_test_set=on_test_set,
    )
    rows = []
    for row in measured:
        about_network = about[labels[row.pop("classifier")]]
        shared = round(seconds[row["severity"]] / len(candidates), _SECONDS_DECIMALS)
        rows.append(about_network | row | {"seconds": shared})
    return rows


def _test_sets(run: Context, name: str) -> dict:
    """Returns the arguments of `evaluate` that select the test sets of one name."""
    config = run.plan.config
    if name == names.CLEAN:
        return {"corruptions": (), "severities": ()}
    severities = run.plan.test_sets[name]
    if config.evaluation.corrupted is None:
        return {"corruptions": (name,), "severities": severities}
    limit = config.data.test_limit
    return {"corrupted": evaluation.folder_test_sets(config.evaluation.corrupted, [name], severities, limit=limit)}


def _about(run: Context, unit: Unit, network: Network, stage: str, candidate: Candidate) -> dict:
    """Returns what all rows of a network say of it."""
    config, arm = run.plan.config, unit.arm
    temperature = candidate.classifier.temperature
    return {
        "schema_version": SCHEMA_VERSION,
        "study": config.name,
        "config_hash": run.plan.config_hash,
        "dataset": config.data.name,
        "arm": arm.name,
        "model": arm.model.name,
        "seed": network.seed,
        "method": network.method,
        "granularity": granularity(network.method),
        "sparsity": network.sparsity,
        **sizes(candidate, run.test.images.shape[1]),
        "stage": stage,
        "pretrain_epochs": arm.pretrain.epochs,
        "finetune_epochs": arm.finetune.epochs if STAGES[stage].is_fine_tuned else 0,
        "train_images": len(run.train),
        **({"temperature": float(temperature)} if stage == names.STAGE_TEMPERATURE else {}),
        **run.about,
    }
