import collections
import io
import pickle
import typing
import zipfile

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxprune import data, models

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# He et al. 2016, Table 6: 0.27, 0.46, 0.66, 0.85 and 1.7 million for depths 20, 32, 44, 56 and 110. BatchNorm's scale
# and bias count; option-A shortcuts have no parameters. resnet8 is 75,290 by the same sum.
NUM_PARAMETERS = {
    "resnet8": 75_290,
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
}


@pytest.fixture(scope="module")
def small():
    return models.create("resnet8", num_classes=10, key=jax.random.key(0), mean=MEAN, std=STD)


@pytest.mark.parametrize("name", NUM_PARAMETERS)
def test_parameter_counts_equal_the_published_ones(name):
    params = models.abstract_state(name, num_classes=10)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == NUM_PARAMETERS[name]


def test_logits_do_not_depend_on_the_pieces_they_are_computed_in(small):
    images = np.random.default_rng(0).integers(0, 256, (107, 32, 32, 3), np.uint8)
    whole = small.logits(images)
    assert whole.shape == (107, 10)
    alone = jnp.concatenate([small.logits(images[:50]), small.logits(images[50:])])
    np.testing.assert_allclose(whole, alone, atol=1e-5)
    np.testing.assert_allclose(whole, small.logits(images.astype(np.float32) / 255), atol=1e-5)


def test_training_mode_updates_the_batch_statistics_and_leaves_the_classifier_alone(small):
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
    before = jax.tree.map(np.array, small.batch_stats)
    _, updated = small.apply(small.params, small.batch_stats, jnp.asarray(images), train=True)
    assert jax.tree.structure(updated) == jax.tree.structure(small.batch_stats)
    assert np.abs(updated["bn"]["mean"] - before["bn"]["mean"]).max() > 1e-4
    jax.tree.map(np.testing.assert_array_equal, small.batch_stats, before)


def test_networks_of_one_kind_share_compilations_and_stack(small):
    other = models.create("resnet8", num_classes=10, key=jax.random.key(1), mean=MEAN, std=STD)
    assert jax.tree.structure(other) == jax.tree.structure(small)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    traced = []

    @jax.jit
    def forward(classifier, images):
        traced.append(classifier.name)
        return classifier.apply(classifier.params, classifier.batch_stats, images)[0]

    assert np.abs(forward(small, images) - forward(other, images)).max() > 1e-3
    assert traced == ["resnet8"]


@pytest.mark.parametrize("shortcut", ["subsample", "average_pool"])
def test_shortcuts_equal_their_definition(shortcut):
    from jaxprune.models.resnet import option_a_shortcut

    x = np.random.default_rng(0).normal(size=(2, 6, 4, 3)).astype(np.float32)
    actual = np.asarray(option_a_shortcut(jnp.asarray(x), features=8, stride=2, kind=shortcut))
    expected = np.zeros((2, 3, 2, 8), np.float32)
    if shortcut == "subsample":
        expected[..., 2:5] = x[:, ::2, ::2]
    else:
        expected[..., :3] = x.reshape(2, 3, 2, 2, 2, 3).mean((2, 4))
    np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_explicit_widths_make_a_narrower_network():
    options = {"stage_widths": (4, 6, 8), "widths": {"stage2_block0": 5}}
    net = models.create("resnet8", num_classes=5, key=jax.random.key(0), **options)
    assert net.params["stage2_block0"]["conv1"]["kernel"].shape == (3, 3, 4, 5)
    assert net.params["stage2_block0"]["conv2"]["kernel"].shape == (3, 3, 5, 6)
    assert net.logits(np.zeros((1, 32, 32, 3), np.uint8)).shape == (1, 5)
    narrower = net.with_widths({"stage1_block0": 3})
    assert dict(dict(narrower.options)["widths"]) == {"stage1_block0": 3, "stage2_block0": 5}
    assert narrower.params["stage1_block0"]["conv1"]["kernel"].shape == (3, 3, 4, 3)
    with pytest.raises(ValueError, match="no channel group 'stage9'; it has stage1_block0, stage2_block0"):
        models.create("resnet8", num_classes=5, key=jax.random.key(0), widths={"stage9": 5})
    with pytest.raises(ValueError, match="width 0 of channel group 'stage1_block0'"):
        models.create("resnet8", num_classes=5, key=jax.random.key(0), widths={"stage1_block0": 0})


