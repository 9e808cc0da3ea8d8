"""Masks in files, and masks compared."""

import io
import subprocess
import sys
import zipfile

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxprune import pruning


@pytest.fixture
def masks(rng):
    def mask(*shape):
        return jnp.asarray(rng.integers(0, 2, shape).astype(np.uint8))

    return {"stage1": {"conv": {"kernel": mask(3, 3, 2, 5), "bias": None}}, "layers": {0: mask(7), 1: None}}


@pytest.fixture
def params(masks):
    shapes = {"stage1": {"conv": {"kernel": (3, 3, 2, 5), "bias": (5,)}}, "layers": {0: (7,), 1: (2, 2)}}
    return jax.tree.map(jnp.ones, shapes, is_leaf=lambda node: isinstance(node, tuple))


def assert_same(actual, expected):
    is_none = lambda node: node is None  # noqa: E731
    assert jax.tree.structure(actual, is_leaf=is_none) == jax.tree.structure(expected, is_leaf=is_none)
    for one, other in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert one.dtype == jnp.uint8
        np.testing.assert_array_equal(one, other)


def test_masks_survive_the_file(tmp_path, masks, params):
    path = tmp_path / "masks.npz"
    pruning.save_masks(path, masks)
    assert_same(pruning.load_masks(path), masks)
    assert_same(pruning.load_masks(path, params), masks)
    assert [file.name for file in tmp_path.iterdir()] == ["masks.npz"]
    # 90 and 7 bits.
    with np.load(path) as file:
        assert sorted(array.size for name, array in file.items() if name.startswith("mask")) == [1, 12]


def test_the_file_is_the_same_every_time(tmp_path, masks):
    for name in ("one", "two"):
        pruning.save_masks(tmp_path / name, masks)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_masks_come_back_in_the_container_of_the_parameters(tmp_path):
    kernel, path = jnp.array([[1, 0], [0, 1]], jnp.uint8), tmp_path / "masks.npz"
    as_list = [kernel, None]
    pruning.save_masks(path, as_list)
    assert_same(pruning.load_masks(path, [jnp.ones((2, 2)), jnp.ones(3)]), as_list)
    frozen = flax.core.freeze({"a": kernel, "b": None})
    pruning.save_masks(path, frozen)
    loaded = pruning.load_masks(path, flax.core.freeze({"a": jnp.ones((2, 2)), "b": jnp.ones(2)}))
    assert isinstance(loaded, flax.core.FrozenDict)
    assert_same(loaded, frozen)
    state = nnx.State({"a": nnx.Param(jnp.ones((2, 2))), "b": nnx.Param(jnp.ones(2))})
    _, masks = pruning.GlobalMagnitudePruning(sparsity=0.5).instant_sparsify(state)
    pruning.save_masks(path, masks)
    loaded = pruning.load_masks(path, state)
    assert isinstance(loaded, nnx.State)
    np.testing.assert_array_equal(loaded["a"][...], [[1, 1], [0, 0]])
    pruning.save_masks(path, kernel)
    np.testing.assert_array_equal(pruning.load_masks(path), kernel)
    np.testing.assert_array_equal(pruning.load_masks(path, jnp.ones((2, 2))), kernel)


