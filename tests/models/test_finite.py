"""A NaN or an infinity in a parameter or statistic is refused by name before anything is computed."""

import itertools
import json
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxprune import data, evaluation, models, pruning, training

VALUES = (np.nan, np.inf, -np.inf)
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
TEST = data.Dataset(PIXELS, np.arange(6, dtype=np.int32) % 5, tuple("abcde"), "own", "test")
TRAIN = data.Dataset(PIXELS, TEST.labels, TEST.class_names, "own", "train")
SCALE = {"mean": (0.5,) * 3, "std": (0.25,) * 3}
# Deep networks repeat their blocks: of their arrays so many, evenly spread, are enough.
MOST_ARRAYS = 80


class NnxNet(nnx.Module):
    image_size = 32

    def __init__(self, rngs):
        self.conv, self.bn = nnx.Conv(3, 4, (3, 3), strides=4, rngs=rngs), nnx.BatchNorm(4, rngs=rngs)
        self.head = nnx.Linear(4, 5, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.relu(self.bn(self.conv(x))).mean((1, 2)))


class LinenNet(nn.Module):
    image_size = 32

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.BatchNorm(use_running_average=not train)(nn.Conv(4, (3, 3), strides=4)(x))
        return nn.Dense(5)(nn.relu(x).mean((1, 2)))


def small():
    return models.create("resnet8", num_classes=5, key=jax.random.key(0), stage_widths=(2, 2, 2), **SCALE)


def linen():
    return models.from_linen(
        LinenNet(), jax.jit(LinenNet().init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3))), **SCALE
    )


def masked():
    return pruning.prune(small(), method="weight", sparsity=0.5)[0]


def compact():
    return pruning.compact(*pruning.prune(small(), method="filter_l1", sparsity=0.5, layers="all"))


KINDS = {
    "dense": small,
    "masked": masked,
    "compact": compact,
    "linen": linen,
    "nnx": lambda: models.from_nnx(NnxNet(nnx.Rngs(0)), **SCALE),
}


def broken_copies(net, most=None):
    """Yields copies with one bad value in one leaf, the values in turn, and the name of that leaf."""
    values = itertools.cycle(VALUES)
    for part in ("params", "batch_stats", "mean", "std"):
        leaves, structure = jax.tree_util.tree_flatten_with_path(getattr(net, part))
        for place, (path, leaf) in list(enumerate(leaves))[:: 1 if most is None else -(-len(leaves) // most)]:
            changed = np.array(leaf)
            changed.flat[-1] = next(values)
            others = [changed if place == index else other for index, (_, other) in enumerate(leaves)]
            yield part + jax.tree_util.keystr(path), net.replace(**{part: jax.tree.unflatten(structure, others)})


def assert_refused(refusing, name):
    with pytest.raises(ValueError, match=f"is not finite: {re.escape(name)} holds [01] NaN and [01] infinities"):
        refusing()


@pytest.mark.parametrize("kind", KINDS)
def test_one_bad_value_in_any_array_of_any_kind_of_network_is_refused_by_name(kind):
    net = KINDS[kind]()
    names = set()
    for name, broken in broken_copies(net):
        assert_refused(lambda broken=broken: evaluation.evaluate({"net": broken}, TEST, corruptions=()), name)
        names.add(name)
    assert len(names) == len(jax.tree.leaves((net.params, net.batch_stats))) + 2
    models.check_finite(net, "the network")


@pytest.mark.parametrize("name", models.MODELS)
def test_one_bad_value_in_any_array_of_any_architecture_is_refused_by_name(name):
    shapes = models.abstract_state(name, num_classes=5)
    net = models.assemble(name, num_classes=5, **shapes, **SCALE)
    # Of every leaf two values: the numbers are looked at, not the shapes, and nothing is computed.
    net = jax.tree.map(lambda leaf: np.zeros(2, np.float32), net)
    for leaf, broken in broken_copies(net, MOST_ARRAYS):
        assert_refused(lambda broken=broken: models.check_finite(broken, "the network"), leaf)


@pytest.mark.parametrize("value", VALUES)
def test_the_message_says_what_where_and_how_many(value):
    net = small()
    kernel = net.params["conv"]["kernel"].at[0, 0, 0, 0].set(value)
    broken = net.replace(params=net.params | {"conv": {"kernel": kernel}})
    nans = int(np.isnan(value))
    message = (
        rf"^classifier 'pruned' is not finite: params\['conv'\]\['kernel'\] holds {nans} NaN and {1 - nans} infinit"
    )
    with pytest.raises(ValueError, match=message + "ies in 54 values; it is the result of"):
        evaluation.evaluate({"dense": net, "pruned": broken}, TEST, corruptions=())


def refusals(net, tmp_path):
    sgd = training.sgd(schedule="constant")
    yield lambda: evaluation.evaluate(net, TEST, corruptions=())
    yield lambda: models.export_stablehlo(tmp_path / "net", net)
    yield lambda: training.fit(net, TRAIN, optimizer=sgd, epochs=1, key=jax.random.key(0))
    yield lambda: training.fit_many(
        [small(), net], TRAIN, optimizer=sgd, epochs=1, keys=jax.random.split(jax.random.key(0))
    )
    yield lambda: training.recalibrate_batch_norm(net, TRAIN)


@pytest.mark.parametrize("part", ["mean", "temperature", "batch_stats"])
def test_every_room_refuses_it(part, tmp_path):
    net = small()
    changes = {"mean": net.mean.at[1].set(np.nan), "temperature": jnp.float32(np.inf)}
    changes["batch_stats"] = jax.tree.map(lambda leaf: leaf * np.nan, net.batch_stats)
    net = net.replace(**{part: changes[part]})
    for refusing in refusals(net, tmp_path):
        with pytest.raises(ValueError, match=rf"is not finite: {part}.* holds "):
            refusing()
    assert not list(tmp_path.iterdir())


def test_bfloat16_weights_are_looked_at_and_counters_and_keys_are_not():
    net = models.from_nnx(nnx.Sequential(NnxNet(nnx.Rngs(0)), nnx.Dropout(0.5, rngs=nnx.Rngs(0))), **SCALE)
    net = net.replace(params=jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), net.params))
    models.check_finite(net, "the network")
    with pytest.raises(ValueError, match=r"\['bn'\]\['bias'\] holds 4 NaN"):
        models.check_finite(net.replace(params=jax.tree.map(lambda leaf: leaf * np.nan, net.params)), "the network")


