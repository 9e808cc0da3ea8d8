"""Other people's networks as classifiers: what they take is found or said when the classifier is made."""

import copy
import dataclasses
import warnings
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxprune import data, evaluation, models, pruning, training
from jaxprune.models import ChannelGroup, Consumer
from tests.guests.weights import built, initial

MEAN, STD = (0.5,) * 3, (0.25,) * 3
PIXELS = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), dtype=np.uint8)
TRAIN = data.Dataset(PIXELS, np.arange(10, dtype=np.int32) % 5, tuple("abcde"), "own", "train")
TEST = dataclasses.replace(TRAIN, split="test")


def from_nnx(make, **options):
    return models.from_nnx(built(make), mean=MEAN, std=STD, **options)


def from_linen(module, **options):
    return models.from_linen(module, initial(module), mean=MEAN, std=STD, **options)


def fit(net):
    optimizer = training.sgd(schedule="constant", learning_rate=0.01)
    return training.fit(net, TRAIN, optimizer=optimizer, epochs=1, key=jax.random.key(1), batch_size=5)


def assert_is_evaluated(net):
    """In evaluation mode an image's logits do not depend on the other images of its batch."""
    together = np.asarray(net.logits(PIXELS))
    np.testing.assert_allclose(net.logits(PIXELS[:1]), together[:1], atol=1e-4)
    (row,) = evaluation.evaluate(net, TEST, corruptions=())
    losses = -jax.nn.log_softmax(together)[np.arange(10), TEST.labels]
    np.testing.assert_allclose(row["negative_log_likelihood"], losses.mean(), rtol=1e-4)


def statistics(net):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(net.batch_stats)])


# The mode


class Nnx(nnx.Module):
    """A network whose BatchNorm is told its mode by `train`."""

    def __init__(self, rngs=None, features=4):
        rngs = rngs or nnx.Rngs(0)
        self.conv, self.bn = nnx.Conv(3, features, (3, 3), rngs=rngs), nnx.BatchNorm(features, rngs=rngs)
        self.head = nnx.Linear(features, 5, rngs=rngs)

    def body(self, x, train):
        return self.head(nnx.relu(self.bn(self.conv(x), use_running_average=not train)).mean((1, 2)))


class Train(Nnx):
    def __call__(self, x, train=True):
        return self.body(x, train)


class TrainOffByDefault(Nnx):
    def __call__(self, x, *, train: bool = False):
        return self.body(x, train)


class Deterministic(Nnx):
    def __call__(self, x, deterministic=False):
        return self.body(x, not deterministic)


class RunningAverage(Nnx):
    def __call__(self, x, use_running_average):
        return self.body(x, not use_running_average)


@pytest.mark.parametrize("kind", [Train, TrainOffByDefault, Deterministic, RunningAverage])
def test_the_mode_argument_of_an_nnx_module_is_found(kind):
    net = from_nnx(kind)
    together = np.asarray(net.logits(PIXELS))
    np.testing.assert_allclose(net.logits(PIXELS[:1]), together[:1], atol=1e-4)
    _, state = jax.jit(lambda p, s, x: net.apply(p, s, x, train=True))(net.params, net.batch_stats, PIXELS)
    assert np.abs(state["bn"]["mean"]).max() > 0


def test_training_moves_its_statistics_and_evaluation_uses_them():
    net = from_nnx(TrainOffByDefault)
    trained = fit(net)
    assert np.abs(statistics(trained) - statistics(net)).max() > 0.01
    assert_is_evaluated(trained)


class IsTrain(Nnx):
    def __call__(self, x, is_train=False):
        return self.body(x, is_train)


class Inference(Nnx):
    def __call__(self, x, *, inference: bool | None = None):
        return self.body(x, not inference)


class Mode(Nnx):
    def __call__(self, x, mode="train"):
        return self.body(x, mode == "train")


class Required(Nnx):
    def __call__(self, x, learning):
        return self.body(x, learning)


class LinenIsTrain(nn.Module):
    @nn.compact
    def __call__(self, x, is_train=False):
        return nn.Dense(5)(nn.BatchNorm(use_running_average=not is_train)(x).mean((1, 2)))


UNKNOWN = {IsTrain: "is_train=False", Inference: "inference=None", Mode: "mode='train'", Required: "learning,"}