def test_channel_groups_name_layers_that_exist():
    net = models.create("resnet8", num_classes=5, key=jax.random.key(0))
    group = net.channel_groups()[1]
    assert (group.name, group.width, group.producers) == ("stage2_block0", 32, ("stage2_block0/conv1",))
    assert net.image_size == 32


def test_the_studys_filter_pruning_leaves_out_the_block_at_layer_36():
    net = models.create("resnet110", num_classes=10, key=jax.random.key(0))
    assert net.layer_choices()["study"] == tuple(f"stage1_block{block}" for block in range(17))


def test_convolutions_are_initialised_as_the_study_says():
    net = models.create("resnet20", num_classes=10, key=jax.random.key(0))
    kernel = net.params["stage3_block2"]["conv2"]["kernel"]
    np.testing.assert_allclose(kernel.std(), np.sqrt(2 / (9 * 64)), rtol=0.02)


class NnxNet(nnx.Module):
    def __init__(self, rngs):
        self.blocks = nnx.List([nnx.Conv(3, 4, (3, 3), rngs=rngs)])
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(4, 7, rngs=rngs)

    def __call__(self, x):
        return self.head(self.dropout(self.blocks[0](x).mean((1, 2))))


class LinenNet(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.BatchNorm(use_running_average=not train)(nn.Conv(4, (3, 3))(x))
        x = nn.Dropout(0.5, deterministic=not train)(x.mean((1, 2)))
        return nn.Dense(7)(x)


def test_a_module_without_declared_channels_is_told_what_to_declare():
    net = models.from_nnx(NnxNet(nnx.Rngs(0)), mean=MEAN, std=STD)
    with pytest.raises(ValueError, match=r"NnxNet does not declare its channels; .* channel_groups\(\)"):
        net.channel_groups()
    with pytest.raises(ValueError, match=r"methods channel_groups\(\) and with_widths"):
        net.with_widths({"a": 1})


class DeclaringLinenNet(nn.Module):
    width: int = 4
    image_size = 8

    @nn.compact
    def __call__(self, x):
        return nn.Dense(7)(nn.relu(nn.Conv(self.width, (3, 3))(x)).mean((1, 2)))

    def channel_groups(self):
        consumers = (models.Consumer("Dense_0"),)
        return (models.ChannelGroup("conv", self.width, ("Conv_0",), (), consumers),)

    def with_widths(self, widths):
        return self.clone(width=widths["conv"])


class DeclaringNnxNet(nnx.Module):
    def __init__(self, rngs, width=4):
        self.width = width
        self.conv = nnx.Conv(3, width, (3, 3), rngs=rngs)
        self.head = nnx.Linear(width, 7, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.relu(self.conv(x)).mean((1, 2)))

    def channel_groups(self):
        return (models.ChannelGroup("conv", self.width, ("conv",), (), (models.Consumer("head"),)),)

    def with_widths(self, widths):
        return DeclaringNnxNet(nnx.Rngs(0), width=widths["conv"])


@pytest.mark.parametrize("kind", ["linen", "nnx"])
def test_your_own_module_states_its_channels_and_is_rebuilt(kind):
    if kind == "linen":
        module = DeclaringLinenNet()
        variables = module.init(jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32))
        net = models.from_linen(module, variables, mean=MEAN, std=STD)
    else:
        net = models.from_nnx(DeclaringNnxNet(nnx.Rngs(0)), mean=MEAN, std=STD)
    assert net.channel_groups()[0].width == 4
    narrower = net.with_widths({"conv": 3})
    assert narrower.channel_groups()[0].width == 3
    filled = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), narrower)
    assert filled.logits(np.zeros((2, 8, 8, 3), np.uint8)).shape == (2, 7)


def test_any_nnx_module_becomes_a_classifier():
    module = NnxNet(nnx.Rngs(0))
    net = models.from_nnx(module, mean=MEAN, std=STD)
    assert net.num_classes == 7
    images = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
    module.eval()
    np.testing.assert_allclose(net.logits(images), module((images - MEAN) / np.array(STD, np.float32)), rtol=1e-5)
    one, state = net.apply(net.params, net.batch_stats, images, train=True)
    two, _ = net.apply(net.params, state, images, train=True)
    assert np.abs(one - two).max() > 1e-4  # dropout moved on