def test_masks_survive_in_a_fresh_process(tmp_path, masks):
    path = tmp_path / "masks.npz"
    pruning.save_masks(path, masks)
    code = (
        "import sys; from jaxprune import pruning; masks = pruning.load_masks(sys.argv[1]);"
        "print(masks['stage1']['conv']['kernel'].ravel().tolist(), masks['layers'][1])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{masks['stage1']['conv']['kernel'].ravel().tolist()} None"


def test_masks_of_another_model_are_refused(tmp_path, masks, params):
    path = tmp_path / "masks.npz"
    pruning.save_masks(path, masks)
    params["stage1"]["conv"]["kernel"] = jnp.ones((3, 3, 2, 4))
    with pytest.raises(
        ValueError, match=r"masks of another model: the mask of stage1/conv/kernel has shape \(3, 3, 2, 5\)"
    ):
        pruning.load_masks(path, params)
    del params["stage1"]
    with pytest.raises(
        ValueError, match=r"another model: the masks have an entry stage1/conv/kernel that is no parameter"
    ):
        pruning.load_masks(path, params)


def test_files_that_hold_no_masks_are_refused(tmp_path, masks):
    def refused(content, message):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(ValueError, match=message):
            pruning.load_masks(tmp_path / "file")

    other = io.BytesIO()
    np.savez(other, weights=np.ones(3))
    pickled = io.BytesIO()
    np.savez(pickled, header=np.array([{"a": 1}], dtype=object))
    array = io.BytesIO()
    np.save(array, np.ones(3))
    pruning.save_masks(tmp_path / "masks", masks)
    whole = (tmp_path / "masks").read_bytes()
    for content in (b"", b"text", other.getvalue(), pickled.getvalue(), array.getvalue(), whole[: len(whole) // 2]):
        refused(content, "holds no masks; give a file that pruning.save_masks wrote")
    newer = io.BytesIO()
    header = b'{"format": "jaxprune masks", "version": 2, "masks": []}'
    np.savez(newer, header=np.frombuffer(header, np.uint8))
    refused(newer.getvalue(), "has version 2 of the mask format, this jaxprune reads up to 1; install a newer jaxprune")
    with pytest.raises(FileNotFoundError):
        pruning.load_masks(tmp_path / "absent")
    assert zipfile.is_zipfile(tmp_path / "masks")


def test_packed_bits_are_not_saved_as_masks(tmp_path):
    with pytest.raises(ValueError, match="the mask of w has other values than 0 and 1; unpack"):
        pruning.save_masks(tmp_path / "file", {"w": jnp.array([255], jnp.uint8)})
    assert not (tmp_path / "file").exists()


FIRST = {"a": np.array([1, 1, 0, 1], np.uint8), "b": {"c": np.array([1, 0], np.uint8), "d": None}}
SECOND = {"a": np.array([1, 0, 1, 0], np.uint8), "b": {"c": np.array([1, 0], np.uint8), "d": None}}


def test_intersections_are_relative_to_the_first():
    summary = pruning.summarize_intersection(FIRST, SECOND)
    expected = {"a": 1 / 3, "b/c": 1.0, "_total_intersection": 2 / 4}
    assert summary.keys() == {*expected, "b/d"}
    assert summary["b/d"] is None
    np.testing.assert_allclose([summary[name] for name in expected], list(expected.values()), rtol=1e-6)
    reverse = pruning.summarize_intersection(SECOND, FIRST, only_total_intersection=True)
    assert list(reverse) == ["_total_intersection"]
    np.testing.assert_allclose(reverse["_total_intersection"], 2 / 3, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(pruning.summarize_intersection)(FIRST, SECOND)["a"], 1 / 3, rtol=1e-6)
    assert set(pruning.summarize_intersection([FIRST["a"]], [SECOND["a"]])) == {"0", "_total_intersection"}


def test_overlaps_are_symmetric():
    for pair in ((FIRST, SECOND), (SECOND, FIRST)):
        overlap = pruning.mask_overlap(*pair)
        np.testing.assert_allclose([overlap["a"], overlap["b/c"], overlap["_total_overlap"]], [1 / 4, 1, 2 / 5])
    assert list(pruning.mask_overlap(FIRST, SECOND, only_total=True)) == ["_total_overlap"]
    assert float(pruning.mask_overlap(FIRST, FIRST)["_total_overlap"]) == 1.0


def test_intersected_masks_keep_what_both_keep():
    both = pruning.intersect_masks(FIRST, {"a": SECOND["a"], "b": {"c": None, "d": np.array([0, 1], np.uint8)}})
    assert both["a"].tolist() == [1, 0, 0, 0]
    assert both["b"]["c"].tolist() == [1, 0]
    assert both["b"]["d"].tolist() == [0, 1]
    assert pruning.intersect_masks(FIRST, SECOND)["b"]["d"] is None


def test_masks_of_different_models_are_not_compared():
    for compare in (pruning.summarize_intersection, pruning.mask_overlap, pruning.intersect_masks):
        with pytest.raises(ValueError, match="only one tree has b/c; compare masks of one model"):
            compare(FIRST, {"a": FIRST["a"], "b": {"d": None}})