@pytest.mark.parametrize("kind", [*UNKNOWN, LinenIsTrain])
def test_a_mode_argument_of_another_name_is_refused_with_those_that_are_known(kind):
    message = rf"the call of {kind.__name__} takes {UNKNOWN.get(kind, 'is_train=False')}.* known are train, training, "
    with pytest.raises(ValueError, match=message + r"is_training, deterministic, use_running_average\. Say"):
        from_linen(LinenIsTrain()) if kind is LinenIsTrain else from_nnx(kind)


def test_a_call_of_ones_own_says_how():
    net = from_nnx(Inference, call=lambda module, images, train: module(images, inference=not train))
    moved = fit(net)
    assert np.abs(statistics(moved) - statistics(net)).max() > 0.01
    linen = from_linen(LinenIsTrain(), call=lambda module, images, train: module(images, is_train=train))
    assert np.abs(statistics(fit(linen)) - statistics(linen)).max() > 0.001


class Wrapped(nnx.Module):
    """Hides its part's mode, and so trains for ever."""

    def __init__(self):
        self.inner = Train()

    def __call__(self, x):
        return self.inner(x)


class Attribute(Nnx):
    def __init__(self):
        super().__init__()
        self.learning = True

    def __call__(self, x):
        return self.body(x, self.learning)


class Noisy(nnx.Module):
    """Draws in evaluation mode too."""

    def __init__(self):
        self.head, self.rngs = nnx.Linear(3, 5, rngs=nnx.Rngs(0)), nnx.Rngs(noise=1)

    def __call__(self, x):
        return self.head(x.mean((1, 2))) + jax.random.normal(self.rngs.noise(), (len(x), 5))


@pytest.mark.parametrize(
    ("kind", "name"), [(Wrapped, r"\['inner'\]\['bn'\]"), (Attribute, r"\['bn'\]"), (Noisy, r"\['rngs'\]\['noise'\]")]
)
def test_a_module_that_trains_in_evaluation_mode_is_refused(kind, name):
    with pytest.raises(ValueError, match=rf"{kind.__name__} changes {name}.* in evaluation mode, as only training may"):
        from_nnx(kind)


class Counting(Nnx):
    """Counts its calls and records what it sees, as NNX's guides show; neither is a matter of the mode."""

    def __init__(self):
        super().__init__()
        self.calls = nnx.Variable(jnp.zeros((), jnp.int32))

    def __call__(self, x, train=True):
        self.calls[...] += 1
        self.largest = nnx.Intermediate(jnp.max(x))
        return self.body(x, train)


def test_counters_and_records_of_a_module_are_no_obstacle():
    trained = fit(from_nnx(Counting))
    assert trained.batch_stats["calls"] == 2
    assert trained.batch_stats.keys() == {"bn", "calls"}


class LinenField(nn.Module):
    """Its mode is a field, as in older Flax code."""

    train: bool = True

    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=not self.train)(nn.Conv(4, (3, 3))(x))
        return nn.Dense(5)(nn.Dropout(0.1, deterministic=not self.train)(x.mean((1, 2))))


@pytest.mark.parametrize("default", [True, False])
def test_a_mode_that_is_a_linen_modules_field_is_switched(default):
    net = models.from_linen(LinenField(train=default), initial(LinenField(train=False)), mean=MEAN, std=STD)
    one, other = net.logits(PIXELS[:1]), net.logits(PIXELS)[:1]
    np.testing.assert_allclose(one, other, atol=1e-4)
    _, state = net.apply(net.params, net.batch_stats, jnp.asarray(PIXELS), train=True, key=jax.random.key(0))
    assert np.abs(state["batch_stats"]["BatchNorm_0"]["mean"]).max() > 0