def test_any_linen_module_becomes_a_classifier():
    module = LinenNet()
    images = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
    variables = module.init(jax.random.key(0), images)
    net = models.from_linen(module, variables, mean=MEAN, std=STD)
    assert net.num_classes == 7
    normalised = (images - MEAN) / np.array(STD, np.float32)
    np.testing.assert_allclose(net.logits(images), module.apply(variables, normalised), rtol=1e-5)
    _, state = net.apply(net.params, net.batch_stats, images, train=True, key=jax.random.key(1))
    assert np.abs(state["batch_stats"]["BatchNorm_0"]["mean"]).max() > 0
    with pytest.raises(ValueError, match="give what module.init returned"):
        models.from_linen(module, variables["params"], mean=MEAN, std=STD)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet21"}, "unknown model 'resnet21'; known: resnet8, resnet14"),
        ({"name": "resnet8", "shortcut": "pool"}, "unknown shortcut 'pool'; known: subsample, average_pool"),
    ],
)
def test_unknown_models_and_options_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        models.create(num_classes=10, key=jax.random.key(0), **arguments)


def test_images_of_a_wrong_shape_are_refused(small):
    with pytest.raises(ValueError, match=r"images have shape \[32, 32, 3\]; resnet8 takes \[N, H, W, 3\]"):
        small.logits(np.zeros((32, 32, 3), np.uint8))


@pytest.mark.slow
def test_the_public_checkpoint_gives_pytorchs_numbers_on_all_test_images(shared):
    net = models.from_torch(
        shared("models/resnet20_cifar10_jpeg.pt"), name="resnet20", num_classes=10, mean=MEAN, std=STD
    )
    test = data.load("cifar10", split="test", data_dir=shared("data/tfds"))
    logits = np.asarray(net.logits(test.images), np.float64)
    log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    rows = np.arange(len(test))
    assert abs((logits.argmax(1) == test.labels).mean() - 0.8799) < 1e-4
    assert abs(-log_probs[rows, test.labels].mean() - 0.4025784) < 1e-4
    confidence = np.exp(log_probs.max(1))
    gap = np.bincount(
        np.minimum((confidence * 10).astype(int), 9), (logits.argmax(1) == test.labels) - confidence, minlength=10
    )
    assert abs(np.abs(gap).sum() / len(test) - 0.0504039) < 1e-4


# The file format, written by hand so that PyTorch is not needed: names are pickled by reference.
class Named:
    def __init__(self, module, name, arguments):
        self.module, self.name, self.arguments = module, name, arguments


class TorchPickler(pickle._Pickler):
    def persistent_id(self, value):
        return None if not isinstance(value, tuple) or value[:1] != ("storage",) else value

    def save_named(self, value):
        self.write(pickle.GLOBAL + f"{value.module}\n{value.name}\n".encode())
        if value.arguments is not None:
            self.save(value.arguments)
            self.write(pickle.REDUCE)

    dispatch: typing.ClassVar = {**pickle._Pickler.dispatch, Named: save_named}


