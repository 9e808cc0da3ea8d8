"""The options of `fit` that are off by default, and several models at once; on networks that compile in a second."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxprune import data, models, pruning, training
from jaxprune.training import losses, state, steps


class ConvNet(nnx.Module):
    def __init__(self, rngs, features=4):
        self.conv = nnx.Conv(3, features, (3, 3), strides=2, rngs=rngs)
        self.bn = nnx.BatchNorm(features, rngs=rngs)
        self.head = nnx.Linear(features, 3, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.relu(self.bn(self.conv(x))).mean((1, 2)))


class Perceptron(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(192, 6, rngs=rngs)
        self.head = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.relu(self.hidden(x.reshape(len(x), -1))))


def net(seed=0, kind=ConvNet, **options):
    return models.from_nnx(kind(nnx.Rngs(seed), **options), mean=(0.5,) * 3, std=(0.3,) * 3, num_classes=3)


def dataset(count=96, seed=0, split="train"):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count).astype(np.int32)
    images = rng.integers(0, 200, (count, 8, 8, 3)) + 25 * labels[:, None, None, None]
    return data.Dataset(images.astype(np.uint8), labels, ("a", "b", "c"), name="tiny", split=split)


SGD = training.sgd(learning_rate=0.05, schedule="constant")


def fit(start=None, **changes):
    arguments = {"optimizer": SGD, "epochs": 2, "batch_size": 32, "key": jax.random.key(1)}
    return training.fit(start or net(), changes.pop("dataset", None) or dataset(), **arguments | changes)


def arrays(classifier):
    return jax.tree.leaves(jax.device_get((classifier.params, classifier.batch_stats)))


def assert_close(one, other, atol):
    for here, there in zip(arrays(one), arrays(other), strict=True):
        np.testing.assert_allclose(here, there, atol=atol)


def largest_difference(one, other):
    return max(np.abs(here - there).max() for here, there in zip(arrays(one), arrays(other), strict=True))


# losses


def test_label_smoothing_equals_the_mixed_target(rng):
    logits, labels = rng.normal(size=(8, 5)).astype(np.float32), rng.integers(0, 5, 8)
    log_probs = logits - np.log(np.exp(logits.astype(np.float64)).sum(-1, keepdims=True))
    targets = 0.8 * np.eye(5)[labels] + 0.2 / 5
    actual = losses.cross_entropy(jnp.asarray(logits), jnp.asarray(labels), label_smoothing=0.2)
    np.testing.assert_allclose(actual, -(targets * log_probs).sum(-1), rtol=1e-5)


def test_mixup_mixes_partners_by_one_weight_of_at_least_one_half(rng):
    images, labels = rng.integers(0, 256, (5, 2, 2, 3), np.uint8), jnp.arange(5)
    draw = jax.jit(lambda key: losses.mixup(key, images, labels, alpha=0.4))
    weights = []
    for seed in range(200):
        mixed, others, weight = draw(jax.random.key(seed))
        weights.append(float(weight))
    np.testing.assert_array_equal(others, labels[::-1])
    expected = weights[-1] * images / 255 + (1 - weights[-1]) * images[::-1] / 255
    np.testing.assert_allclose(mixed, expected, atol=1e-6)
    assert min(weights) >= 0.5
    # E max(b, 1 - b) for b ~ Beta(0.4, 0.4), by quadrature of x^-0.6 (1-x)^-0.6, substituting x = t^2.5.
    t = np.linspace(0, 0.5**0.4, 20001)
    density = (1 - t**2.5) ** -0.6
    assert abs(np.mean(weights) - ((1 - t**2.5) * density).sum() / density.sum()) < 0.02


@pytest.mark.parametrize("options", [{"label_smoothing": 0.3}, {"mixup": 1.0}], ids=str)
def test_smoothing_and_mixup_change_the_training_and_its_reported_loss(options):
    plain, changed = [], []
    one = fit(on_epoch=plain.append, epochs=8)
    other = fit(on_epoch=changed.append, epochs=8, **options)
    assert largest_difference(one, other) > 1e-3
    assert changed[-1].loss > plain[-1].loss  # both targets have an entropy of their own
    assert changed[-1].loss < changed[0].loss


# average and type


def test_the_average_is_that_of_the_weights_after_each_step_and_keeps_masks():
    start = net()
    sparse, masks = pruning.prune(start, method="weight", sparsity=0.5)
    after_each = [fit(sparse, masks=masks, epochs=epochs, batch_size=96) for epochs in range(1, 5)]
    averaged = fit(sparse, masks=masks, epochs=4, batch_size=96, ema=0.7)
    weights = 0.7 ** np.arange(3, -1, -1) / (0.7 ** np.arange(4)).sum()
    for actual, *steps_ in zip(arrays(averaged), *map(arrays, after_each), strict=True):
        np.testing.assert_allclose(actual, sum(w * s for w, s in zip(weights, steps_, strict=True)), atol=1e-6)
    kernel, mask = averaged.params["conv"]["kernel"], masks["conv"]["kernel"]
    np.testing.assert_array_equal(np.asarray(kernel)[np.asarray(mask) == 0], 0.0)
    assert (np.asarray(mask) == 0).any()


def test_counters_are_not_averaged():
    average = state.Average(jnp.zeros(()), {"w": jnp.zeros(2)}, {"count": jnp.asarray(0, jnp.uint32)})
    for step in (1, 2):
        average = state.update_average(average, {"w": jnp.full(2, float(step))}, {"count": jnp.uint32(step)}, 0.5)
    assert average.batch_stats["count"] == 2
    np.testing.assert_allclose(average.params["w"], (0.5 * 1 + 2) / 1.5, rtol=1e-6)


class LinenNet(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.BatchNorm(use_running_average=not train)(nn.Conv(4, (3, 3), strides=2)(x))
        return nn.Dense(3)(nn.relu(x).mean((1, 2)))


@pytest.mark.parametrize("kind", ["nnx", "linen"])
def test_bfloat16_computes_in_bfloat16_and_keeps_float32(kind):
    if kind == "nnx":
        start = net()
    else:
        variables = LinenNet().init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
        start = models.from_linen(LinenNet(), variables, mean=(0.5,) * 3, std=(0.3,) * 3)
    trained = fit(start, precision="bfloat16", epochs=6)
    assert {leaf.dtype for leaf in arrays(trained)} == {np.dtype("float32")}
    assert 0 < largest_difference(trained, fit(start, epochs=6)) < 0.05

    half = models.in_precision(start, "bfloat16")
    jaxpr = jax.make_jaxpr(lambda images: half.apply(start.params, start.batch_stats, images, train=True))
    program = jaxpr(dataset().images)
    logits, *statistics = program.out_avals
    assert str(logits.dtype) == "float32"
    assert {str(leaf.dtype) for leaf in statistics} == {"float32"}
    results = re.findall(r"(\w+)\[[\d,]+\] = (?:conv_general_dilated|dot_general)", str(program))
    assert results == ["bf16", "bf16"]


def test_float32_is_the_forward_pass_itself():
    start = net()
    assert models.in_precision(start, None) is start


# dispatch and devices


@pytest.mark.parametrize("per_dispatch", [2, 5])
def test_several_steps_per_dispatch_give_the_same_result(per_dispatch):
    """Three steps an epoch: pieces of 2 and 1, or of 3."""
    start = net(kind=Perceptron)
    one = fit(start, optimizer=optax.adam(1e-2), epochs=4)
    many = fit(start, optimizer=optax.adam(1e-2), epochs=4, steps_per_dispatch=per_dispatch)
    assert_close(many, one, atol=1e-6)


def test_the_default_number_of_steps_per_dispatch_is_that_of_the_device():
    assert training.options.Options().resolved_steps_per_dispatch() == 1
    assert training.options.Options(devices=jax.devices()).resolved_steps_per_dispatch() == 1

    class Accelerator:
        platform = "tpu"

    assert training.options.Options(devices=[Accelerator()]).resolved_steps_per_dispatch() == 32


@pytest.mark.parametrize("batch_size", [32, 30], ids=["even", "uneven"])
def test_eight_devices_train_as_one_does(batch_size):
    """20 steps; a batch of 30 over 8 devices leaves rows that must not count, in BatchNorm's statistics either."""
    options = {"batch_size": batch_size, "dataset": dataset(4 * batch_size), "epochs": 5, "augment": data.random_crop}
    validation = dataset(50, seed=3, split="validation")
    one, eight = [], []
    alone = fit(**options, validation=validation, on_epoch=one.append)
    together = fit(**options, validation=validation, on_epoch=eight.append, devices=jax.devices())
    assert_close(alone, together, atol=1e-5)
    assert {len(leaf.devices()) for leaf in jax.tree.leaves(together.params)} == {8}
    for here, there in zip(one, eight, strict=True):
        np.testing.assert_allclose(here.loss, there.loss, atol=1e-5)
        assert here.accuracy == there.accuracy
        assert here.validation_accuracy == there.validation_accuracy
        np.testing.assert_allclose(here.validation_nll, there.validation_nll, atol=1e-5)


