import jax
import numpy as np
import pytest

from jaxprune.devices import placement


def test_the_devices_of_a_kind_that_is_there_are_returned():
    assert placement.require_devices("cpu") == jax.devices("cpu")


@pytest.mark.parametrize("kind", ["gpu", "tpu"])
def test_a_kind_that_is_absent_is_refused_and_what_is_there_is_said(kind, monkeypatch):
    if jax.default_backend() == kind:
        pytest.skip(f"this machine has a {kind}")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    with pytest.raises(ValueError, match=rf"a {kind} was asked for, but .* 8 x cpu \(cpu\); JAX_PLATFORMS=cpu is set"):
        placement.require_devices(kind)
    monkeypatch.delenv("JAX_PLATFORMS")
    with pytest.raises(ValueError, match=r"see whether jax\[.* is installed .*, or ask for cpu"):
        placement.require_devices(kind)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="unknown kind of device 'npu'; known: cpu, gpu, tpu"):
        placement.require_devices("npu")


def test_rows_are_padded_split_and_copied():
    mesh = placement.data_mesh()
    assert mesh.size == 8
    assert [placement.round_up(count, mesh) for count in (1, 8, 9)] == [8, 8, 16]
    rows = np.arange(10).reshape(5, 2)
    padded = placement.pad_rows(rows, 8)
    np.testing.assert_array_equal(padded, [*rows, rows[0], rows[0], rows[0]])
    assert placement.pad_rows(rows, 5) is rows
    split, whole = placement.split_rows(padded, mesh), placement.replicate(rows, mesh)
    assert {shard.data.shape for shard in split.addressable_shards} == {(1, 2)}
    assert {shard.data.shape for shard in whole.addressable_shards} == {(5, 2)}
    np.testing.assert_array_equal(split, padded)


def test_a_mesh_over_some_devices():
    assert placement.data_mesh(jax.devices()[:3]).size == 3
