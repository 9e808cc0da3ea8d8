"""The Python of docs/scaling.md runs as it stands, and its ways agree."""

import pathlib
import re

import numpy as np
import pytest

PAGE = (pathlib.Path(__file__).parent.parent.parent / "docs" / "scaling.md").read_text()


@pytest.fixture(scope="module")
def names():
    names = {}
    exec(compile("\n".join(re.findall(r"```python\n(.*?)```", PAGE, flags=re.S)), "scaling.md", "exec"), names)
    return names


def test_the_call_for_one_host_gives_its_rows(names):
    assert len(names["rows"]) == 2 * (1 + 2)


def test_the_shares_of_the_example_are_disjoint_and_complete(names):
    shares = [names["devices"].shard(names["grid"], f"{job}/4") for job in (1, 2, 3, 4)]
    assert names["mine"] == shares[0]
    assert sorted(item for share in shares for item in share) == sorted(names["grid"])


@pytest.mark.parametrize("way", ["jit", "shard_map", "pmap"])
def test_jit_shard_map_and_pmap_agree_on_eight_devices(names, way):
    assert len(names["eight_devices"]) == 8
    np.testing.assert_array_equal(names[f"pixels_with_{way}"], names["expected_pixels"])
    np.testing.assert_allclose(names[f"with_{way}"], names["expected"], atol=1e-6)


def test_the_script_for_hosts_is_python_and_the_links_lead_somewhere():
    (script,) = re.findall(r"```py\n(.*?)```", PAGE, flags=re.S)
    compile(script, "scale.py", "exec")
    headings = {
        re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in PAGE.splitlines()
        if line.startswith("#") and not line.startswith("#SBATCH")
    }
    assert set(re.findall(r"\(#([^)]*)\)", PAGE)) <= headings