@pytest.mark.parametrize("batch_size", [32, 30], ids=["even", "uneven"])
def test_the_rows_of_a_batch_are_split_among_the_devices(batch_size):
    seen = []

    def look(key, images):
        jax.debug.inspect_array_sharding(images, callback=seen.append)
        return images

    fit(batch_size=batch_size, epochs=1, augment=look, devices=jax.devices())
    assert seen
    assert {sharding.shard_shape((32, 8, 8, 3)) for sharding in seen} == {(4, 8, 8, 3)}


def test_a_second_fit_on_eight_devices_does_not_compile_again():
    fit(devices=jax.devices())
    before = steps.train_steps._cache_size()
    fit(net(1), devices=jax.devices())
    assert steps.train_steps._cache_size() == before


# records


def test_the_records_say_how_it_goes():
    records, validation = [], dataset(70, seed=5, split="validation")
    trained = fit(epochs=6, validation=validation, on_epoch=records.append, ema=0.5)
    assert [(record.epoch, record.epochs) for record in records] == [(epoch, 6) for epoch in range(1, 7)]
    logits = np.asarray(trained.logits(validation.images), np.float64)
    nll = np.log(np.exp(logits).sum(-1)) - logits[np.arange(70), validation.labels]
    last = records[-1]
    np.testing.assert_allclose(last.validation_nll, nll.mean(), rtol=1e-5)
    assert last.validation_accuracy == np.float32(np.mean(logits.argmax(-1) == validation.labels))
    assert records[0].accuracy < last.accuracy <= 1
    assert last.seconds_left == 0
    np.testing.assert_allclose(records[2].seconds_left, 3 * 96 / records[2].images_per_second)
    without = []
    fit(epochs=1, on_epoch=without.append)
    assert without[0].validation_accuracy is without[0].validation_nll is None


