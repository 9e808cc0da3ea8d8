import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys
import tomllib

import jax
import pytest

from jaxprune import cli
from jaxprune.cli import installation

ROOT = pathlib.Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path):
    """A wide terminal, no prepared data, no accelerator, whatever the machine has."""
    monkeypatch.setenv("COLUMNS", "240")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "none"))
    monkeypatch.setattr(installation, "_SIGNS", {"gpu": ((str(tmp_path / "nvidia0"),), ("HAS_GPU",))})


def findings(**options):
    found = installation.examine(**options)
    assert len({finding.subject for finding in found}) == len(found)
    return {finding.subject: finding for finding in found}


def test_devices_and_versions_are_named(capsys):
    assert cli.main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert "8 x cpu" in printed
    assert jax.__version__ in printed
    assert "nothing is wrong" in printed


def test_a_platform_that_was_expected_and_is_not_used_is_wrong(capsys):
    assert cli.main(["doctor", "--expect", "cpu"]) == 0
    capsys.readouterr()
    assert cli.main(["doctor", "--expect", "tpu"]) == 1
    printed = capsys.readouterr().out
    assert "tpu was expected" in printed
    assert "1 to put right" in printed
    with pytest.raises(SystemExit) as stopped:
        cli.main(["doctor", "--expect", "npu"])
    assert stopped.value.code == 2


def test_an_accelerator_that_jax_does_not_use_is_wrong_unless_the_user_chose_so(monkeypatch):
    assert not findings()["devices"].is_wrong
    monkeypatch.setenv("HAS_GPU", "1")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    chosen = findings()["devices"]
    assert (chosen.is_wrong, "JAX_PLATFORMS=cpu chooses it" in chosen.advice) == (False, True)
    monkeypatch.delenv("JAX_PLATFORMS")
    left = findings()["devices"]
    assert left.is_wrong
    assert "has a GPU that JAX does not use: pip install 'jax[cuda13]'" in left.advice
    assert not findings(expect="cpu")["devices"].is_wrong


@pytest.mark.slow
def test_a_platform_that_cannot_start_is_told_without_a_traceback():
    command = [sys.executable, "-m", "jaxprune", "doctor"]
    environment = os.environ | {"JAX_PLATFORMS": "tpu", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "unset JAX_PLATFORMS, which is 'tpu'" in " ".join(done.stdout.split())
    assert "Traceback" not in done.stderr


def test_prepared_data_is_found_and_what_cannot_be_read_is_named(tmp_path):
    def prepare(path, text):
        (tmp_path / path).mkdir(parents=True)
        (tmp_path / path / "dataset_info.json").write_text(text)

    (tmp_path / "unfinished").mkdir()
    assert "none in" in findings(data_dir=str(tmp_path))["prepared data sets"].found
    assert findings(data_dir=str(tmp_path))["prepared data sets"].is_wrong
    assert not findings()["prepared data sets"].is_wrong
    prepare("cifar10/3.0.2", json.dumps({"fileFormat": "array_record"}))
    prepare("cifar10_corrupted/fog_1/1.0.0", json.dumps({"fileFormat": "array_record"}))
    prepare("mnist/3.0.1", "{}")
    prepare("svhn/1.0.0", "{")
    found = findings(data_dir=str(tmp_path))["prepared data sets"]
    named = "cifar10 3.0.2, cifar10_corrupted 1.0.0, mnist 3.0.1 (tfrecord: only TensorFlow reads it), svhn (damaged)"
    assert found == ("prepared data sets", f"{named} in {tmp_path}", "", False)


def test_missing_and_old_packages_are_wrong(monkeypatch):
    lines = ["jax>=99.1", "nosuchpackage", "numpy>=2", "etils[epath]", "nosuchtool>=1; extra == 'study'"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: lines)
    found = findings()
    assert found["jax"][2:] == ("too old: pip install 'jax>=99.1'", True)
    assert found["nosuchpackage"] == ("nosuchpackage", "missing", "pip install nosuchpackage", True)
    assert not found["numpy"].is_wrong
    extra = found["the command line, studies and reports [study]"]
    assert extra[1:] == ("missing: nosuchtool", "pip install 'jaxprune[study]'", False)


def test_every_extra_is_looked_at():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(installation._WHAT_FOR) == set(extras)


def test_the_compilation_cache_is_measured(monkeypatch, tmp_path):
    (tmp_path / "program").write_bytes(bytes(2**20))
    monkeypatch.setattr(installation, "_cache_folder", lambda: str(tmp_path))
    assert findings()["compilation cache"].found == f"{tmp_path}: 1 files, 1.0 MiB"
    monkeypatch.setattr(installation, "_cache_folder", lambda: None)
    assert "none" in findings()["compilation cache"].found


def test_it_needs_no_package_of_the_study_extra(monkeypatch, capsys):
    for name in ("tyro", "rich.console", "rich.markup", "rich.table"):
        monkeypatch.setitem(sys.modules, name, None)
    assert cli.main(["doctor", "--expect", "gpu"]) == 1
    printed = capsys.readouterr().out
    assert "\n! devices: 8 x cpu (cpu)\n      gpu was expected: " in printed
    assert printed.endswith("1 to put right\n")
