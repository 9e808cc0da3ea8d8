"""Accumulators: identity, merge, chunks, and eight devices under pmap, shard_map, vmap and jit."""

import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxprune import metrics

# name -> (an empty accumulator, what it must give, the same in one shot)
ACCUMULATORS = {
    "bins": (
        lambda: metrics.CalibrationBins.empty(num_bins=10),
        lambda bins: [bins.compute(norm=norm) for norm in ("l1", "l2", "max")],
        lambda *a, **k: [
            metrics.expected_calibration_error(*a, num_bins=10, norm=norm, **k) for norm in ("l1", "l2", "max")
        ],
    ),
    "class-wise bins": (
        lambda: metrics.ClasswiseCalibrationBins.empty(num_classes=5, num_bins=10),
        lambda bins: [bins.compute()],
        lambda *a, **k: [metrics.classwise_calibration_error(*a, num_bins=10, **k)],
    ),
    "smooth": (
        lambda: metrics.SmoothCalibrationGrid.empty(),
        lambda grid: [grid.compute(), grid.compute(bandwidth=0.1)],
        lambda *a, **k: [
            metrics.smooth_calibration_error(*a, **k),
            metrics.smooth_calibration_error(*a, bandwidth=0.1, **k),
        ],
    ),
    "scores": (
        lambda: metrics.ScoreSums.empty(),
        lambda sums: [
            sums.compute()[name] for name in ("accuracy", "negative_log_likelihood", "brier_score", "mean_confidence")
        ],
        lambda *a, **k: [
            metrics.accuracy(*a, **k),
            metrics.negative_log_likelihood(*a, **k),
            metrics.brier_score(*a, **k),
            metrics.summarize_examples(
                metrics.example_statistics(*a, from_logits=k["from_logits"]), weights=k["weights"]
            )["mean_confidence"],
        ],
    ),
}
NAMES = pytest.mark.parametrize("name", ACCUMULATORS)


def filled(oracles, name, seed, size=48):
    case = oracles.problem(seed, size)
    return ACCUMULATORS[name][0]().update(case.logits, case.labels, from_logits=True, weights=case.mask)


def assert_close(first, second):
    assert jax.tree.structure(first) == jax.tree.structure(second)
    is_pair = lambda x: hasattr(x, "high")  # noqa: E731
    for mine, theirs in zip(*(jax.tree.leaves(x, is_leaf=is_pair) for x in (first, second)), strict=True):
        if is_pair(mine):
            np.testing.assert_allclose(mine.value, theirs.value, rtol=1e-6, atol=1e-7)
        else:
            assert mine.dtype == jnp.int32
            np.testing.assert_array_equal(mine, theirs)


@NAMES
def test_merge_has_an_identity_commutes_and_associates(oracles, name):
    a, b, c = (filled(oracles, name, seed) for seed in range(3))
    assert_close(a.merge(ACCUMULATORS[name][0]()), a)
    assert_close(a.merge(b), b.merge(a))
    left, right = a.merge(b).merge(c), a.merge(b.merge(c))
    assert_close(left, right)
    values = ACCUMULATORS[name][1]
    np.testing.assert_allclose(values(left), values(right), rtol=3e-7)


@NAMES
def test_chunks_give_what_one_shot_gives(oracles, name):
    empty, values, one_shot = ACCUMULATORS[name]
    case, accumulator = oracles.problem(14, 48), empty()
    for start in range(0, 48, 8):
        rows = slice(start, start + 8)
        accumulator = accumulator.update(
            case.logits[rows], case.labels[rows], from_logits=True, weights=case.mask[rows]
        )
    expected = one_shot(case.logits, case.labels, from_logits=True, weights=case.mask)
    np.testing.assert_allclose(values(accumulator), expected, atol=3e-7)


