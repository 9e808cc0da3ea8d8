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
@pytest.mark.filterwarnings("ignore:the temperature stopped")
def test_degenerate_data_give_a_finite_temperature_that_is_no_worse(logits, labels):
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    temperature = metrics.fit_temperature(logits, labels)
    assert 1e-3 * 0.99 <= temperature <= 1e3 * 1.01
    assert NLL(logits / temperature, labels, from_logits=True) <= NLL(logits, labels, from_logits=True)


def test_nan_in_gives_nan_out():
    assert np.isnan(metrics.fit_temperature(jnp.array([[jnp.nan, 0.0], [1.0, 0.0]]), jnp.array([0, 1])))


def zero_class(seed):
    """Returns logits of five classes of which one is left out in every row, those without it, and labels."""
    logits, labels = overconfident(seed)
    return np.insert(logits, 2, -np.inf, axis=1), logits, np.where(labels >= 2, labels + 1, labels), labels


def test_a_logit_of_minus_infinity_is_a_class_left_out(oracles):
    padded, logits, labels, fewer = zero_class(0)
    temperature = metrics.fit_temperature(padded, labels)
    assert abs(temperature / metrics.fit_temperature(logits, fewer) - 1) < 1e-4
    assert abs(jax.jit(metrics.fit_temperature)(padded, labels) / temperature - 1) < 1e-4
    some = np.where(np.random.default_rng(0).random(logits.shape) < 0.2, -np.inf, logits)
    some[np.arange(300), fewer] = logits[np.arange(300), fewer]
    some[0, np.arange(4) != fewer[0]] = -np.inf
    loss = lambda log_t: oracles.negative_log_likelihood(oracles.softmax(some / np.exp(log_t)), fewer)  # noqa: E731
    best = np.exp(scipy.optimize.minimize_scalar(loss, bounds=(-5, 5), method="bounded").x)
    assert abs(metrics.fit_temperature(some, fewer) / best - 1) < 2e-3


def test_vector_scaling_leaves_a_class_out_too():
    padded, logits, labels, fewer = zero_class(0)
    scaling, plain = metrics.fit_vector_scaling(padded, labels), metrics.fit_vector_scaling(logits, fewer)
    assert np.isneginf(scaling(padded)[:, 2]).all()
    assert np.isfinite(scaling.scale).all()
    losses = NLL(scaling(padded), labels, from_logits=True), NLL(plain(logits), fewer, from_logits=True)
    assert abs(losses[0] - losses[1]) < 1e-4


def test_probabilities_of_a_file_with_zeros_can_be_fitted():
    logits, labels = overconfident(0)
    probs = np.round(np.asarray(jax.nn.softmax(logits)), 3)
    with np.errstate(divide="ignore"):
        rounded = np.log(probs)
    possible = np.isfinite(rounded[np.arange(300), labels])
    assert np.isinf(rounded).any()
    assert not possible.all()
    with pytest.raises(
        ValueError, match=r"rows have a label whose logit is minus infinity, .*; give that class a finite"
    ):
        metrics.fit_temperature(rounded, labels)
    assert np.isnan(jax.jit(metrics.fit_temperature)(rounded, labels)), "a trace cannot raise"
    weighted = metrics.fit_temperature(rounded, labels, weights=possible)
    assert abs(weighted / metrics.fit_temperature(rounded[possible], labels[possible]) - 1) < 1e-3
    assert 1 < weighted < 4


@pytest.mark.parametrize("fit", [metrics.fit_temperature, metrics.fit_vector_scaling])
@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([np.inf, 0.0, 0.0], r"1 of 3 rows have logits of plus infinity \(first: row 1, \[inf, 0.0, 0.0\]\)"),
        ([-np.inf] * 3, "1 of 3 rows have no finite logit"),
        ([0.0, -np.inf, 0.0], "1 of 3 rows have a label whose logit is minus infinity, an infinite loss"),
    ],
)
def test_rows_without_a_finite_loss_are_refused(fit, row, message):
    logits, labels = np.array([[1.0, 0.0, 2.0], row, [0.5, 3.0, -np.inf]], np.float32), np.array([0, 1, 1])
    with pytest.raises(ValueError, match=message):
        fit(logits, labels)
    assert all(np.isnan(leaf).all() for leaf in jax.tree.leaves(jax.jit(fit)(logits, labels)))
    assert all(
        np.isfinite(leaf).all() for leaf in jax.tree.leaves(fit(logits, labels, weights=np.array([1.0, 0.0, 1.0])))
    )


@pytest.mark.parametrize(
    ("labels", "message"),
    [([0, 1], "stopped at 0.001, .*use more validation data"), ([1, 0], "stopped at 1000, .*in the same order")],
)
def test_a_temperature_at_a_bound_is_warned_of(labels, message):
    logits = jnp.array([[5.0, 0.0], [0.0, 5.0]])
    with pytest.warns(UserWarning, match=message):
        metrics.fit_temperature(logits, jnp.array(labels))


def test_a_temperature_that_does_not_matter_is_one():
    one_class = np.array([[1.0, -np.inf, -np.inf], [-np.inf, -np.inf, 3.0]], np.float32)
    assert metrics.fit_temperature(one_class, np.array([0, 2])) == 1
    assert metrics.fit_temperature(jnp.zeros((4, 3)), jnp.arange(4) % 3) == 1


def test_a_scaling_of_other_classes_is_named():
    with pytest.raises(ValueError, match="logits have 3 classes, this scaling 2; fit it on the same classes"):
        metrics.fit_vector_scaling(jnp.array([[1.0, 0.0]] * 2), jnp.array([0, 1]))(jnp.zeros((2, 3)))


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