class Frozen(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(5)(nn.BatchNorm(use_running_average=True)(x).mean((1, 2)))


def test_statistics_that_training_will_leave_alone_are_told_and_never_recalibrated_to_nan():
    with pytest.warns(RuntimeWarning, match=r"Frozen leaves its statistics .*\['mean'\] as they are in training mode"):
        net = from_linen(Frozen())
    with pytest.raises(ValueError, match="no BatchNorm of Frozen moves its statistics in training mode"):
        training.recalibrate_batch_norm(net, TRAIN)


# What it takes and returns


class SqueezeExcite(nnx.Module):
    """Matrices of several widths before a convolutional head of 7 classes."""

    def __init__(self, channels=3):
        rngs = nnx.Rngs(0)
        self.squeeze, self.excite = nnx.Linear(channels, 4, rngs=rngs), nnx.Linear(4, channels, rngs=rngs)
        self.head = nnx.Conv(channels, 7, (1, 1), rngs=rngs)

    def __call__(self, x):
        x = x * nnx.sigmoid(self.excite(nnx.relu(self.squeeze(x.mean((1, 2), keepdims=True)))))
        return self.head(x).mean((1, 2))


class Wide(nnx.Module):
    """A head behind all pixels, for images of one size."""

    def __init__(self, side):
        self.head = nnx.Linear(side * side * 3, 6, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.head(x.reshape(x.shape[0], -1))


def test_the_number_of_classes_is_that_of_the_logits():
    assert from_nnx(SqueezeExcite).num_classes == 7
    assert from_nnx(SqueezeExcite, num_classes=7).num_classes == 7
    assert from_nnx(lambda: Wide(28)).num_classes == 6  # a usual size, though not the first
    net = from_nnx(lambda: Wide(11), image_size=11)
    assert (net.num_classes, net.image_size) == (6, 11)
    with pytest.raises(ValueError, match="num_classes=5, but SqueezeExcite returns the logits of 7 classes; leave"):
        from_nnx(SqueezeExcite, num_classes=5)
    with pytest.raises(
        ValueError, match=r"cannot be called .* of any usual size \(image_size= says which it takes\): "
    ):
        from_nnx(lambda: Wide(11))
    with pytest.raises(ValueError, match="on images of 12 x 12 pixels: "):
        from_nnx(lambda: Wide(11), image_size=12)


def test_the_number_of_channels_is_what_the_network_takes():
    grey = models.from_nnx(built(lambda: SqueezeExcite(1)), mean=0.5, std=0.25)
    assert grey.mean.tolist() == [0.5]
    colour = models.from_nnx(built(lambda: SqueezeExcite(3)), mean=0.5, std=(0.2, 0.25, 0.3))
    assert colour.mean.tolist() == [0.5] * 3
    with pytest.raises(ValueError, match="SqueezeExcite takes images of 1 channels, mean and std are for 3"):
        from_nnx(lambda: SqueezeExcite(1))
    with pytest.raises(ValueError, match="3 means and 2 stds; give one of each per channel"):
        models.from_nnx(built(lambda: SqueezeExcite(3)), mean=(0.5,) * 3, std=(0.5,) * 2)


def test_weights_of_another_head_are_refused_by_assemble():
    state = models.abstract_state("resnet8", num_classes=7)
    message = r"not those of this resnet8: \['params'\]\['head'\]\['bias'\] has shape \[7\], .* ask for \[10\]"
    with pytest.raises(ValueError, match=message):
        models.assemble("resnet8", num_classes=10, **state, mean=MEAN, std=STD)


class Returning(nnx.Module):
    def __init__(self, kind):
        self.kind, self.head = kind, nnx.Linear(3, 5, rngs=nnx.Rngs(0))

    def __call__(self, x):
        logits = self.head(x.mean((1, 2)))
        kinds = {"tuple": (logits, x), "dict": {"logits": logits}, "maps": self.head(x), "labels": logits.argmax(-1)}
        return kinds[self.kind]


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("tuple", "a tuple of 2"),
        ("dict", "a dict of 1"),
        ("maps", r"float32 \[2, 32, 32, 5\]"),
        ("labels", r"int32 \[2\]"),
    ],
)
def test_outputs_that_are_no_logits_are_refused(kind, found):
    with pytest.raises(ValueError, match=rf"Returning returns {found} for 2 images; a classifier returns the logits"):
        from_nnx(lambda: Returning(kind))


def test_a_call_chooses_among_several_outputs():
    net = from_nnx(lambda: Returning("tuple"), call=lambda module, images, train: module(images)[0])
    assert net.logits(PIXELS).shape == (10, 5)


# Settings, functions, axes


@dataclasses.dataclass
class Settings:
    depth: int = 3


class NnxSettings(nnx.Module):
    def __init__(self, settings):
        self.settings, self.head = settings, nnx.Linear(3, 5, rngs=nnx.Rngs(0))

    def __call__(self, x):
        scale = len(self.settings) if isinstance(self.settings, list) else 1
        return scale * self.head(x.mean((1, 2)))


