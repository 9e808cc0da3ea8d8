"""Bytes and tables."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

from jaxprune import pruning


@pytest.fixture
def params(rng):
    kernel = rng.normal(size=(3, 3, 4, 8)).astype(np.float32)
    kernel[np.abs(kernel) < 1] = 0
    return {"conv": {"kernel": jnp.asarray(kernel), "bias": jnp.zeros(8)}, "norm": {"scale": jnp.ones(8, jnp.bfloat16)}}


def test_bytes_are_those_of_the_formats(params):
    summary = pruning.summarize(params).as_dict()
    kernel = np.asarray(params["conv"]["kernel"])
    csr = scipy.sparse.csr_array(kernel.reshape(-1, 8))
    csr.indices, csr.indptr = csr.indices.astype(np.int32), csr.indptr.astype(np.int32)
    row = summary["conv/kernel"]
    assert row["csr_bytes"] == csr.data.nbytes + csr.indices.nbytes + csr.indptr.nbytes
    assert row["bitmask_bytes"] == np.packbits(kernel != 0).nbytes + 4 * np.count_nonzero(kernel)
    assert row["dense_bytes"] == kernel.nbytes
    assert row["zeros"] == (kernel == 0).sum()
    assert row["sparsity"] == (kernel == 0).mean()
    assert row["shape"] == [3, 3, 4, 8]
    # Nothing is pruned here: dense is the way to store it.
    scale = summary["norm/scale"]
    assert scale["dense_bytes"] == scale["bitmask_bytes"] == scale["csr_bytes"] == 16
    for count in ("size", "zeros", "dense_bytes", "bitmask_bytes", "csr_bytes"):
        assert summary["total"][count] == sum(summary[name][count] for name in summary if name != "total")


def test_masks_tell_pruned_weights_from_weights_that_are_zero(params):
    masks = {
        "conv": {"kernel": jnp.ones((3, 3, 4, 8), jnp.uint8), "bias": jnp.zeros(8, jnp.uint8)},
        "norm": {"scale": None},
    }
    summary = pruning.summarize(params, masks).as_dict()
    assert (summary["conv/kernel"]["zeros"], summary["conv/bias"]["zeros"]) == (0, 8)
    with pytest.raises(ValueError, match="no entry for the parameter norm/scale"):
        pruning.summarize(params, {"conv": masks["conv"]})


def test_a_classifier_and_its_parameters_give_the_same_table(params):
    class Net:
        pass

    net = Net()
    net.params = params
    assert str(pruning.summarize(net)) == str(pruning.summarize(params))


def test_the_table_is_aligned_and_readable(params):
    lines = str(pruning.summarize(params)).splitlines()
    assert lines[0].split() == ["parameter", "shape", "weights", "zeros", "sparsity", "dense", "bitmask", "CSR"]
    assert [line.split()[0] for line in lines[2:-2]] == ["conv/bias", "conv/kernel", "norm/scale"]
    assert lines[-1].startswith("total")
    assert "1.2 kB" in lines[-1]
    assert len({len(line) for line in lines}) == 1


def test_single_numbers_and_empty_arrays_have_a_row():
    summary = pruning.summarize({"alpha": jnp.array(0.0), "none": jnp.zeros((0, 3))}).as_dict()
    assert summary["alpha"]["sparsity"] == 1.0
    assert summary["none"]["sparsity"] == 0.0