def write_torch_file(path, arrays, extra=None, claimed_shapes=None):
    storages, state = {}, collections.OrderedDict()
    for index, (name, array) in enumerate(arrays.items()):
        shape = (claimed_shapes or {}).get(name, array.shape)
        strides = tuple(stride // array.itemsize for stride in array.strides)
        storage = ("storage", Named("torch", "FloatStorage", None), str(index), "cpu", array.size)
        state[name] = Named("torch._utils", "_rebuild_tensor_v2", (storage, 0, shape, strides, False, {}))
        storages[str(index)] = array.tobytes()
    buffer = io.BytesIO()
    TorchPickler(buffer, protocol=2).dump({"state_dict": dict(state), **(extra or {})})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", buffer.getvalue())
        for key, content in storages.items():
            archive.writestr(f"archive/data/{key}", content)


def public_arrays(name="resnet8", num_classes=10):
    """Random weights under the public key names."""
    from jaxprune.models import resnet

    rng = np.random.default_rng(0)
    state = models.abstract_state(name, num_classes=num_classes)
    arrays = {}
    for path, prefix in resnet.torch_keys(1)[0].items():
        for collection, leaves in (
            ("params", {"scale": "weight", "kernel": "weight", "bias": "bias"}),
            ("batch_stats", {"mean": "running_mean", "var": "running_var"}),
        ):
            node = state[collection]
            for part in path:
                node = node.get(part, {})
            for leaf, there in leaves.items():
                if leaf in node:
                    shape = node[leaf].shape
                    shape = {4: (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else (), 2: shape[::-1]}.get(
                        len(shape), shape
                    )
                    arrays[f"{prefix}.{there}"] = rng.random(shape, np.float32) + 0.5
    return arrays


def test_a_checkpoint_is_read_without_pytorch(tmp_path):
    arrays = public_arrays()
    write_torch_file(tmp_path / "net.pt", {f"module.{name}": array for name, array in arrays.items()})
    net = models.from_torch(tmp_path / "net.pt", name="resnet8", num_classes=10)
    kernel = net.params["stage2_block0"]["conv1"]["kernel"]
    np.testing.assert_array_equal(kernel[1, 2, 3, 4], arrays["layer2.0.conv1.weight"][4, 3, 1, 2])
    np.testing.assert_array_equal(net.params["head"]["kernel"], arrays["linear.weight"].T)
    np.testing.assert_array_equal(net.batch_stats["bn"]["var"], arrays["bn1.running_var"])


def test_nothing_in_a_checkpoint_is_executed(tmp_path):
    canary = tmp_path / "executed"
    write_torch_file(tmp_path / "evil.pt", public_arrays(), extra={"x": Named("os", "mkdir", (str(canary),))})
    with pytest.raises(ValueError, match=r"it holds a os.mkdir, which is not a tensor; save only the weights"):
        models.from_torch(tmp_path / "evil.pt", name="resnet8", num_classes=10)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[: len(content) // 2], "is not a complete PyTorch checkpoint .*truncated"),
        (lambda content: b"", "is not a complete PyTorch checkpoint"),
        (lambda content: content[:-20000] + bytes([content[-20000] ^ 1]) + content[-19999:], "is not a complete.*CRC"),
    ],
)
def test_damaged_checkpoints_are_refused(tmp_path, damage, message):
    path = tmp_path / "net.pt"
    write_torch_file(path, public_arrays())
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=message):
        models.from_torch(path, name="resnet8", num_classes=10)


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*absent.pt"):
        models.from_torch(tmp_path / "absent.pt", name="resnet8", num_classes=10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: arrays.pop("layer3.0.bn2.bias"), "layer3.0.bn2.bias is missing"),
        (lambda arrays: arrays.update(surplus=np.zeros(3, np.float32)), "surplus has no place"),
        (lambda arrays: arrays.update({"linear.bias": np.zeros(9, np.float32)}), r"linear.bias has shape \(9,\)"),
    ],
)
def test_the_weights_of_another_architecture_are_refused(tmp_path, change, message):
    arrays = public_arrays()
    change(arrays)
    write_torch_file(tmp_path / "net.pt", arrays)
    with pytest.raises(ValueError, match=f"does not hold a resnet8: {message}"):
        models.from_torch(tmp_path / "net.pt", name="resnet8", num_classes=10)


def test_a_tensor_that_reaches_beyond_its_storage_is_refused(tmp_path):
    write_torch_file(tmp_path / "net.pt", public_arrays(), claimed_shapes={"conv1.weight": (1000, 3, 3, 3)})
    with pytest.raises(ValueError, match="reaches beyond its storage of 432 values"):
        models.from_torch(tmp_path / "net.pt", name="resnet8", num_classes=10)


def test_logits_equal_pytorchs(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is only needed to compare with it")
    arrays = public_arrays()
    state = {name: torch.tensor(array) for name, array in arrays.items()}
    torch.save({"state_dict": state}, tmp_path / "net.pt")
    net = models.from_torch(tmp_path / "net.pt", name="resnet8", num_classes=10)
    images = np.random.default_rng(1).random((3, 32, 32, 3), np.float32)

    def norm(x, prefix):
        parts = (state[f"{prefix}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return torch.nn.functional.batch_norm(x, *parts, eps=1e-5)

    conv2d, relu = torch.nn.functional.conv2d, torch.relu
    x = relu(norm(conv2d(torch.tensor(images).permute(0, 3, 1, 2), state["conv1.weight"], padding=1), "bn1"))
    for stage in (1, 2, 3):
        block, stride = f"layer{stage}.0", 1 if stage == 1 else 2
        y = relu(norm(conv2d(x, state[f"{block}.conv1.weight"], stride=stride, padding=1), f"{block}.bn1"))
        y = norm(conv2d(y, state[f"{block}.conv2.weight"], padding=1), f"{block}.bn2")
        if stage > 1:
            half = x.shape[1] // 2
            x = torch.nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, half, half))
        x = relu(x + y)
    expected = x.mean((2, 3)) @ state["linear.weight"].T + state["linear.bias"]
    np.testing.assert_allclose(net.logits(images), expected.numpy(), rtol=1e-4)
