"""What `corrupt` promises for every corruption: the same pixels however it is called, one compilation, clear errors."""

import contextlib
import inspect
import pathlib
import re
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxprune import corruptions
from jaxprune.corruptions import CORRUPTIONS, corrupt

_DEVICES = 8
_STOCHASTIC = [name for name in CORRUPTIONS if CORRUPTIONS[name].draw is not CORRUPTIONS["contrast"].draw]

# What changes how JAX computes with numbers, and what it makes of keys.
_SETTINGS = {
    "x64": lambda: jax.enable_x64(True),
    "strict": lambda: jax.numpy_dtype_promotion("strict"),
    "partitionable": lambda: jax.threefry_partitionable(not jax.config.jax_threefry_partitionable),
    "rbg": lambda: jax.default_prng_impl("rbg"),
}


@contextlib.contextmanager
def _settings(*names):
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(_SETTINGS[name]())
        yield


_compilations = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, duration, **_: _compilations.append(event) if event.endswith("backend_compile_duration") else None
)


@pytest.fixture(scope="module")
def key():
    return jax.random.key(3)


@pytest.mark.parametrize("name", CORRUPTIONS)
class TestEveryCorruption:
    """All on batches of one shape, so that each corruption is compiled once for the class."""

    def test_is_compiled_once_for_all_severities_and_keys(self, name, photographs):
        corrupt(jax.random.key(0), photographs, name=name, severity=1)
        before = len(_compilations)
        for severity in range(1, 6):
            corrupt(jax.random.key(severity), photographs, name=name, severity=severity, first_index=severity)
        assert len(_compilations) == before

    def test_changes_the_image_and_keeps_its_shape(self, name, photographs, key):
        for severity in range(1, 6):
            result = corrupt(key, photographs, name=name, severity=severity)
            assert result.dtype == jnp.uint8
            assert result.shape == photographs.shape
            changed = (np.asarray(result) != photographs).any(axis=(1, 2, 3))
            assert changed.all()

    def test_depends_on_the_index_and_not_on_the_batch(self, name, photographs, key):
        whole = np.asarray(corrupt(key, photographs, name=name, severity=4))
        later = corrupt(key, np.roll(photographs, -3, axis=0), name=name, severity=4, first_index=3)
        np.testing.assert_array_equal(later[:5], whole[3:])

    def test_draws_depend_on_the_key(self, name, photographs, key):
        first = np.asarray(corrupt(key, photographs, name=name, severity=5))
        second = np.asarray(corrupt(jax.random.key(4), photographs, name=name, severity=5))
        assert (first != second).any() == (name in _STOCHASTIC)

    def test_is_the_same_with_an_rbg_key(self, name, photographs, key):
        expected = corrupt(key, photographs, name=name, severity=2)
        actual = corrupt(jax.random.key(3, impl="rbg"), photographs, name=name, severity=2)
        np.testing.assert_array_equal(actual, expected)

    def test_computes_no_64_bit_floats_under_any_setting_of_jax_s_numbers(self, name, photographs):
        with _settings(*_SETTINGS):
            program = jax.jit(lambda key: corrupt(key, photographs, name=name, severity=4)).lower(jax.random.key(3))
        assert not re.search(r"tensor<(\d+x)+f64>", program.as_text())

    def test_is_the_same_image_by_image_under_vmap(self, name, photographs, key):
        expected = corrupt(key, photographs, name=name, severity=3)

        def corrupt_one(image, index):
            return corrupt(key, image[None], name=name, severity=3, first_index=index)[0]

        actual = jax.vmap(corrupt_one)(photographs, jnp.arange(len(photographs)))
        np.testing.assert_array_equal(actual, expected)

    def test_is_the_same_under_pmap_shard_map_and_sharded_jit(self, name, photographs, key):
        images = np.concatenate([photographs, photographs[::-1]])
        expected = corrupt(key, images, name=name, severity=3)
        per_device = len(images) // _DEVICES

        def shard(images, device):
            return corrupt(key, images, name=name, severity=3, first_index=device * per_device)

        mapped = jax.pmap(shard)(images.reshape(_DEVICES, per_device, *images.shape[1:]), jnp.arange(_DEVICES))
        np.testing.assert_array_equal(mapped.reshape(images.shape), expected)

        mesh = Mesh(np.array(jax.devices()), "batch")
        spec = PartitionSpec("batch")
        sharded = jax.jit(
            jax.shard_map(
                lambda images: shard(images, jax.lax.axis_index("batch")), mesh=mesh, in_specs=spec, out_specs=spec
            )
        )(images)
        np.testing.assert_array_equal(sharded, expected)

        placed = jax.device_put(images, NamedSharding(mesh, spec))
        np.testing.assert_array_equal(corrupt(key, placed, name=name, severity=3), expected)


