"""What a row calls its precision is what the convolutions and products of the program compute in."""

import collections
import dataclasses
import warnings
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxprune import data, evaluation, models, training

SCALE = {"mean": (0.5,) * 3, "std": (0.25,) * 3}
PIXELS = np.random.default_rng(0).integers(0, 256, (10, 16, 16, 3), dtype=np.uint8)
TEST = data.Dataset(PIXELS, np.arange(10, dtype=np.int32) % 5, tuple("abcde"), "own", "test")
TRAIN = dataclasses.replace(TEST, split="train")


def product_types(classifier, images, **how):
    """Counts the operand types of the products in the jaxpr of `apply`, those inside other operations included."""
    counts = collections.Counter()

    def walk(jaxpr):
        for equation in jaxpr.eqns:
            if equation.primitive.name in ("conv_general_dilated", "dot_general"):
                counts[tuple(str(operand.aval.dtype) for operand in equation.invars[:2])] += 1
            for inner in jax.extend.core.jaxprs_in_params(equation.params):
                walk(inner)

    def forward(params, batch_stats, images):
        return classifier.apply(params, batch_stats, images, **how)

    traced = jax.make_jaxpr(forward)(classifier.params, classifier.batch_stats, images)
    walk(traced.jaxpr)
    assert traced.out_avals[0].dtype == jnp.float32  # the logits
    return counts


@pytest.mark.parametrize("name", models.MODELS)
def test_every_architecture_computes_in_the_precision_that_it_says(name):
    options = {"head": "imagenet", "widths": {"hidden1": 8, "hidden2": 8}} if name == "vgg13_bn" else {}
    shapes = models.abstract_state(name, num_classes=5, **options)
    net = models.assemble(name, num_classes=5, **shapes, **SCALE, **options)
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.uint8)
    # The deepest take seconds to trace.
    for precision in ("bfloat16", *(["float32"] if len(jax.tree.leaves(shapes)) < 300 else [])):
        changed = models.in_precision(net, precision)
        assert set(product_types(changed, images)) == {(precision, precision)}
        assert models.precision_of(changed, (32, 32, 3)) == precision


class NnxNet(nnx.Module):
    """As people write it: a mixed-precision module, with a float32 head."""

    def __init__(self, rngs, dtype=None, head_dtype=None):
        self.conv1 = nnx.Conv(3, 32, (3, 3), dtype=dtype, rngs=rngs)
        self.bn = nnx.BatchNorm(32, dtype=dtype, rngs=rngs)
        self.conv2 = nnx.Conv(32, 32, (3, 3), dtype=dtype, rngs=rngs)
        self.head = nnx.Linear(32, 5, dtype=head_dtype, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.relu(self.conv2(nnx.relu(self.bn(self.conv1(x))))).mean((1, 2)))


class LinenNet(nn.Module):
    """In the style of Flax's own examples: a field `dtype` that every layer gets."""

    dtype: Any = jnp.float32

    def setup(self):
        self.norm = nn.BatchNorm(dtype=self.dtype)

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = self.norm(nn.Conv(4, (3, 3), dtype=self.dtype)(x), use_running_average=not train)
        x = nn.LayerNorm()(nn.Conv(4, (3, 3))(nn.relu(x))).mean((1, 2))
        return nn.Dense(5, dtype=self.dtype)(x)


def linen(**options):
    module = LinenNet(**options)
    return models.from_linen(module, jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 16, 16, 3))), **SCALE)


def nnx_net(*dtypes):
    return models.from_nnx(NnxNet(nnx.Rngs(0), *dtypes), **SCALE)


def half_weights():
    net = nnx_net()
    return net.replace(params=jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), net.params))