class LinenSettings(nn.Module):
    settings: Any

    @nn.compact
    def __call__(self, x):
        return nn.Dense(5)(x.mean((1, 2)))


@pytest.mark.parametrize("settings", [[2, 2], {"depth": 3}, Settings(), {1, 2}], ids=str)
@pytest.mark.parametrize("kind", [NnxSettings, LinenSettings])
def test_settings_that_cannot_be_hashed_are_taken(kind, settings):
    def make(settings):
        return from_linen(kind(settings)) if kind is LinenSettings else from_nnx(lambda: kind(settings))

    net, again = make(settings), make(copy.deepcopy(settings))
    assert net.forward == again.forward
    (row,) = evaluation.evaluate({"net": net}, TEST, corruptions=())
    assert row["finite"]


def test_settings_are_copied_and_count_for_equality():
    layers = [2, 2]
    net = from_nnx(lambda: NnxSettings(layers))
    before = np.asarray(net.logits(PIXELS))
    layers.append(2)
    np.testing.assert_allclose(net.logits(PIXELS[:9]), before[:9], rtol=1e-6)  # compiled again
    assert from_nnx(lambda: NnxSettings(layers)).forward != net.forward


def test_a_plain_function_may_take_the_place_of_the_forward_pass():
    def forward(params, batch_stats, x, train, key):
        return x.mean((1, 2)) @ params["weights"], batch_stats

    net = from_nnx(lambda: NnxSettings(1)).replace(forward=forward, params={"weights": jnp.eye(3, 5)}, batch_stats={})
    assert_is_evaluated(net)


def test_functions_of_fewer_arguments_and_wrong_ones():
    params = {"w": jnp.ones((3, 5))}
    net = models.from_function(lambda p, s, x: x.mean((1, 2)) @ p["w"], params, mean=0.5, std=0.25)
    assert net.logits(PIXELS).shape == (10, 5)
    with pytest.raises(
        TypeError, match=r"apply takes 2 arguments; it must take 3 to 5 of \(params, batch_stats, images"
    ):
        models.from_function(lambda p, x: x, params, mean=0.5, std=0.25)
    with pytest.raises(ValueError, match="apply returns another tree of batch_stats than it takes"):
        models.from_function(lambda p, s, x: (x.mean((1, 2)) @ p["w"], x), params, mean=0.5, std=0.25)
    with pytest.raises(ValueError, match="does not declare its channels"):
        net.channel_groups()


class NnxSynchronised(Nnx):
    def __init__(self):
        super().__init__()
        self.bn = nnx.BatchNorm(4, axis_name="devices", rngs=nnx.Rngs(0))

    def __call__(self, x, train: bool = True):
        return self.body(x, train)


def test_statistics_over_an_axis_of_devices_are_those_of_the_batch():
    net = from_nnx(NnxSynchronised)
    trained = fit(net)
    assert np.abs(statistics(trained) - statistics(net)).max() > 0.01
    np.testing.assert_allclose(statistics(trained), statistics(fit(from_nnx(Train))), rtol=1e-5)
    assert evaluation.evaluate(trained, TEST, corruptions=())[0]["finite"]


class OnlyEvaluated(nnx.Module):
    def __init__(self):
        self.head = nnx.Linear(3, 5, rngs=nnx.Rngs(0))

    def __call__(self, x, train: bool):
        if train:
            raise NotImplementedError("ask the authors")
        return self.head(x.mean((1, 2)))


def test_a_network_that_cannot_be_trained_says_so_when_it_is_made():
    with pytest.warns(RuntimeWarning, match="can be evaluated and not trained: NotImplementedError: ask the authors"):
        net = from_nnx(OnlyEvaluated)
    assert net.logits(PIXELS).shape == (10, 5)


class LinenWidths(nn.Module):
    """Makes the other module as anybody would write it, without parent=None."""

    width: int = 8

    @nn.compact
    def __call__(self, x):
        return nn.Dense(5, name="head")(nn.relu(nn.Conv(self.width, (3, 3), name="conv")(x)).mean((1, 2)))

    def channel_groups(self):
        return (ChannelGroup("c", self.width, ("conv",), (), (Consumer("head"),)),)

    def with_widths(self, widths):
        return LinenWidths(width=widths["c"])