def test_severities_and_keys_can_be_mapped_over(photographs):
    severities, keys = jnp.arange(1, 6), jax.random.split(jax.random.key(0), 5)
    mapped = jax.vmap(lambda severity, key: corrupt(key, photographs, name="fog", severity=severity))(severities, keys)
    for severity, key, actual in zip(severities, keys, mapped, strict=True):
        expected = corrupt(key, photographs, name="fog", severity=int(severity))
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_any_batch_size_gives_the_same_pixels(name, photographs, key):
    images = np.resize(photographs, (1000, *photographs.shape[1:]))
    expected = np.asarray(corrupt(key, images, name=name, severity=5))
    for batch in (1, 7, 64):
        first = 1000 - batch
        actual = corrupt(key, images[first:], name=name, severity=5, first_index=first)
        np.testing.assert_array_equal(actual, expected[first:], err_msg=f"batch of {batch}")


def test_is_composed_of_draw_and_apply(photographs, key):
    image = jnp.asarray(photographs[2], jnp.float32) / 255
    for name in ("gaussian_noise", "brightness"):
        draws = CORRUPTIONS[name].draw(jax.random.fold_in(key, 2), image, 5, "cifar")
        by_hand = corruptions.to_uint8(CORRUPTIONS[name].apply(image, draws, 5, "cifar"))
        difference = np.abs(np.asarray(corrupt(key, photographs, name=name, severity=5)[2], int) - by_hand)
        assert difference.max() <= 1
        assert difference.mean() < 0.05


def test_works_inside_jit_with_everything_traced(photographs, key):
    traced = jax.jit(
        lambda key, images, severity, index: corrupt(
            key, images, name="gaussian_noise", severity=severity, first_index=index
        )
    )
    expected = corrupt(key, photographs, name="gaussian_noise", severity=2, first_index=9)
    np.testing.assert_array_equal(traced(key, photographs, 2, 9), expected)


def test_takes_legacy_keys_and_the_rbg_default(photographs, key):
    expected = corrupt(key, photographs, name="gaussian_noise", severity=2)
    legacy = corrupt(jax.random.PRNGKey(3), photographs, name="gaussian_noise", severity=2)
    np.testing.assert_array_equal(legacy, expected)
    with jax.default_prng_impl("rbg"):
        for default in (jax.random.key(3), jax.random.PRNGKey(3)):
            actual = corrupt(default, photographs, name="gaussian_noise", severity=2)
            np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize(
    ("name", "settings"),
    [("fog", ["x64"]), ("glass_blur", ["strict"]), ("elastic_transform", _SETTINGS), ("shot_noise", _SETTINGS)],
)
def test_pixels_are_the_same_under_every_setting_of_jax_s_numbers(name, settings, photographs, key):
    expected = corrupt(key, photographs, name=name, severity=4)
    with _settings(*settings):
        actual = corrupt(jax.random.key(3), photographs, name=name, severity=np.int64(4), first_index=np.int64(0))
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("implementation", ["rbg", "unsafe_rbg", "threefry2x32"])
@pytest.mark.parametrize("partitionable", [False, True])
def test_each_generator_and_partitioning_gives_threefry_s_pixels(partitionable, implementation, photographs, key):
    expected = corrupt(key, photographs, name="gaussian_noise", severity=2)
    with jax.threefry_partitionable(partitionable), jax.default_prng_impl(implementation):
        for same in (jax.random.key(3), jax.random.PRNGKey(3)):
            np.testing.assert_array_equal(corrupt(same, photographs, name="gaussian_noise", severity=2), expected)


@pytest.mark.parametrize("name", ["gaussian_noise"])
def test_one_image_is_computed_in_float32_under_x64_too(name, photographs, key):
    image = photographs[0] / 255  # float64
    one, single = CORRUPTIONS[name], jnp.asarray(image, jnp.float32)
    expected = one.apply(single, one.draw(key, single, 4, "cifar"), 4, "cifar")
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        draws = one.draw(key, jnp.asarray(image), 4, "cifar")
        # Whoever brings draws of their own has them from NumPy, in its 64 bits.
        draws = jax.tree.map(lambda array: np.asarray(array, np.float64), draws)
        actual = one.apply(jnp.asarray(image), draws, 4, "cifar")
    assert actual.dtype == jnp.float32
    np.testing.assert_array_equal(actual, expected)


def test_truncation_is_the_identity_on_8_bit_values():
    values = jnp.arange(256, dtype=jnp.uint8)
    np.testing.assert_array_equal(jax.jit(lambda v: corruptions.to_uint8(v.astype(jnp.float32) / 255))(values), values)


