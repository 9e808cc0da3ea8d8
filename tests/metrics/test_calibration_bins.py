"""The edges of bins, and the streaming accumulator."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from jaxprune import metrics
from jaxprune.metrics import CalibrationBins
from jaxprune.metrics.binning import equal_mass_index, equal_width_index


@pytest.mark.parametrize("num_bins", [1, 2, 3, 7, 10, 15, 30, 49, 64, 100, 1000])
def test_a_confidence_equal_to_an_edge_is_right_of_it(num_bins):
    k = np.arange(num_bins + 1)
    edges = (k / num_bins).astype(np.float32)
    below = np.nextafter(edges, np.float32(-1))
    index = jax.jit(equal_width_index, static_argnums=1)
    np.testing.assert_array_equal(index(edges, num_bins), np.minimum(k, num_bins - 1))
    np.testing.assert_array_equal(index(below, num_bins), np.maximum(k - 1, 0))


@pytest.mark.parametrize("size", [0, 1, 4, 15, 16, 29, 31])
def test_equal_mass_bins_are_those_of_array_split(size):
    expected = np.concatenate([np.full(len(part), k) for k, part in enumerate(np.array_split(np.arange(size), 15))])
    np.testing.assert_array_equal(equal_mass_index(jnp.arange(size), jnp.asarray(size), 15), expected)


def test_all_confidences_equal(oracles):
    confidence, correct = np.full(20, 0.3, np.float32), np.arange(20) % 2
    for binning in ("equal_width", "equal_mass"):
        actual = metrics.binned_calibration_error(confidence, correct, num_bins=6, binning=binning)
        assert abs(actual.item() - oracles.calibration_error(confidence, correct, num_bins=6, binning=binning)) < 1e-6


def test_a_million_equal_confidences_keep_their_digits():
    confidence = np.full(1_000_000, 0.95, np.float32)
    bins = CalibrationBins.empty().update_examples(confidence, np.ones(1_000_000, bool))
    assert abs(bins.compute().item() - (1 - float(np.float32(0.95)))) < 1e-7
    assert bins.count.dtype == jnp.int32
    assert bins.count[14] == 1_000_000


def filled(oracles, seed, size=48, **options):
    case = oracles.problem(seed, size)
    return CalibrationBins.empty(num_bins=10).update(case.probs, case.labels, **options)


def close(first, second):
    np.testing.assert_array_equal(first.count, second.count)
    for mine, theirs in zip(first[1:], second[1:], strict=True):
        np.testing.assert_allclose(mine.value, theirs.value, rtol=1e-6, atol=1e-7)


def test_merge_has_an_identity_commutes_and_associates(oracles):
    a, b, c = (filled(oracles, seed) for seed in range(3))
    empty = CalibrationBins.empty(num_bins=10)
    close(a.merge(empty), a)
    close(a.merge(b), b.merge(a))
    close(a.merge(b).merge(c), a.merge(b.merge(c)))
    for field in ("weight", "correct", "confidence"):
        left, right = (getattr(bins, field).value for bins in (a.merge(b).merge(c), a.merge(b.merge(c))))
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("chunk", [1, 7, 48])
@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
def test_chunks_give_what_one_shot_gives(oracles, chunk, norm):
    case = oracles.problem(13, 48)
    bins = CalibrationBins.empty(num_bins=10)
    for start in range(0, 48, chunk):
        rows = slice(start, start + chunk)
        bins = bins.update(case.logits[rows], case.labels[rows], from_logits=True, weights=case.mask[rows])
    whole = metrics.expected_calibration_error(
        case.logits, case.labels, from_logits=True, weights=case.mask, num_bins=10, norm=norm
    )
    assert abs(bins.compute(norm=norm).item() - whole.item()) < 1e-7


def test_eight_devices_give_what_one_gives(oracles):
    case = oracles.problem(14, 96)
    whole = CalibrationBins.empty(num_bins=10).update(case.probs, case.labels, weights=case.mask)

    def part(probs, labels, weights):
        return CalibrationBins.empty(num_bins=10).update(probs, labels, weights=weights).psum("batch")

    def split(x):
        return x.reshape(8, 12, *x.shape[1:])

    arguments = case.probs, case.labels, case.mask
    mapped = jax.pmap(part, axis_name="batch")(*map(split, arguments))
    close(jax.tree.map(lambda x: x[3], mapped), whole)
    mapped = jax.vmap(part, axis_name="batch")(*map(split, arguments))
    close(jax.tree.map(lambda x: x[5], mapped), whole)
    mesh = Mesh(np.array(jax.devices()), ("batch",))
    spec = PartitionSpec("batch")
    sharded = jax.jit(jax.shard_map(part, mesh=mesh, in_specs=(spec, spec, spec), out_specs=PartitionSpec()))
    close(sharded(*arguments), whole)
    placed = jax.device_put(arguments, jax.NamedSharding(mesh, spec))
    close(CalibrationBins.empty(num_bins=10).update(*placed[:2], weights=placed[2]), whole)


def test_a_second_update_does_not_compile(oracles):
    bins = filled(oracles, 0)
    compiled = CalibrationBins.update._cache_size()
    case = oracles.problem(1, 48)
    bins.update(case.probs, case.labels)
    assert CalibrationBins.update._cache_size() == compiled


def test_empty_bins_have_no_error_to_give():
    for norm in ("l1", "l2", "max"):
        assert np.isnan(CalibrationBins.empty().compute(norm=norm))


def test_mistakes_are_named_with_their_cure(oracles):
    with pytest.raises(ValueError, match="num_bins must be an integer of at least 1, got 0"):
        CalibrationBins.empty(num_bins=0)
    with pytest.raises(ValueError, match="cannot merge 10 bins with 15; make both with the same num_bins"):
        filled(oracles, 0).merge(CalibrationBins.empty())
    with pytest.raises(ValueError, match="norm must be one of"):
        CalibrationBins.empty().compute(norm="l7")