# How the network is made, and what its own precision is.
NETWORKS = {
    "nnx": (nnx_net, "float32"),
    "nnx with bfloat16 layers": (lambda: nnx_net(jnp.bfloat16, jnp.bfloat16), "bfloat16"),
    "nnx with a float32 head": (lambda: nnx_net(jnp.bfloat16, jnp.float32), "bfloat16 and float32"),
    "nnx with bfloat16 weights": (half_weights, "float32"),
    "linen": (linen, "float32"),
    "linen with bfloat16 layers": (lambda: linen(dtype=jnp.bfloat16), "bfloat16 and float32"),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_other_peoples_networks_compute_in_what_is_asked_for(kind):
    make, own = NETWORKS[kind]
    net = make()
    types = {precision: product_types(models.in_precision(net, precision), PIXELS) for precision in models.PRECISIONS}
    assert set(types["float32"]) == {("float32", "float32")}
    assert set(types["bfloat16"]) == {("bfloat16", "bfloat16")}
    assert types["bfloat16"].total() == 3
    assert " and ".join(sorted({each for pair in product_types(net, PIXELS) for each in pair})) == own
    for precision, truth in ((None, own), ("float32", "float32"), ("bfloat16", "bfloat16")):
        assert models.precision_of(models.in_precision(net, precision), PIXELS.shape[1:]) == truth


@pytest.mark.parametrize("kind", ["nnx with a float32 head", "linen"])
def test_rows_say_it_and_their_numbers_are_those_of_the_logits(kind):
    make, own = NETWORKS[kind]
    net, losses = make(), []
    for asked in (None, "bfloat16"):
        (row,) = evaluation.evaluate(net, TEST, corruptions=(), precision=asked)
        assert row["precision"] == (asked or own)
        log_probs = jax.nn.log_softmax(net.logits(PIXELS, precision=asked))
        loss = -log_probs[np.arange(10), TEST.labels].mean()
        np.testing.assert_allclose(row["negative_log_likelihood"], loss, rtol=5e-4)
        losses.append(loss)
    assert 0 < abs(losses[0] - losses[1]) < 0.02


def test_the_networks_own_dtype_is_kept_and_its_module_untouched():
    module = NnxNet(nnx.Rngs(0), jnp.bfloat16)
    net = models.from_nnx(module, **SCALE)
    models.in_precision(net, "float32").logits(PIXELS)
    module.eval()
    expected = module((PIXELS / 255.0 - 0.5).astype(np.float32) / 0.25)
    np.testing.assert_allclose(net.logits(PIXELS), expected, atol=0.02)
    linen_net = linen(dtype=jnp.bfloat16)
    before = product_types(linen_net, PIXELS)
    models.in_precision(linen_net, "float32").logits(PIXELS)
    assert product_types(linen_net, PIXELS) == before


class ByHand(nnx.Module):
    """A product that no layer computes, behind a constant of its own type."""

    def __init__(self, rngs):
        self.conv, self.weights = nnx.Conv(3, 4, (3, 3), rngs=rngs), nnx.Param(jnp.ones((4, 5)))

    def __call__(self, x):
        return (self.conv(x).mean((1, 2)) * np.ones((1, 4), np.float32)) @ self.weights[...]


def test_what_cannot_be_had_is_said_and_the_row_tells_the_truth():
    net = models.from_nnx(ByHand(nnx.Rngs(0)), **SCALE, num_classes=5)
    with pytest.warns(RuntimeWarning, match="'ByHand' computes in bfloat16 and float32 although precision='bfloat16'"):
        (row,) = evaluation.evaluate(net, TEST, corruptions=(), precision="bfloat16")
    assert row["precision"] == "bfloat16 and float32"


@pytest.mark.parametrize("make", [nnx_net, linen], ids=["nnx", "linen"])
def test_training_computes_in_it_too(make):
    start = make()
    half = models.in_precision(start, "bfloat16")
    assert set(product_types(half, PIXELS, train=True)) == {("bfloat16", "bfloat16")}
    assert product_types(half, PIXELS, train=True).total() == 3


def test_recalibration_and_logits_compute_in_it_too():
    start = nnx_net()
    measured = [training.recalibrate_batch_norm(start, TRAIN, precision=each) for each in (None, "bfloat16")]
    one, other = (jax.tree.leaves(net.batch_stats)[0] for net in measured)
    assert 0 < np.abs(one - other).max() < 0.05
    assert np.abs(start.logits(PIXELS) - start.logits(PIXELS, precision="bfloat16")).max() > 0


class Telling(NnxNet):
    """Notes the type of what follows its BatchNorm."""

    seen: ClassVar[list[str]] = []

    def __call__(self, x):
        x = self.bn(self.conv1(x))
        self.seen.append(str(x.dtype))
        return self.head(nnx.relu(self.conv2(nnx.relu(x))).mean((1, 2)))


def test_what_follows_a_batch_norm_is_bfloat16_in_an_evaluation():
    net = models.from_nnx(Telling(nnx.Rngs(0)), **SCALE)
    Telling.seen.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the argument's former name
        (row,) = evaluation.evaluate(net, TEST, corruptions=(), compute_dtype="bfloat16")
    assert (row["precision"], set(Telling.seen)) == ("bfloat16", {"bfloat16"})


def test_the_former_name_works_with_a_warning_and_not_beside_the_new_one():
    net = nnx_net()
    with pytest.warns(FutureWarning, match="compute_dtype is called precision now"):
        (row,) = evaluation.evaluate(net, TEST, corruptions=(), compute_dtype="bfloat16")
    assert row["precision"] == "bfloat16"
    how = {"optimizer": training.sgd(schedule="constant"), "epochs": 0, "key": jax.random.key(0)}
    with pytest.warns(FutureWarning, match="compute_dtype is called precision now"):
        training.fit(net, TRAIN, compute_dtype="bfloat16", **how)
    keys = jax.random.split(how.pop("key"), 1)
    with pytest.warns(FutureWarning, match="compute_dtype is called precision now"):
        training.fit_many([net], TRAIN, compute_dtype="bfloat16", keys=keys, **how)
    with pytest.raises(TypeError, match="precision='float32' and compute_dtype='bfloat16' are one argument"):
        evaluation.evaluate(net, TEST, corruptions=(), precision="float32", compute_dtype="bfloat16")
    with pytest.raises(ValueError, match="unknown precision 'float16'; known: float32, bfloat16"):
        net.logits(PIXELS, precision="float16")
