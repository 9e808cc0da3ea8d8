"""Several processes, and killed ones, in one run folder."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from jaxprune.study import DataConfig, EvaluationConfig, ModelConfig, StudyConfig, TrainConfig
from jaxprune.study.alone import alone, each

ROOT = pathlib.Path(__file__).parent.parent
FAST = TrainConfig(epochs=2, batch_size=32, learning_rate=0.01, schedule="constant", augment="none")
SMALL = StudyConfig(
    name="small",
    data=DataConfig(name="digits", train_limit=64, test_limit=40),
    model=ModelConfig(stage_widths=(4, 6, 8)),
    pretrain=FAST,
    finetune=FAST,
    methods=("weight",),
    sparsities=(0.0, 0.3, 0.5),
    seeds=(0, 1),
    recalibration_images=0,
    controls=False,
    evaluation=EvaluationConfig(corruptions=("contrast", "brightness"), severities=(1, 5), batch_size=40),
)
KILLS = 30


def table(folder):
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_a_part_is_one_process_s_at_a_time(tmp_path):
    with alone(tmp_path, "part", wait=False) as first:
        assert first
        with alone(tmp_path, "part", wait=False) as second, alone(tmp_path, "other", wait=False) as third:
            assert (second, third) == (False, True)
    with alone(tmp_path, "part", wait=False) as again:
        assert again


def test_a_part_is_free_when_its_process_has_died(tmp_path):
    code = "import sys, filelock; a = filelock.FileLock(sys.argv[1]); a.acquire(); print('held', flush=True); input()"
    (tmp_path / ".locks").mkdir()
    command = [sys.executable, "-c", code, str(tmp_path / ".locks" / "part.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        with alone(tmp_path, "part", wait=False) as mine:
            assert not mine
        process.kill()
        process.wait()
        with alone(tmp_path, "part", wait=False) as mine:
            assert mine


def test_what_others_are_at_comes_last_and_is_left_alone_once_done(tmp_path):
    done, waited = [], []

    def is_done(part):
        return part in done or part == "finished"

    def on_wait(name):
        # The process that was at it lets go: of one part done, of the other not.
        waited.append(name)
        busy[name].__exit__(None, None, None)
        if name == "by another":
            done.append(name)

    busy = {name: alone(tmp_path, name, wait=True) for name in ("by another", "abandoned")}
    for lock in busy.values():
        lock.__enter__()
    parts = ["by another", "finished", "abandoned", "free"]
    did = []

    def do(part):
        did.append(part)
        done.append(part)

    each(tmp_path, parts, name=str, is_done=is_done, do=do, on_wait=on_wait)
    assert did == ["free", "abandoned"]
    assert waited == ["by another", "abandoned"]


@pytest.mark.slow
def test_thirty_kills_of_two_processes_leave_the_table_of_one_quiet_run(tmp_path):
    config, out = tmp_path / "small.py", tmp_path / "run"
    config.write_text(f"from jaxprune.study import *\ndef get_config():\n    return {SMALL!r}\n")
    command = [sys.executable, "-m", "jaxprune", "run", str(config), "--out", str(out)]
    # Compiled programs are kept, or every process would spend its life on compiling.
    cache = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    environment = os.environ | cache | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": ""}
    moments = random.Random(0)

    def start():
        life = moments.uniform(0.5, 14)
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        return process, time.monotonic() + life

    lives, killed, parts_seen = [start(), start()], 0, set()
    while killed < KILLS:
        time.sleep(0.05)
        for place, (process, end) in enumerate(lives):
            if process.poll() is not None:  # a process that finds everything done ends well
                assert process.returncode == 0, process.stderr.read().decode()
            elif time.monotonic() > end:
                process.send_signal(signal.SIGKILL)
                process.wait()
                killed += 1
                parts_seen.add(
                    len(list((out / "rows").glob("*.jsonl"))) + len(list((out / "checkpoints").glob("seed*")))
                )
            else:
                continue
            process.stderr.close()
            lives[place] = start()
    assert len(parts_seen) > 5, "the kills did not come at different states of the run"
    said = [process.communicate(timeout=300)[1].decode() for process, _ in lives]
    assert [process.returncode for process, _ in lives] == [0, 0], said

    quiet = tmp_path / "quiet"
    subprocess.run([*command[:-1], str(quiet)], env=environment, check=True, capture_output=True)
    rows = table(out)
    assert rows == table(quiet)
    names = ("seed", "method", "sparsity", "stage", "corruption", "severity")
    assert len({tuple(row[name] for name in names) for row in rows}) == len(rows)
    assert (out / "report.html").exists()
