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

ROOT = pathlib.Path(__file__).parent.parent.parent
FAST = TrainConfig(epochs=2, batch_size=32, learning_rate=0.01, schedule="constant", augment="none")
SMALL = StudyConfig(
    name="small",
    data=DataConfig(name="digits", train_limit=64, test_limit=40),
    model=ModelConfig(stage_widths=(4, 6, 8)),
    pretrain=FAST,
    finetune=FAST,
    methods=("weight",),
    sparsities=(0.0, 0.3, 0.5),
    seeds=(0, 1, 2),
    recalibration_images=0,
    controls=False,
    evaluation=EvaluationConfig(corruptions=("contrast", "brightness"), severities=(1, 5), batch_size=40),
)
KILLS = 30


def table(folder):
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


class Life:
    """One process of the study, to be killed so long after so many more parts were done, by it or another."""

    def __init__(self, command, environment, out, moments):
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        self.process, self.out = subprocess.Popen(command, env=environment, **pipes), out
        self.parts = num_parts(out) + moments.choice((0, 0, 1))
        self.delay = moments.uniform(0.2, 3)
        self.deadline = None

    def is_over(self):
        """Returns whether its moment has come."""
        if self.deadline is None and num_parts(self.out) >= self.parts:
            self.deadline = time.monotonic() + self.delay
        return self.deadline is not None and time.monotonic() > self.deadline

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


def num_parts(out):
    return len([*out.glob("rows/*.jsonl"), *out.glob("checkpoints/seed*"), *out.glob("training/*/epochs.jsonl")])


@pytest.mark.slow
def test_thirty_kills_of_two_processes_leave_the_table_of_one_quiet_run(tmp_path):
    config, out, quiet = tmp_path / "small.py", tmp_path / "run", tmp_path / "quiet"
    config.write_text(f"from jaxprune.study import *\ndef get_config():\n    return {SMALL!r}\n")
    command = [sys.executable, "-m", "jaxprune", "run", str(config), "--out"]
    # Compiled programs are kept, or the processes would spend their lives compiling; in a folder of their own, for they
    # may die while they write an entry.
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"),
        "JAX_COMPILATION_CACHE_MAX_SIZE": "-1",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    environment = os.environ | cache | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": ""}
    subprocess.run([*command, str(quiet)], env=environment, check=True, capture_output=True)
    moments = random.Random(0)

    def start():
        return Life([*command, str(out)], environment, out, moments)

    lives, done_at_kills, give_up = [start(), start()], [], time.monotonic() + 1800
    try:
        while len(done_at_kills) < KILLS:
            assert time.monotonic() < give_up
            time.sleep(0.02)
            for place, life in enumerate(lives):
                if life.process.poll() is not None:  # it found everything done
                    said = life.process.communicate()[1]
                    assert life.process.returncode == 0, said
                elif life.is_over():
                    life.kill()
                    done_at_kills.append(num_parts(out))
                else:
                    continue
                lives[place] = start()
        said = [life.process.communicate(timeout=600)[1] for life in lives]
        assert [life.process.returncode for life in lives] == [0, 0], said
    finally:
        for life in lives:
            life.kill()
    assert len(set(done_at_kills)) > 5, "the kills did not come at different states of the run"
    rows = table(out)
    assert rows == table(quiet)
    names = ("seed", "method", "sparsity", "stage", "corruption", "severity")
    assert len({tuple(row[name] for name in names) for row in rows}) == len(rows)
    assert (out / "report.html").exists()