@pytest.mark.parametrize("side", [(28, 28), (33, 47)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_grey_or_color(side, channels, key):
    images = np.random.default_rng(0).integers(0, 256, (2, *side, channels), dtype=np.uint8)
    for name in ("pixelate", "gaussian_blur", "brightness"):
        assert corrupt(key, images, name=name, severity=5).shape == images.shape


def test_presets_follow_the_longer_side(key):
    for side, preset in [(48, "cifar"), (49, "tiny_imagenet"), (96, "tiny_imagenet"), (97, "imagenet")]:
        images = np.full((1, 16, side, 3), 100, np.uint8)
        expected = corrupt(key, images, name="gaussian_noise", severity=5, preset=preset)
        np.testing.assert_array_equal(corrupt(key, images, name="gaussian_noise", severity=5), expected)


def test_an_empty_batch_stays_empty(key):
    empty = np.zeros((0, 32, 32, 3), np.uint8)
    assert corrupt(key, empty, name="contrast", severity=1).shape == empty.shape


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"severity": 0}, ValueError, "severity is 0; it must be from 1 to 5"),
        ({"severity": 6}, ValueError, "severity is 6; it must be from 1 to 5"),
        ({"severity": 2.0}, TypeError, "severity is 2.0, not an integer from 1 to 5"),
        ({"severity": True}, TypeError, "severity is True, not an integer"),
        ({"severity": "3"}, TypeError, "severity is '3', not an integer"),
        ({"name": "gausian_noise"}, ValueError, "did you mean 'gaussian_noise'"),
        ({"name": "gaussian_noise"[::-1]}, ValueError, "Choose from gaussian_noise, "),
        ({"name": None}, ValueError, "unknown corruption None"),
        ({"preset": "cifar10"}, ValueError, "unknown preset 'cifar10'; choose from cifar, tiny_imagenet, imagenet"),
        ({"first_index": -1}, ValueError, "first_index is -1; it must be from 0"),
        ({"key": 0}, TypeError, "key is int, not a random key; pass jax.random.key"),
        ({"key": 7}, TypeError, r"pass jax.random.key\(7\)"),
        ({"key": jnp.zeros(2)}, TypeError, "an array of float32, not a random key"),
        ({"key": np.random.default_rng(0)}, TypeError, "key is Generator, not a random key"),
        ({"key": None}, TypeError, "key is NoneType, not a random key"),
        ({"key": np.uint32(7)}, TypeError, "key is uint32, not a random key"),
        ({"key": jnp.uint32(7)}, TypeError, "key is an array of uint32, not a random key"),
        ({"key": np.zeros(3, np.uint32)}, ValueError, r"key has shape \(3,\); pass one key"),
        ({"severity": 2.5}, TypeError, "severity is 2.5, not an integer from 1 to 5"),
        ({"severity": None}, TypeError, "severity is None, not an integer"),
        ({"severity": np.array([1, 2])}, TypeError, "not an integer from 1 to 5"),
        ({"severity": jnp.asarray(True)}, TypeError, "not an integer from 1 to 5"),
        ({"name": ["fog", "snow"]}, ValueError, r"unknown corruption \['fog', 'snow'\]"),
        ({"name": ["fog"]}, ValueError, "did you mean 'fog'"),
        ({"preset": ["cifar"]}, ValueError, "unknown preset"),
        ({"preset": 32}, ValueError, "unknown preset 32"),
        ({"first_index": 1.5}, TypeError, "first_index is 1.5, not an integer"),
        ({"first_index": 2**31}, ValueError, "first_index is 2147483648; it must be from 0"),
        ({"jpeg": None}, ValueError, "unknown jpeg method None; choose from exact, float"),
    ],
)
def test_says_what_is_wrong_with_an_argument(change, error, message, photographs, key):
    arguments = {"key": key, "name": "contrast", "severity": 1} | change
    with pytest.raises(error, match=message) as raised:
        corrupt(arguments.pop("key"), photographs, **arguments)
    assert "\n" not in str(raised.value)


def test_a_quality_that_is_traced_is_refused_in_one_line(photographs, key):
    with pytest.raises(TypeError, match="^post_jpeg is traced.*pass an integer"):
        jax.jit(lambda quality: corrupt(key, photographs, name="contrast", severity=1, post_jpeg=quality))(85)


def test_the_signature_shows_the_types():
    annotations = {name: each.annotation for name, each in inspect.signature(corrupt).parameters.items()}
    assert set(annotations) == set(typing.get_type_hints(corrupt)) - {"return"}
    assert not [name for name, annotation in annotations.items() if annotation in (typing.Any, inspect.Parameter.empty)]
    assert annotations["name"] is str
    assert "UInt8" in str(annotations["images"])