@pytest.mark.parametrize(("value", "model_axis"), [(-np.inf, "loop"), (np.nan, "vmap")])
def test_a_study_marks_it_and_its_numbers_are_nan_whatever_xla_does(value, model_axis, tmp_path):
    net = small()
    # Minus infinity before a ReLU is 0 behind it: the logits alone are finite.
    bias = {"scale": net.params["bn"]["scale"], "bias": net.params["bn"]["bias"].at[0].set(value)}
    broken = net.replace(params=net.params | {"bn": bias})
    with pytest.warns(RuntimeWarning, match=r"'broken' returned NaN .* params\['bn'\]\['bias'\] holds"):
        marked, good = evaluation.evaluate(
            {"broken": broken, "good": net},
            TEST,
            corruptions=(),
            model_axis=model_axis,
            keep_examples=tmp_path,
            non_finite="mark",
        )
    assert (marked["finite"], marked["accuracy"], good["finite"]) == (False, None, True)
    assert json.loads(json.dumps(marked, allow_nan=False)) == marked
    (path,) = (tmp_path / "broken").iterdir()
    assert np.isnan(evaluation.load_examples(path).negative_log_likelihood).all()
    assert np.isnan(broken.logits(PIXELS)).all()
    assert np.isfinite(net.logits(PIXELS)).all()


def test_an_unknown_wish_is_refused():
    with pytest.raises(ValueError, match="unknown non_finite 'ignore'; known: refuse, mark"):
        evaluation.evaluate(small(), TEST, corruptions=(), non_finite="ignore")


class Overflowing(nn.Module):
    """Keeps the largest sum of pixels, which its logits do not depend on, and overflows doing so."""

    @nn.compact
    def __call__(self, x, train=False):
        largest = self.variable("batch_stats", "largest", lambda: jnp.zeros(()))
        if train:
            largest.value = jnp.maximum(largest.value, jnp.max(jnp.abs(x)) * 1e30 * 1e30)
        return nn.Dense(5)(x.mean((1, 2)))


def test_a_statistic_that_overflows_in_training_is_told():
    variables = Overflowing().init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    net = models.from_linen(Overflowing(), variables, **SCALE)
    sgd = training.sgd(schedule="constant")
    message = "a batch statistic of Overflowing became infinite or nan in epoch 1 of 1"
    with pytest.raises(FloatingPointError, match=message):
        training.fit(net, TRAIN, optimizer=sgd, epochs=1, key=jax.random.key(0))
