"""The forward pass: pieces, and convolutions in the form that is fast on CPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from jaxprune import models
from jaxprune.models import cpu_convolution

LAYOUT = ("NHWC", "HWIO", "NHWC")


def arguments(rng, *, size=(6, 8), inputs=3, outputs=5, kernel=(3, 3)):
    x = jnp.asarray(rng.normal(size=(2, *size, inputs)), jnp.float32)
    return x, jnp.asarray(rng.normal(size=(*kernel, inputs, outputs)), jnp.float32)


def options(x, kernel, **changes):
    plain = {"dimension_numbers": lax.conv_dimension_numbers(x.shape, kernel.shape, LAYOUT)}
    return (
        plain | {"lhs_dilation": (1, 1), "rhs_dilation": (1, 1), "feature_group_count": 1, "precision": None} | changes
    )


@pytest.mark.parametrize("padding", ["SAME", [(1, 1), (1, 1)]], ids=str)
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (3, 16), (4, 7), (16, 16)])
def test_pairs_of_pixels_give_the_convolution(rng, padding, inputs, outputs):
    x, kernel = arguments(rng, inputs=inputs, outputs=outputs)
    check_evaluation_form(x, kernel, padding, atol=2e-5)


def check_evaluation_form(x, kernel, padding, *, atol):
    """Compares with NumPy in float64; and the convolution must have been replaced at all."""

    def ours(x, kernel):
        return cpu_convolution.evaluation_convolution(x, kernel, (1, 1), padding, **options(x, kernel))

    _, height, width, _ = x.shape
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifts = ((i, j) for i in range(3) for j in range(3))
    expected = sum(padded[:, i : i + height, j : j + width] @ np.asarray(kernel[i, j], np.float64) for i, j in shifts)
    np.testing.assert_allclose(ours(x, kernel), expected, atol=atol)
    assert "platform_index" in str(jax.make_jaxpr(ours)(x, kernel))


@pytest.mark.parametrize("padding", ["SAME", [(1, 1), (1, 1)]], ids=str)
@pytest.mark.parametrize(("size", "inputs", "outputs"), [((8, 8), 32, 32), ((6, 14), 40, 33)])
def test_winograds_form_gives_the_convolution(rng, padding, size, inputs, outputs):
    x, kernel = arguments(rng, size=size, inputs=inputs, outputs=outputs)
    check_evaluation_form(x, kernel, padding, atol=1e-4)  # of values about 17


def test_winograds_form_is_as_exact_as_rounding_allows_on_large_activations(rng):
    x, kernel = arguments(rng, size=(16, 16), inputs=64, outputs=64)
    x = jnp.maximum(x + 3, 0)  # what follows a ReLU: all of one sign, so that differences of pixels cancel
    check_evaluation_form(x, kernel, "SAME", atol=2e-6 * float(jnp.sum(x[0, :3, :3, :]) / 9))


def test_gradients_are_those_of_the_convolution(rng):
    x, kernel = arguments(rng)
    same = options(x, kernel)
    for function in (lax.conv_general_dilated, cpu_convolution.evaluation_convolution):
        gradient = jax.grad(lambda x, k, f=function: jnp.sum(f(x, k, (1, 1), "SAME", **same) ** 2), argnums=(0, 1))
        if function is lax.conv_general_dilated:
            expected = gradient(x, kernel)
    for actual, other in zip(gradient(x, kernel), expected, strict=True):
        np.testing.assert_allclose(actual, other, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("padding", ["SAME", [(1, 1), (1, 1)]], ids=str)
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 4)])
@pytest.mark.parametrize("function", [cpu_convolution.training_convolution, cpu_convolution.evaluation_convolution])
def test_a_small_map_is_a_product_of_patches(rng, function, size, padding):
    x, kernel = arguments(rng, size=size, inputs=40, outputs=48)
    how = options(x, kernel)

    def plain(x, k):
        return lax.conv_general_dilated(x, k, (1, 1), padding, **how)

    def ours(x, k):
        return function(x, k, (1, 1), padding, **how)

    assert "platform_index" in str(jax.make_jaxpr(ours)(x, kernel))
    np.testing.assert_allclose(ours(x, kernel), plain(x, kernel), atol=1e-4)
    expected, actual = (jax.grad(lambda x, k, f=f: jnp.sum(jnp.sin(f(x, k))), (0, 1))(x, kernel) for f in (plain, ours))
    np.testing.assert_allclose(actual[0], expected[0], atol=1e-3)
    np.testing.assert_allclose(actual[1], expected[1], atol=1e-3)


@pytest.mark.parametrize(
    ("shape", "strides", "padding", "changes"),
    [
        ({}, (2, 2), "SAME", {}),
        ({}, (1, 1), "VALID", {}),
        ({"kernel": (5, 5)}, (1, 1), "SAME", {}),
        ({"kernel": (1, 1)}, (1, 1), "SAME", {}),
        ({"size": (6, 7)}, (1, 1), "SAME", {}),
        ({"inputs": 5, "outputs": 17}, (1, 1), "SAME", {}),
        ({"inputs": 17}, (1, 1), "SAME", {}),
        ({"size": (8, 9), "inputs": 32, "outputs": 32}, (1, 1), "SAME", {}),
        ({"size": (18, 18), "inputs": 32, "outputs": 32}, (1, 1), "SAME", {}),
        ({"size": (8, 8), "inputs": 31, "outputs": 32}, (1, 1), "SAME", {}),
        ({"size": (3, 2), "inputs": 17}, (1, 1), "SAME", {}),
        ({"size": (2, 2)}, (2, 2), "SAME", {}),
        ({"outputs": 33}, (1, 1), "SAME", {}),
        ({}, (1, 1), "SAME", {"rhs_dilation": (2, 2)}),
    ],
)
def test_other_convolutions_are_left_alone(rng, shape, strides, padding, changes):
    x, kernel = arguments(rng, **shape)
    how = options(x, kernel, **changes)
    expected = lax.conv_general_dilated(x, kernel, strides, padding, **how)
    np.testing.assert_array_equal(cpu_convolution.evaluation_convolution(x, kernel, strides, padding, **how), expected)


def test_a_grouped_convolution_is_left_alone(rng):
    x, kernel = arguments(rng, inputs=1, outputs=4)
    x = jnp.concatenate([x, x], axis=-1)
    how = options(x, kernel, feature_group_count=2)
    expected = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", **how)
    np.testing.assert_array_equal(cpu_convolution.evaluation_convolution(x, kernel, (1, 1), "SAME", **how), expected)


def test_a_users_own_module_gets_pairs_in_evaluation_mode_only():
    conv = nnx.Conv(3, 4, (3, 3), rngs=nnx.Rngs(0))
    module = nnx.Sequential(conv, lambda x: x.mean(axis=(1, 2)))
    net = models.from_nnx(module, mean=(0.5,) * 3, std=(0.2,) * 3, num_classes=4)
    x = jnp.asarray(np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3)), jnp.uint8)
    expected = module((x / 255 - 0.5) / 0.2)
    np.testing.assert_allclose(net.logits(x), expected, atol=1e-5)
    jaxprs = [
        str(jax.make_jaxpr(lambda x, m=mode: net.apply(net.params, {}, x, train=m)[0])(x)) for mode in (False, True)
    ]
    assert ["platform_index" in jaxpr for jaxpr in jaxprs] == [True, False]
    assert conv.conv_general_dilated is lax.conv_general_dilated  # the caller's module is not touched


@pytest.mark.parametrize("count", [1, 4, 5, 9, 11])
def test_pieces_are_equal_and_no_larger_than_asked_for(count):
    seen = []

    def double(x):
        seen.append(len(x))
        return 2 * x

    np.testing.assert_array_equal(models.map_batch(double, jnp.arange(count), 5), 2 * np.arange(count))
    assert set(seen) == {{1: 1, 4: 4, 5: 5, 9: 5, 11: 4}[count]}
