"""The corruption-error family against its definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprune import metrics

NAMES = metrics.COMMON_CORRUPTIONS


@pytest.fixture
def errors(rng):
    return {name: rng.random(5).astype(np.float32) for name in (*NAMES, *metrics.EXTRA_CORRUPTIONS)}


def test_the_benchmark_has_fifteen_corruptions_in_four_categories():
    assert len(NAMES) == len(set(NAMES)) == 15
    assert {key: len(names) for key, names in metrics.CORRUPTION_CATEGORIES.items()} == {
        "noise": 3, "blur": 4, "weather": 4, "digital": 4,
    }  # fmt: skip
    assert set(metrics.ALEXNET_IMAGENET_C_ERROR) == set(NAMES)
    assert round(np.mean(list(metrics.ALEXNET_IMAGENET_C_ERROR.values())), 3) == 0.789


def test_alexnet_is_its_own_baseline():
    alexnet = {name: jnp.full(5, error) for name, error in metrics.ALEXNET_IMAGENET_C_ERROR.items()}
    assert abs(metrics.mean_corruption_error(alexnet, baseline="alexnet") - 1) < 1e-6
    relative = metrics.relative_mean_corruption_error(alexnet, metrics.ALEXNET_IMAGENET_CLEAN_ERROR, baseline="alexnet")
    assert abs(relative - 1) < 1e-6


def test_the_means_match_their_definitions(errors, rng):
    baseline = {name: rng.random(5).astype(np.float32) for name in NAMES}
    plain = np.mean([errors[name].mean() for name in NAMES])
    relative = np.mean([errors[name].sum() / baseline[name].sum() for name in NAMES])
    over_clean = np.mean([(errors[name] - 0.1).sum() / (baseline[name] - 0.05).sum() for name in NAMES])
    assert abs(metrics.mean_corruption_error(errors) - plain) < 1e-6
    assert abs(metrics.mean_corruption_error(errors, baseline=baseline) - relative) < 1e-5
    actual = metrics.relative_mean_corruption_error(errors, 0.1, baseline=baseline, baseline_clean_error=0.05)
    assert abs(actual / over_clean - 1) < 1e-5


def test_the_sums_are_divided_not_the_errors():
    assert abs(metrics.corruption_error(jnp.array([0.1, 0.9]), jnp.array([0.2, 0.2])) - 2.5) < 1e-6


def test_extra_corruptions_count_only_when_named(errors):
    fifteen = metrics.mean_corruption_error(errors)
    errors["saturate"] = np.ones(5, np.float32)
    assert metrics.mean_corruption_error(errors) == fifteen
    assert metrics.mean_corruption_error(errors, corruptions=(*NAMES, "saturate")) != fifteen
    assert abs(metrics.mean_corruption_error(errors, corruptions=("saturate",)) - 1) < 1e-6


def test_models_and_seeds_are_leading_axes(rng):
    errors = {name: rng.random((3, 2, 5)).astype(np.float32) for name in NAMES}
    together = metrics.mean_corruption_error(errors, baseline="alexnet")
    relative = jax.jit(lambda e, clean: metrics.relative_mean_corruption_error(e, clean, baseline="alexnet"))
    clean = np.full((3, 2), 0.1, np.float32)
    assert together.shape == relative(errors, clean).shape == (3, 2)
    one = {name: error[2, 1] for name, error in errors.items()}
    assert abs(together[2, 1] - metrics.mean_corruption_error(one, baseline="alexnet")) < 1e-6
    one_relative = metrics.relative_mean_corruption_error(one, 0.1, baseline="alexnet")
    np.testing.assert_allclose(relative(errors, clean)[2, 1], one_relative, rtol=1e-4)


def test_category_means(errors):
    means = metrics.category_means(errors)
    for category, names in metrics.CORRUPTION_CATEGORIES.items():
        np.testing.assert_allclose(means[category], np.mean([errors[name] for name in names], axis=0), rtol=1e-6)
    np.testing.assert_allclose(means["all"], np.mean([errors[name] for name in NAMES], axis=0), rtol=1e-6)
    mixed = metrics.category_means(errors, corruptions=("shot_noise", "speckle_noise"))
    assert mixed.keys() == {"noise", "all"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e: metrics.mean_corruption_error({"fog": e["fog"]}), r"lack \['gaussian.*corruptions=\('fog',\)"),
        (lambda e: metrics.mean_corruption_error(e, corruptions=()), "errors lack everything"),
        (lambda e: metrics.mean_corruption_error(e, baseline="vgg"), "baseline must be a dictionary of"),
        (lambda e: metrics.mean_corruption_error(e, baseline={}), "baseline lack"),
        (lambda e: metrics.mean_corruption_error({k: v[:2] for k, v in e.items()}, baseline="alexnet"), "5 severities"),
        (
            lambda e: metrics.mean_corruption_error(e, baseline="alexnet", corruptions=("saturate",)),
            r"the errors of AlexNet lack \['saturate'\]",
        ),
        (lambda e: metrics.relative_mean_corruption_error(e, 0.1, baseline=e), "baseline_clean_error is missing"),
        (lambda e: metrics.corruption_error(e["fog"], e["fog"][:3]), "the same severities .*, got 5 and 3"),
        (lambda e: metrics.corruption_error(e["fog"][:0], e["fog"][:0]), "severities as its last axis"),
        (lambda e: metrics.category_means(e, corruptions=("rain",)), r"no category is known for \['rain'\]"),
    ],
)  # fmt: skip
def test_mistakes_are_named_with_their_cure(errors, call, message):
    with pytest.raises(ValueError, match=message):
        call(errors)
