"""Training with masks that move, and numbers that do not depend on JAX's settings."""

import jax
import numpy as np
import pytest

from jaxprune import data, pruning, training
from tests.training.test_options import SGD, assert_close, dataset, fit, net

SPARSITY, STEPS, KERNEL = 0.75, 12, 3 * 3 * 3 * 8
START = net(features=8)


def updater(method, seed=3):
    row = pruning.METHODS[method]
    return row.updater(SPARSITY, row.filter_fn, jax.random.key(seed), STEPS)


def fit_sparse(moving, epochs=2, **options):
    how = {"optimizer": SGD, "key": jax.random.key(1), "batch_size": 16}
    return training.fit_sparse(START, dataset(), updater=moving, epochs=epochs, **how | options)


def the_mask(masks):
    (mask,) = jax.tree.leaves(masks)
    return np.asarray(mask)


@pytest.mark.parametrize("method", ["set", "rigl", "ste"])
def test_masks_move_and_the_result_is_as_sparse_as_asked(method):
    moving = updater(method)
    before, first = fit_sparse(moving, epochs=0)
    after, last = fit_sparse(moving)
    kernel = np.asarray(after.params["conv"]["kernel"])
    for mask, classifier in ((first, before), (last, after)):
        assert the_mask(mask).sum() == KERNEL * (1 - SPARSITY)
        np.testing.assert_array_equal(classifier.params["conv"]["kernel"] * (1 - the_mask(mask)), 0)
    assert (the_mask(first) != the_mask(last)).any()
    # Kept weights were trained: of those that were kept all the time, none is what it was.
    both = (the_mask(first) == 1) & (the_mask(last) == 1)
    assert both.any()
    assert (kernel[both] != np.asarray(START.params["conv"]["kernel"])[both]).all()
    # Nothing else is pruned.
    assert [mask is None for mask in jax.tree.leaves(last, is_leaf=lambda leaf: leaf is None)].count(False) == 1


def test_a_straight_through_estimator_trains_weights_that_no_forward_pass_sees():
    # Static masks of the same start cannot let a weight come back.
    _, last = fit_sparse(updater("ste"), optimizer=training.sgd(learning_rate=0.5, schedule="constant"))
    first = the_mask(pruning.prune(START, method="weight_per_layer", sparsity=SPARSITY)[1])
    came_back = (first == 0) & (the_mask(last) == 1)
    assert came_back.any()


def test_what_was_stopped_goes_on_and_another_updater_is_refused(tmp_path):
    moving = updater("set")
    straight = fit_sparse(moving)
    fit_sparse(moving, epochs=1, checkpoint_dir=tmp_path)
    resumed = fit_sparse(moving, checkpoint_dir=tmp_path)
    assert_close(straight[0], resumed[0], 0)
    np.testing.assert_array_equal(the_mask(straight[1]), the_mask(resumed[1]))
    with pytest.raises(ValueError, match="another training run .*updater's masks: "):
        fit_sparse(updater("set", seed=4), checkpoint_dir=tmp_path)


def test_options_of_a_sparse_training_are_those_of_fit():
    with pytest.raises(TypeError, match="masks"):
        fit_sparse(updater("ste"), masks=None)
    with pytest.raises(ValueError, match=r"epochs=1\.5; it must be a whole number, 0 or more"):
        fit_sparse(updater("ste"), epochs=1.5)


SETTINGS = {
    "x64": lambda: jax.enable_x64(True),
    "threefry": lambda: jax.threefry_partitionable(False),
    "rbg": lambda: jax.default_prng_impl("rbg"),
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_order_and_augmentation_are_the_same_under_all_settings(setting):
    options = {"start": START, "augment": data.AUGMENTATIONS["crop_and_flip"]}
    expected = fit(**options)
    with SETTINGS[setting]():
        # A key of the default generator: the same seed is the same training.
        assert_close(expected, fit(**options, key=jax.random.key(1)), 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit(epochs=1.5), r"epochs=1\.5; it must be a whole number"),
        (lambda: fit(epochs=True), "epochs=True; it must be a whole number"),
        (lambda: fit(batch_size=2.5), r"batch_size=2\.5; it must be a whole number"),
        (lambda: fit(mixup=float("inf")), "mixup=inf; it must be 0"),
        (lambda: fit(label_smoothing="0.1"), r"label_smoothing='0\.1'; it must be 0"),
        (lambda: fit(steps_per_dispatch=1.0), r"steps_per_dispatch=1\.0; it must be 1 or more"),
        (lambda: training.sgd(learning_rate=float("nan")), "learning_rate=nan; it must be a finite number above 0"),
        (lambda: training.sgd(learning_rate=0.0), r"learning_rate=0\.0; it must be a finite number above 0"),
        (lambda: training.sgd(momentum=1.0), r"momentum=1\.0; it must be a number >= 0 and less than 1"),
        (lambda: training.sgd(weight_decay=-1e-4), "weight_decay=-0.0001; it must be a finite number >= 0"),
        (lambda: training.sgd(scale_penalty=float("nan")), "scale_penalty=nan; it must be a finite number >= 0"),
        (lambda: training.sgd(num_steps=2.5), r"needs num_steps >= 1, .* got 2\.5"),
        (lambda: training.slimming_penalty(float("nan")), "strength is nan; give a number >= 0"),
    ],
)
def test_numbers_that_are_none_are_refused_before_the_first_step(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_seed_is_no_key():
    with pytest.raises(TypeError, match=r"key is int, not a random key; pass jax\.random\.key\(7\)"):
        fit(key=7)
