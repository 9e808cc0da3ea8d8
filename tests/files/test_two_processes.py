"""Two processes give one writing command for one folder at once, again and again: nothing is lost or mixed."""

import contextlib
import hashlib
import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from jaxprune import checkpoints, models
from jaxprune.study import parts
from tests.files import failpoints
from tests.study import study_rows

ROOT = pathlib.Path(__file__).parent.parent.parent
FEW = 5
ROUNDS = int(os.environ.get("JAXPRUNE_ROUNDS", FEW))
# Both processes import everything once, and then do what they are told, line by line.
WORKER = f"""
import json, sys
sys.path.insert(0, {str(ROOT)!r})
from jaxprune import cli, study
from tests.study import study_rows
from tests.files import failpoints
for line in sys.stdin:
    arguments, out = json.loads(line), sys.stdout
    sys.stdout = sys.stderr
    if arguments[0] == "jaxprune":
        code = cli.main(arguments[1:])
    else:
        study.run(study_rows.CONFIG, arguments[1])
        code = 0
    sys.stdout = out
    print(code, flush=True)
"""
DIGITS = ("--dataset", "digits", "--limit", "20")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Returns a function that gives a command to two processes at once and returns their sorted exit codes.

    PROCESS in an argument stands for the number of the process, 0 or 1.
    """
    log = tmp_path_factory.mktemp("log") / "stderr"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": ""}
    with contextlib.ExitStack() as stack:
        errors = stack.enter_context(log.open("w"))
        command = [sys.executable, "-c", WORKER]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors, "text": True}
        workers = [stack.enter_context(subprocess.Popen(command, env=environment, **pipes)) for _ in range(2)]

        def give(*arguments):
            for number, worker in enumerate(workers):
                of_this = [str(argument).replace("PROCESS", str(number)) for argument in arguments]
                worker.stdin.write(json.dumps(of_this) + "\n")
                worker.stdin.flush()
            answers = [worker.stdout.readline().strip() for worker in workers]
            assert all(answers), log.read_text()
            return sorted(map(int, answers))

        yield give


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file() and ".locks" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def rounds(tmp_path):
    for number in range(ROUNDS):
        yield tmp_path / f"out{number}"


def test_evaluate_is_refused_to_one_of_them_and_the_other_s_rows_are_whole(pair, tmp_path):
    net = models.create("resnet8", num_classes=10, key=jax.random.key(0), stage_widths=(4, 4, 4))
    checkpoints.save(tmp_path / "net", net)
    for out in rounds(tmp_path):
        codes = pair(
            "jaxprune", "evaluate", tmp_path / "net", *DIGITS, "--corruptions", "--out", out, "--keep-examples"
        )
        assert codes == [0, 2]
        found = contents(out)
        assert found.keys() == {"rows.jsonl", "evaluation.json", "examples/net/clean-0.npz"}
        assert len(found["rows.jsonl"].splitlines()) == json.loads(found["evaluation.json"])["rows"]["count"] == 1


def test_prune_is_refused_to_one_of_them_and_the_other_s_network_is_whole(pair, tmp_path):
    net = models.create("resnet8", num_classes=10, key=jax.random.key(0), stage_widths=(4, 4, 4))
    checkpoints.save(tmp_path / "net", net)
    for out in rounds(tmp_path):
        assert pair("jaxprune", "prune", tmp_path / "net", "--sparsity", "0.PROCESS5", "--out", out) == [0, 2]
        found = checkpoints.load(out)
        masks = jax.device_get(jax.tree.leaves(found.masks))
        sparsity = 1 - sum(mask.sum() for mask in masks) / sum(mask.size for mask in masks)
        np.testing.assert_allclose(sparsity, found.metadata["sparsity"], atol=1e-3)
    assert not list(tmp_path.rglob("*.tmp"))


def test_corrupt_is_shared(pair, tmp_path):
    command = ("jaxprune", "corrupt", *DIGITS, "--names", "gaussian_noise", "contrast", "--severities", "1", "5")
    whole = None
    for out in rounds(tmp_path):
        assert pair(*command, "--out", out) == [0, 0]
        found = contents(out)
        assert found.keys() == {"jaxprune.json", "labels.npy", "gaussian_noise.npy", "contrast.npy"}
        assert found == (whole := whole or found)


def test_a_preview_is_whole(pair, tmp_path):
    command = ("jaxprune", "corrupt", *DIGITS[:2], "--names", "contrast", "--severities", "1", "--preview")
    whole = None
    for out in rounds(tmp_path):
        assert pair(*command, out / "gallery.png") == [0, 0]
        assert contents(out).keys() == {"gallery.png"}
        assert contents(out) == (whole := whole or contents(out))


def test_a_report_is_whole(pair, tmp_path):
    out, whole = tmp_path / "run", None
    # Of clean images alone there are few figures, which take the time; the next test writes more often.
    parts.write_rows(study_rows.part_path(out, "clean"), study_rows.rows_of("clean"))
    parts.gather(study_rows.PLAN, out)
    before = contents(out).keys()
    for _ in range(ROUNDS if ROUNDS > FEW else 1):
        assert pair("jaxprune", "report", out) == [0, 0]
        found = contents(out)
        assert found.keys() - before >= {"report.html", "results.csv"}
        assert found == (whole := whole or found)


def test_two_reports_in_one_folder_are_not_mixed(tmp_path):
    code = f"""
from etils import epath
from jaxprune.report import writing
content = {{name: bytes([number]) * 10_000 for name in "abc"}}
for attempt in range({ROUNDS}):
    writing._write_where_nothing_is_lost(epath.Path(f"{tmp_path}/{{attempt}}"), content, is_comparison=False)
"""
    failpoints.printed_by(failpoints.start_processes(code, 2))
    for attempt in range(ROUNDS):
        found = contents(tmp_path / str(attempt))
        sums = found.pop(".jaxprune-report.sha256").decode().splitlines()
        assert len(set(found.values())) == 1
        assert sums == [f"{hashlib.sha256(content).hexdigest()}  {name}" for name, content in sorted(found.items())]


def test_a_study_is_shared(pair, tmp_path):
    whole = None
    for out in rounds(tmp_path):
        assert pair("study", out) == [0, 0]
        rows = [json.loads(line) | {"seconds": None} for line in (out / "rows.jsonl").read_text().splitlines()]
        assert [(row["corruption"], row["severity"], row["method"]) for row in rows] == [
            (name, severity, method)
            for name, severities in study_rows.SEVERITIES.items()
            for severity in severities
            for method, _, _ in study_rows.NETWORKS
        ]
        assert rows == (whole := whole or rows)
        assert not list(out.rglob("*.tmp"))
