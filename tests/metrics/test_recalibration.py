"""Temperature and vector scaling find the optimum, and never make things worse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from jaxprune import metrics

NLL = metrics.negative_log_likelihood


def overconfident(seed, size=300, classes=4, factor=3.0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (size, classes))
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(classes, p=p) for p in probs], np.int32)
    return (logits * factor).astype(np.float32), labels


@pytest.mark.parametrize("factor", [0.2, 1.0, 3.0, 30.0])
def test_the_temperature_is_the_optimum(oracles, factor):
    logits, labels = overconfident(0, factor=factor)
    loss = lambda log_t: oracles.negative_log_likelihood(oracles.softmax(logits / np.exp(log_t)), labels)  # noqa: E731
    expected = np.exp(scipy.optimize.minimize_scalar(loss, bounds=(-5, 5), method="bounded").x)
    temperature = metrics.fit_temperature(logits, labels, split="validation")
    assert abs(temperature / expected - 1) < 2e-3
    assert loss(np.log(float(temperature))) <= loss(np.log(expected)) + 1e-6
    assert NLL(logits / temperature, labels, from_logits=True) <= NLL(logits, labels, from_logits=True)


def test_masked_rows_do_not_move_the_temperature(oracles):
    logits, labels = overconfident(1)
    mask = np.arange(300) < 200
    padded = np.where(mask[:, None], logits, np.nan)
    masked = metrics.fit_temperature(padded, np.where(mask, labels, -1), weights=mask)
    assert abs(masked / metrics.fit_temperature(logits[mask], labels[mask]) - 1) < 1e-3


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        ([[5.0, 0.0], [0.0, 5.0]], [0, 1]),
        ([[5.0, 0.0], [0.0, 5.0]], [1, 0]),
        ([[0.0, 0.0], [0.0, 0.0]], [0, 1]),
        ([[1e4, 0.0], [0.0, 1e4]], [0, 0]),
    ],
    ids=["separable", "always wrong", "constant", "huge"],
)
def test_degenerate_data_give_a_finite_temperature_that_is_no_worse(logits, labels):
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    temperature = metrics.fit_temperature(logits, labels)
    assert 1e-3 * 0.99 <= temperature <= 1e3 * 1.01
    assert NLL(logits / temperature, labels, from_logits=True) <= NLL(logits, labels, from_logits=True)


def test_nan_in_gives_nan_out():
    assert np.isnan(metrics.fit_temperature(jnp.array([[jnp.nan, 0.0], [1.0, 0.0]]), jnp.array([0, 1])))


def test_a_stack_of_models_is_a_vmap():
    problems = [overconfident(seed) for seed in range(3)]
    logits, labels = (jnp.stack(x) for x in zip(*problems, strict=True))
    mapped = jax.vmap(metrics.fit_temperature)(logits, labels)
    np.testing.assert_allclose(mapped, [metrics.fit_temperature(*problem) for problem in problems], rtol=1e-3)


def test_vector_scaling_undoes_a_bias_that_a_temperature_cannot(oracles):
    logits, labels = overconfident(2)
    shifted = logits + np.array([0, 3, -2, 1], np.float32)
    scaling = metrics.fit_vector_scaling(shifted, labels, split="validation")
    fitted = NLL(scaling(shifted), labels, from_logits=True)
    assert fitted < NLL(shifted / metrics.fit_temperature(shifted, labels), labels, from_logits=True) - 0.05

    def loss(x):
        return oracles.negative_log_likelihood(oracles.softmax(shifted * x[:4] + x[4:]), labels)

    best = scipy.optimize.minimize(loss, np.concatenate([np.ones(4), np.zeros(4)]), method="BFGS")
    assert abs(fitted - best.fun) < 1e-4


def test_vector_scaling_is_never_worse_than_the_identity():
    for seed in range(3):
        logits, labels = overconfident(seed, size=20, factor=10.0)
        scaling = metrics.fit_vector_scaling(logits, labels)
        assert NLL(scaling(logits), labels, from_logits=True) <= NLL(logits, labels, from_logits=True)
        assert np.isfinite(scaling.scale).all()


@pytest.mark.parametrize("fit", [metrics.fit_temperature, metrics.fit_vector_scaling])
@pytest.mark.parametrize("split", ["test", "TEST", "test[:50%]", "cifar10_test"])
def test_a_test_split_is_refused(fit, split):
    with pytest.raises(ValueError, match="cannot be measured on them; fit on a validation split"):
        fit(jnp.zeros((2, 2)), jnp.zeros(2, int), split=split)