def test_the_accuracy_is_that_of_the_training_batches():
    """One batch an epoch, so the first record is about the starting weights in training mode."""
    records, start, images = [], net(), dataset()
    fit(start, batch_size=96, on_epoch=records.append, epochs=1)
    logits, _ = start.apply(start.params, start.batch_stats, jnp.asarray(images.images), train=True)
    assert records[0].accuracy == np.mean(np.asarray(logits).argmax(-1) == images.labels)


def test_the_step_whose_loss_is_not_finite_is_named():
    exploding = optax.sgd(optax.piecewise_constant_schedule(0.01, {1: 1e38}))
    message = (
        r"training loss of ConvNet became nan in epoch 2 of 3; lower the learning rate \(step 1 of 2 in that epoch"
    )
    with pytest.raises(FloatingPointError, match=message):
        fit(optimizer=exploding, epochs=3, batch_size=48)


def test_weights_that_overflow_in_the_last_step_are_found():
    with pytest.raises(FloatingPointError, match=r"a parameter of Perceptron became infinite or nan in epoch 1 of 1"):
        fit(net(kind=Perceptron), optimizer=optax.sgd(jnp.inf), epochs=1, batch_size=96)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label_smoothing": 1.0}, r"label_smoothing=1.0; it must be 0 \(off\) or more, and less than 1"),
        ({"mixup": -0.1}, "mixup=-0.1; it must be 0"),
        ({"ema": 1.0}, "ema=1.0; it must be between 0 and 1"),
        ({"precision": "float16"}, "precision='float16'; it must be one of float32, bfloat16, or None"),
        ({"steps_per_dispatch": 0}, "steps_per_dispatch=0; it must be 1 or more, or None"),
        ({"checkpoint_every": 5}, "checkpoint_every=5 needs checkpoint_dir"),
        ({"checkpoint_every": 0, "checkpoint_dir": "x"}, "checkpoint_every=0; it must be 1 or more"),
        ({"checkpoints_kept": 0}, "checkpoints_kept=0; it must be 1 or more"),
    ],
    ids=str,
)
def test_options_outside_their_range_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        fit(**change)


def test_a_validation_set_of_the_wrong_kind_is_refused():
    with pytest.raises(ValueError, match="validation during training was given the test split of 'tiny'"):
        fit(validation=dataset(split="test"))
    with pytest.raises(ValueError, match="has no images to validate on"):
        fit(validation=dataset(0, split="validation"))
    grey = data.Dataset(np.zeros((4, 8, 8, 1), np.uint8), np.zeros(4, np.int32), ("a", "b", "c"), mean=(0,), std=(1,))
    with pytest.raises(ValueError, match="takes images of 3 channels, those of data set 'unnamed' have 1"):
        fit(dataset=grey)


# several models at once