@NAMES
def test_eight_devices_give_what_one_gives(oracles, name):
    empty = ACCUMULATORS[name][0]
    case = oracles.problem(14, 48)
    arguments = case.probs, case.labels, case.mask
    whole = empty().update(case.probs, case.labels, weights=case.mask)

    def part(probs, labels, weights):
        return empty().update(probs, labels, weights=weights).psum("batch")

    split = [x.reshape(8, 6, *x.shape[1:]) for x in arguments]
    assert_close(jax.tree.map(lambda x: x[3], jax.pmap(part, axis_name="batch")(*split)), whole)
    assert_close(jax.tree.map(lambda x: x[5], jax.jit(jax.vmap(part, axis_name="batch"))(*split)), whole)
    mesh, spec = Mesh(np.array(jax.devices()), ("batch",)), PartitionSpec("batch")
    sharded = jax.jit(jax.shard_map(part, mesh=mesh, in_specs=spec, out_specs=PartitionSpec()))
    assert_close(sharded(*arguments), whole)
    probs, labels, weights = jax.device_put(arguments, NamedSharding(mesh, spec))
    assert_close(empty().update(probs, labels, weights=weights), whole)


@pytest.mark.parametrize("name", ["bins", "smooth", "scores"])
def test_examples_give_what_outputs_give(oracles, name):
    case = oracles.problem(15, 48)
    statistics = metrics.example_statistics(case.logits, case.labels, from_logits=True)
    arguments = (statistics,) if name == "scores" else (statistics.confidence, statistics.correct)
    from_examples = ACCUMULATORS[name][0]().update_examples(*arguments, weights=case.mask)
    assert_close(from_examples, filled(oracles, name, 15))


@NAMES
def test_a_second_update_does_not_compile(oracles, name):
    accumulator = filled(oracles, name, 0)
    compiled = type(accumulator).update._cache_size()
    filled(oracles, name, 1)
    assert compiled > 0
    assert type(accumulator).update._cache_size() == compiled


@NAMES
def test_an_empty_accumulator_has_nothing_to_give(name):
    empty, values, _ = ACCUMULATORS[name]
    assert np.isnan(values(empty())).all()


@NAMES
def test_nan_in_gives_nan_out(oracles, name):
    empty, values, _ = ACCUMULATORS[name]
    case = oracles.problem(16, 48)
    case.logits[4] = np.nan
    broken = empty().update(case.logits, case.labels, from_logits=True, weights=np.ones(48, np.float32))
    assert np.isnan(values(broken.merge(filled(oracles, name, 0)))).all()


@NAMES
def test_plus_is_merge(oracles, name):
    a, b = filled(oracles, name, 0), filled(oracles, name, 1)
    assert_close(a + b, a.merge(b))
    assert_close(sum([a, b]), a.merge(b))
    assert_close(jax.jit(lambda x, y: x + y)(a, b), a.merge(b))
    other = metrics.ScoreSums.empty() if name != "scores" else metrics.SmoothCalibrationGrid.empty()
    for first, second in ((a, other), (a, (1, 2)), ((1, 2), a), (a, 1)):
        with pytest.raises(TypeError, match="only accumulators of one type can be merged or added"):
            operator.add(first, second)
    with pytest.raises(TypeError, match="only accumulators of one type can be merged or added"):
        a.merge(other)
    for multiply in (lambda: a * 2, lambda: 2 * a):
        with pytest.raises(TypeError, match="cannot be multiplied by int; .* give weights to update"):
            multiply()


def test_results_are_not_added_or_multiplied(oracles):
    case = oracles.problem(0)
    results = (
        metrics.example_statistics(case.probs, case.labels),
        metrics.reliability_diagram(case.probs, case.labels),
        metrics.brier_decomposition(case.probs, case.labels),
        metrics.risk_coverage(case.probs, case.labels),
    )
    for result in results:
        for combine in (lambda r: r + r, lambda r: r * 2, lambda r: 2 * r):
            with pytest.raises(TypeError, match="is a result and cannot be added to or multiplied by"):
                combine(result)


