import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxprune import data, models, training

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


class NnxNet(nnx.Module):
    def __init__(self, momentum):
        rngs = nnx.Rngs(0)
        self.bn = nnx.BatchNorm(3, momentum=momentum, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(3, 5, rngs=rngs)

    def __call__(self, x):
        return self.head(self.dropout(self.bn(x).mean((1, 2))))


class LinenNet(nn.Module):
    momentum: float

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.BatchNorm(use_running_average=not train, momentum=self.momentum)(x)
        return nn.Dense(5)(x.mean((1, 2)))


def classifier(kind, momentum):
    if kind == "nnx":
        return models.from_nnx(NnxNet(momentum), mean=MEAN, std=STD)
    module = LinenNet(momentum)
    variables = module.init(jax.random.key(0), np.zeros((1, 4, 4, 3), np.float32))
    return models.from_linen(module, variables, mean=MEAN, std=STD)


def images(count):
    return np.random.default_rng(1).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)


@pytest.mark.parametrize("momentum", [0.9, 0.999, 0.0])
@pytest.mark.parametrize("kind", ["nnx", "linen"])
def test_the_statistics_of_the_first_layer_are_those_of_all_images(kind, momentum):
    net = classifier(kind, momentum)
    pixels = images(12)
    recalibrated = training.recalibrate_batch_norm(net, pixels, batch_size=4)
    normalised = (pixels / 255 - MEAN) / STD
    stats = recalibrated.batch_stats["bn"] if kind == "nnx" else recalibrated.batch_stats["batch_stats"]["BatchNorm_0"]
    np.testing.assert_allclose(stats["mean"], normalised.mean((0, 1, 2)), atol=1e-5)
    np.testing.assert_allclose(stats["var"], normalised.var((0, 1, 2)), rtol=1e-5)
    assert jax.tree.structure(recalibrated) == jax.tree.structure(net)
    changed = jax.tree.map(lambda a, b: bool((a != b).any()), recalibrated.params, net.params)
    assert not any(jax.tree.leaves(changed))


def test_images_after_the_last_full_batch_are_not_used():
    net, pixels = classifier("nnx", 0.9), images(11)
    long, short = (training.recalibrate_batch_norm(net, part, batch_size=4) for part in (pixels, pixels[:8]))
    np.testing.assert_array_equal(long.batch_stats["bn"]["mean"], short.batch_stats["bn"]["mean"])


def test_recalibration_undoes_wrong_statistics_of_a_whole_network():
    net = models.create("resnet8", num_classes=10, key=jax.random.key(0), stage_widths=(4, 4, 4))
    train = data.load("digits", split="train", limit=64)
    right = training.recalibrate_batch_norm(net, train, batch_size=64)
    wrong = right.replace(batch_stats=jax.tree.map(lambda leaf: leaf * 3 + 1, right.batch_stats))
    again = training.recalibrate_batch_norm(wrong, train, batch_size=64)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), again, right)
    # One batch of all images: evaluation mode now gives what training mode gives.
    in_training, _ = net.apply(net.params, net.batch_stats, jnp.asarray(train.images), train=True)
    np.testing.assert_allclose(right.logits(train.images), in_training, atol=2e-4)


def test_what_recalibration_refuses():
    net = classifier("nnx", 0.9)
    with pytest.raises(ValueError, match="recalibrate_batch_norm was given the test split"):
        training.recalibrate_batch_norm(net, data.load("digits", split="test", limit=4))
    with pytest.raises(ValueError, match="0 images, batch_size=250"):
        training.recalibrate_batch_norm(net, images(0))
    with pytest.raises(ValueError, match="NnxNet keeps no BatchNorm statistics"):
        training.recalibrate_batch_norm(net.replace(batch_stats={}), images(4))


def test_the_penalty_shrinks_unused_scales_to_zero_and_only_them():
    params = {"bn": {"scale": jnp.array([0.5, -0.5, 0.5]), "bias": jnp.ones(3)}, "kernel": jnp.ones((2, 2))}
    optimizer = training.sgd(learning_rate=0.1, momentum=0.0, weight_decay=0.0, schedule="constant", scale_penalty=0.2)
    # The loss needs the third scale: its gradient there balances the penalty.
    gradients = {"bn": {"scale": jnp.array([0.0, 0.0, -0.2]), "bias": jnp.zeros(3)}, "kernel": jnp.zeros((2, 2))}
    state = optimizer.init(params)
    for _ in range(30):
        updates, state = optimizer.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(params["bn"]["scale"], [0, 0, 0.5], atol=0.021)
    assert (params["bn"]["bias"] == 1).all()
    assert (params["kernel"] == 1).all()


def test_what_the_penalty_refuses():
    with pytest.raises(ValueError, match="strength is -1; give a number >= 0"):
        training.slimming_penalty(-1)
    penalty = training.slimming_penalty(0.1)
    with pytest.raises(ValueError, match="found no BatchNorm scale"):
        penalty.init({"kernel": jnp.ones(2)})
    with pytest.raises(ValueError, match="needs the parameters"):
        penalty.update({"scale": jnp.ones(2)}, penalty.init({"scale": jnp.ones(2)}))