def three():
    """Two pruned to different sparsities, and one that is not pruned."""
    starts = [net(seed) for seed in range(3)]
    pruned = [pruning.prune(start, method="weight", sparsity=s) for start, s in zip(starts, (0.3, 0.6), strict=False)]
    return [*(sparse for sparse, _ in pruned), starts[2]], [*(masks for _, masks in pruned), None]


@pytest.mark.parametrize("model_axis", training.MODEL_AXES)
def test_several_at_once_train_as_one_by_one(model_axis):
    starts, masks = three()
    keys = list(jax.random.split(jax.random.key(4), 3))
    validation, seen = dataset(40, seed=9, split="validation"), []
    options = {"epochs": 4, "batch_size": 32, "augment": data.random_crop_and_flip, "ema": 0.8}
    together = training.fit_many(
        starts,
        dataset(),
        optimizer=SGD,
        keys=keys,
        masks=masks,
        model_axis=model_axis,
        on_epoch=lambda k, record: seen.append((k, record)),
        validation=validation,
        **options,
    )
    for k, (start, mask, key) in enumerate(zip(starts, masks, keys, strict=True)):
        records = []
        alone = fit(start, masks=mask, key=key, validation=validation, on_epoch=records.append, **options)
        assert_close(together[k], alone, atol=0 if model_axis == "loop" else 1e-5)
        assert jax.tree.structure(together[k]) == jax.tree.structure(start)
        of_this = [record for index, record in seen if index == k]
        assert [record.epoch for record in of_this] == [1, 2, 3, 4]
        np.testing.assert_allclose([r.loss for r in of_this], [r.loss for r in records], atol=1e-5)
        assert [r.validation_accuracy for r in of_this] == [r.validation_accuracy for r in records]
    kernel, mask = together[1].params["conv"]["kernel"], masks[1]["conv"]["kernel"]
    np.testing.assert_array_equal(np.asarray(kernel)[np.asarray(mask) == 0], 0.0)


def test_other_shapes_are_stacked_apart_and_the_order_stays():
    starts = [net(0), net(1, features=5), net(2)]
    keys = jax.random.split(jax.random.key(4), 3)
    together = training.fit_many(starts, dataset(), optimizer=SGD, epochs=1, keys=keys, model_axis="vmap")
    for start, key, result in zip(starts, keys, together, strict=True):
        assert_close(result, fit(start, key=key, epochs=1, batch_size=64), atol=1e-5)


def test_a_stack_resumes_and_names_the_model_that_fails(tmp_path):
    starts, masks = three()
    keys = jax.random.split(jax.random.key(4), 3)
    options = {"optimizer": SGD, "keys": keys, "masks": masks, "model_axis": "vmap", "batch_size": 32}
    whole = training.fit_many(starts, dataset(), epochs=3, **options)
    training.fit_many(starts, dataset(), epochs=1, checkpoint_dir=tmp_path, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["model_000"]
    resumed = training.fit_many(starts, dataset(), epochs=3, checkpoint_dir=tmp_path, **options)
    for here, there in zip(resumed, whole, strict=True):
        assert_close(here, there, atol=0)
    overflowing = jax.tree.map(lambda leaf: jnp.full_like(leaf, 3e38), starts[1].params["head"])
    starts[1] = starts[1].replace(params=starts[1].params | {"head": overflowing})
    with pytest.raises(FloatingPointError, match=r"of ConvNet \(model 1 of 0..2\) became nan in epoch 1"):
        training.fit_many(starts, dataset(), epochs=1, **options)


def test_bad_arguments_for_several_are_refused():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="no classifier was given"):
        training.fit_many([], dataset(), optimizer=SGD, epochs=1, keys=[])
    with pytest.raises(ValueError, match=r"1 classifiers, 2 keys and 1 masks; give one key per classifier"):
        training.fit_many([net()], dataset(), optimizer=SGD, epochs=1, keys=[key, key])
    with pytest.raises(ValueError, match="unknown model_axis 'scan'; known: loop, vmap"):
        training.fit_many([net()], dataset(), optimizer=SGD, epochs=1, keys=[key], model_axis="scan")
    with pytest.raises(TypeError, match="learning_rate"):
        training.fit_many([net()], dataset(), optimizer=SGD, epochs=1, keys=[key], learning_rate=0.1)
    with pytest.raises(ValueError, match="training was given the test split"):
        training.fit_many([net()], dataset(split="test"), optimizer=SGD, epochs=1, keys=[key])
    start = net()
    assert training.fit_many([start], dataset(), optimizer=SGD, epochs=0, keys=[key])[0] is start
