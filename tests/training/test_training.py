import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxprune import data, models, pruning, training
from jaxprune.training import steps

MEAN, STD = (0.3055,) * 3, (0.3240,) * 3


@pytest.fixture(scope="module")
def train():
    return data.load("digits", split="train", limit=128)


@pytest.fixture(scope="module")
def net():
    return models.create("resnet8", num_classes=10, key=jax.random.key(0), stage_widths=(4, 6, 8), mean=MEAN, std=STD)


SGD = training.sgd(learning_rate=0.05, schedule="constant")


def fit(net, train, **changes):
    arguments = {"optimizer": SGD, "epochs": 2, "batch_size": 32, "key": jax.random.key(1)} | changes
    return training.fit(net, train, **arguments)


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, (one.params, one.batch_stats), (other.params, other.batch_stats))


def test_training_lowers_the_loss_and_leaves_its_start_alone(net, train):
    before = jax.tree.map(np.array, net.params)
    losses = []
    trained = fit(net, train, epochs=10, on_epoch=losses.append)
    assert [record.epoch for record in losses] == list(range(1, 11))
    assert losses[-1].loss < 0.8 * losses[0].loss
    jax.tree.map(np.testing.assert_array_equal, net.params, before)
    assert np.abs(trained.batch_stats["bn"]["mean"] - net.batch_stats["bn"]["mean"]).max() > 1e-3


def test_the_same_arguments_give_the_same_bits(net, train):
    assert_equal(fit(net, train, augment=data.random_crop), fit(net, train, augment=data.random_crop))


def test_a_second_network_does_not_compile_again(net, train):
    fit(net, train)
    before = steps.train_steps._cache_size()
    fit(net.replace(params=jax.tree.map(lambda leaf: leaf * 0.9, net.params)), train)
    assert steps.train_steps._cache_size() == before


def test_one_step_equals_the_update_written_out(net, train):
    """One full-batch step of SGD with momentum and weight decay: p - lr * (grad + decay * p)."""
    optimizer = training.sgd(learning_rate=0.1, weight_decay=0.01, schedule="constant")
    stepped = fit(net, train, optimizer=optimizer, epochs=1, batch_size=128)

    @jax.jit
    @jax.grad
    def gradient(params):
        logits, _ = net.apply(params, net.batch_stats, jnp.asarray(train.images), train=True)
        return optax.softmax_cross_entropy_with_integer_labels(logits, train.labels).mean()

    expected = jax.tree.map(lambda p, g: p - 0.1 * (g + 0.01 * p), net.params, gradient(net.params))
    jax.tree.map(lambda a, e: np.testing.assert_allclose(a, e, atol=2e-5), stepped.params, expected)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_pruned_weights_stay_exactly_zero_for_50_steps(net, train, name):
    optimizer = {"sgd": SGD, "adamw": optax.adamw(1e-2, weight_decay=0.1)}[name]
    sparse, masks = pruning.prune(net, method="weight", sparsity=0.7)
    trained = fit(sparse, train, optimizer=optimizer, epochs=13, masks=masks)  # 52 steps

    def check(mask, before, after):
        if mask is None:
            return
        np.testing.assert_array_equal(np.asarray(after)[np.asarray(mask) == 0], 0.0)
        kept = np.asarray(mask) == 1
        assert (np.asarray(after)[kept] != np.asarray(before)[kept]).any()

    jax.tree.map(check, masks, sparse.params, trained.params, is_leaf=lambda leaf: leaf is None)


def test_masks_apply_to_a_network_that_was_not_yet_pruned(net, train):
    _, masks = pruning.prune(net, method="weight", sparsity=0.5)
    trained = fit(net, train, epochs=1, masks=masks)
    kernel, mask = trained.params["conv"]["kernel"], masks["conv"]["kernel"]
    assert (np.asarray(kernel)[np.asarray(mask) == 0] == 0).all()


class NnxNet(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 4, (3, 3), strides=4, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(4, 10, rngs=rngs)

    def __call__(self, x):
        return self.head(self.dropout(nnx.relu(self.conv(x)).mean((1, 2))))


class LinenNet(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.BatchNorm(use_running_average=not train)(nn.Conv(4, (3, 3), strides=4)(x))
        return nn.Dense(10)(nn.Dropout(0.5, deterministic=not train)(nn.relu(x).mean((1, 2))))


@pytest.mark.parametrize("kind", ["nnx", "linen"])
def test_any_module_trains_with_masks_and_dropout(train, kind):
    if kind == "nnx":
        net = models.from_nnx(NnxNet(nnx.Rngs(0)), mean=MEAN, std=STD)
    else:
        variables = LinenNet().init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
        net = models.from_linen(LinenNet(), variables, mean=MEAN, std=STD)
    sparse, masks = pruning.prune(net, method="weight", sparsity=0.5)
    trained = fit(sparse, train, masks=masks)
    kernel, mask = (next(leaf for leaf in jax.tree.leaves(tree) if leaf.ndim == 4) for tree in (trained.params, masks))
    assert (np.asarray(kernel) == 0).sum() == (np.asarray(mask) == 0).sum() == 54
    assert (np.asarray(trained.logits(train.images)) != np.asarray(sparse.logits(train.images))).any()


def test_zero_epochs_change_nothing(net, train):
    assert fit(net, train, epochs=0) is net


def test_the_schedules_follow_their_definition():
    def rate(step, **options):
        optimizer = training.sgd(learning_rate=1.0, momentum=0.0, weight_decay=0.0, num_steps=160, **options)
        state = optimizer.init(jnp.zeros(()))
        for _ in range(step + 1):
            update, state = optimizer.update(jnp.ones(()), state, jnp.zeros(()))
        return -float(update)

    assert [round(rate(step, schedule="step"), 4) for step in (0, 79, 80, 119, 120)] == [1.0, 1.0, 0.1, 0.1, 0.01]
    np.testing.assert_allclose(rate(80, schedule="cosine"), 0.5, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": -1}, "epochs=-1; it must be a whole number, 0 or more"),
        ({"batch_size": 0}, "batch_size=0; it must be a whole number, 1 or more"),
    ],
)
def test_bad_numbers_are_refused(net, train, change, message):
    with pytest.raises(ValueError, match=message):
        fit(net, train, **change)


def test_the_test_split_and_other_classes_are_refused(net, train):
    with pytest.raises(ValueError, match="training was given the test split of 'digits'"):
        fit(net, data.load("digits", split="test", limit=64))
    with pytest.raises(ValueError, match="has no images to train on"):
        fit(net, train.take(0))
    other = models.create("resnet8", num_classes=3, key=jax.random.key(0), stage_widths=(4, 4, 4))
    with pytest.raises(ValueError, match="create the classifier with num_classes=10"):
        fit(other, train)


def test_a_loss_that_is_not_finite_stops_training(net, train):
    overflowing = jax.tree.map(lambda leaf: jnp.full_like(leaf, 3e38), net.params["head"])
    broken = net.replace(params=net.params | {"head": overflowing})
    with pytest.raises(FloatingPointError, match="became nan in epoch 1 of 2; lower the learning rate"):
        fit(broken, train)


@pytest.mark.parametrize("options", [{"schedule": "linear"}, {"schedule": "step"}], ids=str)
def test_bad_schedules_are_refused(options):
    with pytest.raises(ValueError, match="unknown schedule 'linear'; known: constant|needs num_steps >= 1"):
        training.sgd(**options)