def test_a_linen_module_may_make_one_of_other_widths():
    net = from_linen(LinenWidths())
    masked, masks = pruning.prune(net, method="filter_l1", sparsity=0.5)
    assert pruning.compact(masked, masks).params["conv"]["kernel"].shape == (3, 3, 3, 4)


class Declaring(nnx.Module):
    """Two convolutions whose outputs are concatenated, a norm, and what is said of them."""

    def __init__(self, groups, norm, width=8):
        rngs = nnx.Rngs(0)
        self.groups, self.kind, self.width = groups, norm, width
        self.c1, self.c2 = nnx.Conv(3, width, (3, 3), rngs=rngs), nnx.Conv(width, 8, (3, 3), rngs=rngs)
        self.norm = norm(width, rngs)
        self.head = nnx.Linear(width + 8, 5, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.c1(x)))
        return self.head(jnp.concatenate([x, nnx.relu(self.c2(x))], axis=-1).mean((1, 2)))

    def channel_groups(self):
        return self.groups

    def with_widths(self, widths):
        return Declaring(self.groups, self.kind, widths.get("a", self.width))


def group_norm(width, rngs):
    return nnx.GroupNorm(width, num_groups=2, rngs=rngs)


def batch_norm(width, rngs):
    return nnx.BatchNorm(width, rngs=rngs)


@pytest.mark.parametrize(
    ("groups", "norm", "message"),
    [
        ([("a", 8, ("c1",), ("norm",), ("c2", "head"))], batch_norm, "head/kernel has 16 inputs, the group 8; a group"),
        ([("b", 8, ("c2",), (), ("head",))], batch_norm, "head/kernel has 16 inputs, the group 8; a group"),
        ([("a", 8, ("c1",), ("norm",), ("c2",))], group_norm, "norm keeps no running mean, and a norm that measures"),
        ([("a", 8, ("c1",), (), ("c2",)), ("b", 8, ("c1",), (), ())], batch_norm, "outputs of c1/kernel belong to 'a'"),
        ([("a", 4, ("c1",), (), ())], batch_norm, "c1/kernel has 8 outputs, the group 4"),
        ([("a", 8, ("c7",), (), ())], batch_norm, "c7/kernel is no parameter; correct channel_groups"),
    ],
)
def test_groups_that_the_parameters_are_not_like_are_refused(groups, norm, message):
    groups = tuple(
        ChannelGroup(name, width, producers, norms, tuple(map(Consumer, readers)))
        for name, width, producers, norms, readers in groups
    )
    net = from_nnx(lambda: Declaring(groups, norm))
    with pytest.raises(ValueError, match=f"of Declaring cannot be pruned as it is declared: .*{message}"):
        pruning.prune(net, method="filter_l1", sparsity=0.5)


class Silent(LinenWidths):
    """Its norm has no parameters that a declaration could name."""

    @nn.compact
    def __call__(self, x):
        x = nn.LayerNorm(use_scale=False, use_bias=False)(nn.Conv(self.width, (3, 3), name="conv")(x))
        return nn.Dense(5, name="head")(x.mean((1, 2)))

    def with_widths(self, widths):
        return Silent(width=widths["c"])


def test_compact_refuses_other_logits_that_no_shape_shows():
    masked, masks = pruning.prune(from_linen(Silent()), method="filter_l1", sparsity=0.5)
    with pytest.raises(
        ValueError, match="without its masked channels Silent gives other logits .* a norm that measures"
    ):
        pruning.compact(masked, masks)


def test_the_second_call_traces_nothing_and_so_does_a_network_made_again():
    traces = []

    def call(module, images, train):
        traces.append(train)
        return module(images)

    for make in (
        lambda: from_nnx(lambda: NnxSettings([2]), call=call),
        lambda: from_linen(LinenSettings([2]), call=call),
    ):
        net = make()
        net.logits(PIXELS)
        traces.clear()
        net.logits(PIXELS)
        make().logits(PIXELS)
        assert not traces


def test_an_ordinary_network_is_made_without_a_word():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        from_nnx(lambda: nnx.Sequential(nnx.Conv(3, 4, (3, 3), rngs=nnx.Rngs(0)), lambda x: x.mean((1, 2))))
        from_nnx(Train)