def test_a_full_count_says_so_and_does_not_wrap():
    bins = metrics.CalibrationBins.empty(num_bins=2).update_examples(np.array([0.2, 0.8], np.float32), np.ones(2, bool))
    for _ in range(30):
        bins = bins.merge(bins)
    one = metrics.CalibrationBins.empty(num_bins=2).update_examples(np.array([0.2], np.float32), np.ones(1, bool))
    nearly = bins.merge(bins._replace(count=bins.count - 2))
    assert nearly.count.tolist() == [2**31 - 2] * 2
    assert np.isfinite(nearly.compute())
    for full in (nearly.merge(one), nearly.merge(one).merge(one), bins.merge(bins), bins.merge(bins).merge(bins)):
        assert full.count[0] == 2**31 - 1
        with pytest.raises(OverflowError, match="a bin holds 2147483647 examples or more"):
            full.compute()
        with pytest.raises(OverflowError, match="a bin holds"):
            metrics.reliability_of(full)
        with pytest.raises(OverflowError, match="a bin holds"):
            metrics.ClasswiseCalibrationBins(jax.tree.map(lambda x: x[None], full)).compute()
        assert np.isnan(jax.jit(lambda b: b.compute())(full)), "a trace cannot raise"


def test_a_sum_over_devices_does_not_wrap():
    bins = metrics.CalibrationBins.empty(num_bins=2)
    stacked = jax.tree.map(lambda x: jnp.stack([x] * 8), bins._replace(count=jnp.array([2**28 - 1, 2**28])))
    summed = jax.pmap(lambda b: b.psum("batch"), axis_name="batch")(stacked)
    assert summed.count[0].tolist() == [2**31 - 8, 2**31 - 1]


def test_counts_do_not_stall_where_float32_does():
    bins = metrics.CalibrationBins.empty(num_bins=1).update_examples(np.full(4, 0.5, np.float32), np.ones(4, bool))
    for _ in range(23):
        bins = bins.merge(bins)
    one_more = bins.merge(
        metrics.CalibrationBins.empty(num_bins=1).update_examples(np.array([0.5], np.float32), np.array([True]))
    )
    assert one_more.count[0] == 2**25 + 1
    assert float(one_more.correct.high[0]) + float(one_more.correct.low[0]) == 2**25 + 1


@pytest.mark.filterwarnings("ignore:the temperature stopped")
@pytest.mark.parametrize(
    "metric",
    [
        metrics.smooth_calibration_error,
        metrics.adaptive_calibration_error,
        metrics.area_under_risk_coverage,
        metrics.fit_temperature,
    ],
)
def test_loops_inside_a_metric_work_under_shard_map_and_pmap(oracles, metric):
    case = oracles.problem(18, 48)
    mesh, spec = Mesh(np.array(jax.devices()), ("batch",)), PartitionSpec("batch")
    per_device = jax.tree.map(
        lambda *x: np.stack(x), *[metric(case.probs[k : k + 6], case.labels[k : k + 6]) for k in range(0, 48, 6)]
    )
    mapped = jax.pmap(metric)(case.probs.reshape(8, 6, 5), case.labels.reshape(8, 6))

    def of_shard(probs, labels):
        return jax.tree.map(lambda x: x[None], metric(probs, labels))

    sharded = jax.jit(jax.shard_map(of_shard, mesh=mesh, in_specs=spec, out_specs=spec))(case.probs, case.labels)
    for result in (mapped, sharded):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), result, per_device)


def test_mistakes_are_named_with_their_cure(oracles):
    with pytest.raises(ValueError, match="num_bins must be an integer of at least 1, got 0"):
        metrics.CalibrationBins.empty(num_bins=0)
    with pytest.raises(ValueError, match="cannot merge 10 bins with 15; make both with the same num_bins"):
        filled(oracles, "bins", 0).merge(metrics.CalibrationBins.empty())
    with pytest.raises(ValueError, match="norm must be one of"):
        metrics.CalibrationBins.empty().compute(norm="l7")
    case = oracles.problem(0)
    with pytest.raises(ValueError, match="outputs have 5 classes, these bins 3"):
        metrics.ClasswiseCalibrationBins.empty(num_classes=3).update(case.probs, case.labels)
