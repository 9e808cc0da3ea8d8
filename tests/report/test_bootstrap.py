"""Intervals: against closed forms, against an explicit bootstrap, and how often they hold a truth that is known."""

import numpy as np
import pytest
from scipy import stats

from jaxprune.report import bootstrap
from jaxprune.report.bootstrap import difference, interval_estimate, single
from jaxprune.results import outputs
from tests.report import simulation


def test_seeds_alone_give_students_interval(rng):
    values = rng.normal(0.5, 0.1, (5, 1))
    found = interval_estimate(single, values)
    low, high = stats.t.interval(0.95, 4, values.mean(), values.std(ddof=1) / np.sqrt(5))
    assert found[:3] == pytest.approx((values.mean(), low, high), abs=1e-12)
    assert found.degrees_of_freedom == pytest.approx(4)
    for null in (0.3, 0.45):
        p = stats.ttest_1samp(values[:, 0], null, alternative="greater").pvalue
        assert found.p_value(null, claim="above") == pytest.approx(min(1, 2 * p), abs=1e-12)
        assert found.p_value(null, claim="below") == pytest.approx(min(1, 2 * (1 - p)), abs=1e-12)


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds_alone_give_no_interval_but_with_images_they_do(seeds, rng):
    values = rng.normal(0.5, 0.1, (seeds, 1))
    assert not interval_estimate(single, values).has_interval
    assert np.isnan(interval_estimate(single, values).p_value(0.0, claim="above"))
    found = interval_estimate(single, values, image_variance=0.01**2)
    assert found.has_interval
    assert found.standard_error**2 == pytest.approx(0.01**2 + (values.var(ddof=1) / 2 if seeds == 2 else 0))


def test_an_interval_beside_the_null_is_a_small_p_value(rng):
    for shift in np.linspace(-0.1, 0.1, 21):
        found = interval_estimate(single, rng.normal(shift, 0.05, (4, 1)))
        assert (found.p_value(0.0, claim="above") <= 0.05) == (found.low >= 0)
        assert (found.p_value(0.0, claim="below") <= 0.05) == (found.high <= 0)


def test_a_difference_without_any_spread_is_certain_or_none():
    same = interval_estimate(difference, np.full((1, 2), 0.5), np.full((10, 1, 2), 0.5))
    assert (same.low, same.high) == (0, 0)
    assert same.p_value(0.0, claim="above") == same.p_value(0.0, claim="below") == 1


def test_binned_sums_give_the_calibration_error_of_every_resample():
    images = simulation.Images(60, seed=3)
    found = images.outputs(0.1)
    resamples = bootstrap.resample(60, num_resamples=20)
    sums = bootstrap.gap_sums(resamples, found)
    fast = np.abs(bootstrap.resampled_means(resamples, sums)).sum(axis=1)
    image_of = np.argsort(resamples.group)  # sixty images are sixty groups of one
    for counts, error in zip(resamples.counts, fast, strict=True):
        rows = np.repeat(image_of, counts.astype(int))
        again = outputs.Outputs(*(array[rows] for array in found))
        assert error == pytest.approx(simulation.calibration_error(again), abs=1e-12)
    assert np.abs(sums.sum(axis=0)).sum() / 60 == pytest.approx(simulation.calibration_error(found), abs=1e-12)


def test_groups_of_images_leave_the_variance_of_a_mean_as_it_is(rng):
    values = rng.uniform(size=8037) < 0.8
    resamples = bootstrap.resample(len(values), num_resamples=2000)
    assert resamples.num_groups == bootstrap.NUM_GROUPS
    samples = bootstrap.resampled_means(resamples, bootstrap.group_sums(resamples, values))
    assert samples.mean() == pytest.approx(values.mean(), abs=3e-4)
    assert samples.var() == pytest.approx(values.var() / len(values), rel=0.15)


def problem(seed, gaps, *, seeds, n, sd):
    """Returns the estimate of the difference of two calibration errors, from networks of several seeds."""
    images, rng = simulation.Images(n, seed), np.random.default_rng(seed + 1)
    resamples = bootstrap.resample(n, seed=seed, num_resamples=200)
    values, samples = [], []
    for _ in range(seeds):
        found = [images.outputs(gap + sd * rng.normal()) for gap in gaps]
        sums = [bootstrap.gap_sums(resamples, each) for each in found]
        values.append([np.abs(each.sum(axis=0)).sum() / n for each in sums])
        samples.append(np.stack([np.abs(bootstrap.resampled_means(resamples, each)).sum(axis=1) for each in sums], -1))
    return interval_estimate(difference, np.array(values), np.stack(samples, axis=1))


@pytest.mark.parametrize(("seeds", "sd"), [(1, 0.0), (3, 0.01)])
def test_intervals_hold_the_truth_about_as_often_as_they_say(seeds, sd):
    found = [problem(seed, (0.06, 0.09), seeds=seeds, n=1000, sd=sd) for seed in range(100)]
    held = np.mean([each.low <= 0.03 <= each.high for each in found])
    # 95 % of 100 with a standard deviation of 2.2 points.
    assert 0.88 <= held <= 1.0


def test_no_difference_is_rarely_claimed_and_a_large_one_is_found():
    none = [problem(seed, (0.06, 0.06), seeds=3, n=1000, sd=0.01) for seed in range(100)]
    claimed = np.mean([min(each.p_value(0, claim=claim) for claim in ("above", "below")) <= 0.05 for each in none])
    assert claimed <= 0.11
    large = [problem(seed, (0.15, 0.03), seeds=3, n=1000, sd=0.005) for seed in range(20)]
    assert np.mean([each.p_value(0, claim="below") <= 0.05 for each in large]) >= 0.95


def test_the_bias_of_a_calibration_error_is_taken_off():
    raw, centre, truth = [], [], 0.06
    for seed in range(100):
        images = simulation.Images(300, seed)
        resamples, found = bootstrap.resample(300, seed=seed, num_resamples=100), images.outputs(truth)
        sums = bootstrap.gap_sums(resamples, found)
        values = np.abs(sums.sum(axis=0, keepdims=True)).sum(axis=1) / 300
        result = interval_estimate(
            single, values[:, None], np.abs(bootstrap.resampled_means(resamples, sums)).sum(1)[:, None, None]
        )
        raw.append(result.value - truth)
        centre.append(result.centre - truth)
    assert np.mean(raw) > 0.003  # four bins of 75 images, each pushed away from zero by its noise
    assert abs(np.mean(centre)) < np.mean(raw) / 2


def test_independent_estimates_are_subtracted_as_welch_does(rng):
    a, b = rng.normal(0.5, 0.1, (4, 1)), rng.normal(0.4, 0.02, (6, 1))
    found = bootstrap.independent_difference(interval_estimate(single, a), interval_estimate(single, b))
    expected = stats.ttest_ind(a[:, 0], b[:, 0], equal_var=False)
    interval = expected.confidence_interval()
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=1e-9)