def test_takes_one_key_only(photographs):
    with pytest.raises(ValueError, match="pass one key"):
        corrupt(jax.random.split(jax.random.key(0)), photographs, name="contrast", severity=1)


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (np.zeros((1, 32, 32, 3), np.float32), TypeError, "images are float32, not uint8"),
        ([[0]], TypeError, "images are list, not uint8"),
        (np.zeros((32, 32, 3), np.uint8), ValueError, r"shape \(32, 32, 3\), not \[batch, height, width, channels\]"),
        (np.zeros((1, 32, 32, 4), np.uint8), ValueError, "with 1 or 3 channels"),
        (np.zeros((1, 32, 3, 3), np.uint8), ValueError, "pixelate needs images of at least 4 x 4 pixels, not 32 x 3"),
        (np.ones((1, 32, 32, 3), np.float32), TypeError, r"\(255 \* images\).round\(\).astype\('uint8'\)"),
        (np.full((1, 8, 8, 3), 200.0), TypeError, "these run from 200 to 200, so images.round"),
        (jnp.full((1, 8, 8, 3), -1.5), TypeError, "these run from -1.5 to -1.5; undo their normalisation"),
        (np.zeros((1, 8, 8, 3), np.int64), TypeError, r"images are int64, not uint8; .*images.astype\('uint8'\)"),
        (np.zeros((1, 8, 8, 3), bool), TypeError, "images are bool, not uint8"),
        (np.zeros((8, 8), np.uint8), ValueError, r"shape \(8, 8\), not"),
        (np.zeros((1, 8, 8, 2), np.uint8), ValueError, "leave out transparency: images"),
        (np.zeros((1, 3, 8, 8), np.uint8), ValueError, r"channels come last: images.transpose\(0, 2, 3, 1\)"),
        (np.zeros((2, 1, 8, 8, 3), np.uint8), ValueError, "use jax.vmap, or reshape"),
    ],
)
def test_says_what_is_wrong_with_the_images(images, error, message, key):
    with pytest.raises(error, match=message) as raised:
        corrupt(key, images, name="pixelate", severity=1)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["contrast", "gaussian_noise"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"image": np.full((8, 8, 3), 200.0, np.float32)},
            "image has values from 200 to 200, not in .0, 1.; divide it by",
        ),
        (
            {"image": np.full((8, 8, 3), -1.5, np.float32)},
            "image has values from -1.5 to -1.5, not in .0, 1.; undo its",
        ),
        ({"image": np.full((8, 8, 3), np.nan, np.float32)}, "image has values from nan to nan"),
        (
            {"image": np.zeros((2, 8, 8, 3), np.float32)},
            r"shape \(2, 8, 8, 3\), not .height, width, channels.* use jax.vmap",
        ),
        ({"image": np.zeros((8, 8, 4), np.float32)}, "with 1 or 3 channels"),
        ({"image": np.zeros((8, 8, 3), np.uint8)}, "image is uint8, not float32 in .0, 1.; divide 8-bit values by 255"),
        ({"severity": 0}, "severity is 0; it must be from 1 to 5"),
        ({"severity": 2.5}, "severity is 2.5, not an integer"),
        ({"preset": "cifar10"}, "unknown preset 'cifar10'; choose from cifar, tiny_imagenet, imagenet"),
    ],
)
def test_draw_and_apply_say_what_is_wrong_with_one_image(name, change, message, key):
    given = {"image": jnp.ones((8, 8, 3)), "severity": 1, "preset": "cifar"}
    draws = CORRUPTIONS[name].draw(key, *given.values())
    image, severity, preset = (given | change).values()
    image = jnp.asarray(image)
    with pytest.raises((ValueError, TypeError), match=message):
        CORRUPTIONS[name].draw(key, image, severity, preset)
    with pytest.raises((ValueError, TypeError), match=message):
        CORRUPTIONS[name].apply(image, draws, severity, preset)


def test_to_uint8_refuses_what_is_in_0_to_255_already():
    with pytest.raises(ValueError, match="^image has values up to 200, not in .0, 1.; divide it by 255$"):
        corruptions.to_uint8(jnp.full((8, 8, 3), 200.0))
    with pytest.raises(TypeError):
        corruptions.to_uint8(jnp.full((8, 8, 3), 200, jnp.uint8))
    assert jax.jit(corruptions.to_uint8)(jnp.full(3, 200.0)).tolist() == [255, 255, 255]


def test_no_other_room_imports_what_is_private_here():
    package = pathlib.Path(corruptions.__file__).parent
    others = [path for path in package.parent.rglob("*.py") if package not in path.parents]
    private = re.compile(r"(jaxprune\.corruptions|corruption_room|corruptions)(\.\w+)*(\._| import _)")
    assert len(others) > 20
    assert not [str(path) for path in others if private.search(path.read_text())]
