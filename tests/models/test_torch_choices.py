"""Same tensors, another network: what a PyTorch file does not show is told, and what it shows is taken."""

import json
import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxprune import cli, data, evaluation, models
from tests.models.test_models import public_arrays, write_torch_file

MEAN, STD = (0.5,) * 3, (0.25,) * 3
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
VGG_WIDTHS = {"stage_widths": (4, 6, 8, 8, 8)}


def write(path, classifier, prefixes):
    """Writes a classifier's weights as a PyTorch file, with the given prefix for every module path."""
    state = {}
    for module, prefix in prefixes.items():
        params, statistics = classifier.params, classifier.batch_stats
        for part in module:
            params, statistics = params[part], statistics.get(part, {})
        layouts = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}
        weight = np.asarray(params["scale"] if "scale" in params else params["kernel"])
        state[f"{prefix}.weight"] = np.ascontiguousarray(weight.transpose(layouts[weight.ndim]))
        if "bias" in params:
            state[f"{prefix}.bias"] = np.array(params["bias"])
        if statistics:
            state[f"{prefix}.running_mean"] = np.array(statistics["mean"])
            state[f"{prefix}.running_var"] = np.array(statistics["var"])
    write_torch_file(path, state)


def create(name, **options):
    return models.create(name, num_classes=10, key=jax.random.key(0), mean=MEAN, std=STD, **options)


def told(path, name, *, num_classes=10, **options):
    """Returns the classifier of a file, and what was said of it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        net = models.from_torch(path, name=name, num_classes=num_classes, mean=MEAN, std=STD, **options)
    return net, [str(each.message) for each in caught]


@pytest.mark.parametrize(("naming", "pool"), [("features", "max"), ("feature", "average")])
def test_a_vggs_pool_is_that_of_the_repositories_that_use_its_names(tmp_path, naming, pool):
    right = create("vgg11_bn", pool=pool, conv_bias=True, **VGG_WIDTHS)
    prefixes = next(k for k in models.MODELS["vgg11_bn"].torch_keys() if k["conv1",].startswith(f"{naming}."))
    write(tmp_path / "net.pt", right, prefixes)
    net, said = told(tmp_path / "net.pt", "vgg11_bn", conv_bias=True, **VGG_WIDTHS)
    np.testing.assert_array_equal(net.logits(PIXELS), right.logits(PIXELS))
    assert dict(net.options).get("pool", "average") == pool
    assert [bool(re.search("pool='max' is taken, .*give pool='max' or 'average'", each)) for each in said] == (
        [True] if pool == "max" else []
    )
    for chosen in ("max", "average"):
        net, said = told(tmp_path / "net.pt", "vgg11_bn", conv_bias=True, pool=chosen, **VGG_WIDTHS)
        assert (dict(net.options)["pool"], said) == (chosen, [])


def narrow(name, **options):
    shapes = models.abstract_state(name, num_classes=10, **options)
    net = models.assemble(name, num_classes=10, **shapes, mean=MEAN, std=STD, **options)
    return create(name, widths={group.name: 4 for group in net.channel_groups()}, **options)


def test_a_resnet_with_a_small_stem_and_torchvisions_max_pool():
    net = narrow("resnet18", stem="cifar")

    @jax.jit
    def with_max_pool(net, images):
        module = net.module
        x = nnx.relu(module.bn(module.conv(net.normalize(images))))
        x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for stage in range(1, 5):
            for block in range(2):
                x = getattr(module, f"stage{stage}_block{block}")(x)
        return module.head(x.mean((1, 2)))

    expected = np.asarray(with_max_pool(net, PIXELS))
    other = models.assemble(
        "resnet18",
        num_classes=10,
        params=net.params,
        batch_stats=net.batch_stats,
        mean=MEAN,
        std=STD,
        **dict(net.options) | {"stem": "cifar_max_pool"},
    )
    np.testing.assert_allclose(other.logits(PIXELS), expected, atol=1e-4)
    assert np.abs(net.logits(PIXELS) - expected).max() > 1e-3
    assert other.image_size == 32


@pytest.mark.parametrize(("place", "doubtful"), [(0, True), (1, False)], ids=["torchvision", "cifar"])
def test_a_resnets_stem_under_torchvisions_names_is_told(tmp_path, place, doubtful):
    right = narrow("resnet18")
    write(tmp_path / "net.pt", right, models.MODELS["resnet18"].torch_keys()[place])
    options = dict(right.options)
    net, said = told(tmp_path / "net.pt", "resnet18", **options)
    np.testing.assert_array_equal(net.params["conv"]["kernel"], right.params["conv"]["kernel"])
    assert len(said) == doubtful
    assert all("stem='cifar' is taken, without one (give stem='cifar' or 'cifar_max_pool'" in each for each in said)
    assert told(tmp_path / "net.pt", "resnet18", stem="cifar_max_pool", **options)[1] == []


def test_a_mobilenet_of_imagenets_classes_has_imagenets_strides(tmp_path):
    shapes = models.abstract_state("mobilenet_v2", num_classes=2)
    groups = models.assemble("mobilenet_v2", num_classes=2, **shapes, mean=MEAN, std=STD).channel_groups()
    widths = {group.name: 4 for group in groups}
    for num_classes, stem in ((1000, "imagenet"), (2, "cifar")):
        right = models.create("mobilenet_v2", num_classes=num_classes, key=jax.random.key(0), widths=widths)
        write(tmp_path / "net.pt", right, models.MODELS["mobilenet_v2"].torch_keys()[0])
        net, said = told(tmp_path / "net.pt", "mobilenet_v2", num_classes=num_classes, widths=widths)
        assert net.image_size == {"imagenet": 224, "cifar": 32}[stem]
        assert ["stem='imagenet' is taken for 1000 classes" in each for each in said] == [True] * (stem == "imagenet")


@pytest.mark.parametrize(("name", "made_for", "shown"), [("mobilenet_v2", "cifar", 224), ("resnet18", "imagenet", 32)])
def test_an_evaluation_on_images_of_another_stems_size_warns(name, made_for, shown):
    net = narrow(name, stem=made_for)
    labels = np.array([0, 9], np.int32)
    images = np.zeros((2, shown, shown, 3), np.uint8)
    test = data.Dataset(images, labels, tuple("abcdefghij"), "own", "test")
    message = f"was made for images of {net.image_size} pixels, 'own' has {shown} x {shown}; stem="
    # It is refused for another reason then, before anything is compiled.
    net = net.replace(temperature=jnp.float32(np.nan))
    with pytest.warns(RuntimeWarning, match=message), pytest.raises(ValueError, match="temperature holds 1 NaN"):
        evaluation.evaluate(net, test, corruptions=(), batch_size=2)


# Names that wrappers change


@pytest.mark.parametrize(
    "wrap",
    [
        lambda name: f"module.{name}",
        lambda name: f"_orig_mod.module.{name}",
        lambda name: f"model.backbone.{name}",
        lambda name: name.replace("layer1.", "layer1.module."),
    ],
    ids=["DataParallel", "compile", "Lightning", "part"],
)
def test_wrapped_and_masked_networks_are_read_as_the_network(tmp_path, wrap):
    arrays = public_arrays()
    mask = np.random.default_rng(0).integers(0, 2, arrays["conv1.weight"].shape).astype(np.float32)
    state = {name: array for name, array in arrays.items() if name != "conv1.weight"}
    state |= {"conv1.weight_orig": arrays["conv1.weight"], "conv1.weight_mask": mask}
    write_torch_file(tmp_path / "net.pt", {wrap(name): array for name, array in state.items()})
    net, _ = told(tmp_path / "net.pt", "resnet8")
    expected = (arrays["conv1.weight"] * mask).transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(net.params["conv"]["kernel"], expected)
    np.testing.assert_array_equal(
        net.params["stage1_block0"]["conv1"]["kernel"], arrays["layer1.0.conv1.weight"].transpose(2, 3, 1, 0)
    )


def test_two_networks_in_one_file_are_refused(tmp_path):
    arrays = public_arrays()
    write_torch_file(tmp_path / "net.pt", arrays | {f"module.{name}": array for name, array in arrays.items()})
    with pytest.raises(ValueError, match="holds several networks, with and without module or _orig_mod; save one"):
        told(tmp_path / "net.pt", "resnet8")


# The normalisation


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ((125.3, 123.0, 113.9), (63.0, 62.1, 66.7), r"mean is \[125.3, 123.0, 113.9\]; it must be numbers in \[0, 1\]"),
        ((0.49, 0.48, 0.45), (63.0, 62.1, 66.7), r"std is \[63.0, 62.1, 66.7\]; it must be numbers above 0, at most 1"),
        ((0.5,) * 3, (0.0, 0.2, 0.2), r"std is \[0.0, 0.2, 0.2\]; it must be numbers above 0"),
        ((0.5,) * 3, -0.2, r"std is -0.2; it must be numbers above 0, at most 1: mean and std belong to images / 255"),
        ((0.5, np.nan, 0.5), (0.2,) * 3, r"mean is \[0.5, nan, 0.5\]; it must be numbers in \[0, 1\]"),
        (((0.5,) * 3, (0.2,) * 3), (0.2,) * 3, r"mean has shape \[2, 3\]; give one number per channel, or one for all"),
        ((0.5,) * 3, (0.2,) * 2, "3 means and 2 stds; give one of each per channel"),
    ],
)
def test_a_mean_or_std_that_images_in_0_to_1_do_not_have_is_refused(mean, std, message):
    state = models.abstract_state("resnet8", num_classes=10)
    for make in (
        lambda: models.create("resnet8", num_classes=10, key=jax.random.key(0), mean=mean, std=std),
        lambda: models.assemble("resnet8", num_classes=10, **state, mean=mean, std=std),
        lambda: models.from_nnx(nnx.Sequential(lambda x: x.mean((1, 2))), mean=mean, std=std),
    ):
        with pytest.raises(ValueError, match=message):
            make()


def test_one_number_is_for_all_channels():
    net = models.create("resnet8", num_classes=10, key=jax.random.key(0), mean=0.5, std=np.float32(0.25))
    assert (net.mean.tolist(), net.std.tolist()) == ([0.5] * 3, [0.25] * 3)
    grey = models.create("resnet8", num_classes=10, key=jax.random.key(0), mean=(0.5,), std=0.25)
    assert grey.params["conv"]["kernel"].shape[2] == 1


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


def rows(folder):
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


def test_pruning_nothing_changes_no_number_of_an_evaluation(tmp_path, capsys):
    net = create("resnet8")
    write(tmp_path / "net.pt", net, models.MODELS["resnet8"].torch_keys()[0])
    # Its default normalisation is not that of CIFAR-10.
    test = data.load("digits", split="test", limit=40)
    np.savez(tmp_path / "test.npz", images=test.images, labels=test.labels, class_names=np.array(test.class_names))
    given = ("--model", "resnet8")
    assert run("prune", tmp_path / "net.pt", "--sparsity", "0", "--out", tmp_path / "same", *given) == 0
    assert "the normalisation of this network is not known" in capsys.readouterr().err
    assert run("prune", tmp_path / "same", "--sparsity", "0", "--out", tmp_path / "again") == 0
    where = ("--dataset", "npz", "--data-dir", tmp_path, "--corruptions")
    # With and without the normalisation: the file and the folders take the same one.
    for name, options in (("default", ()), ("chosen", ("--mean", "0.5", "0.4", "0.3", "--std", "0.2", "0.3", "0.4"))):
        out = tmp_path / name
        assert run("evaluate", tmp_path / "net.pt", tmp_path / "again", *where, "--out", out, *given, *options) == 0
        losses = [row["negative_log_likelihood"] for row in rows(out)]
        assert losses[0] == losses[1]
    said = ("--mean", "0.5", "0.5", "0.5", "--std", "0.25", "0.25", "0.25")
    capsys.readouterr()
    assert run("prune", tmp_path / "net.pt", "--sparsity", "0", "--out", tmp_path / "told", *given, *said) == 0
    assert "warning" not in capsys.readouterr().err
    assert run("evaluate", tmp_path / "told", *where, "--out", tmp_path / "rows") == 0
    assert rows(tmp_path / "rows")[0]["negative_log_likelihood"] != losses[0]
    assert run("evaluate", tmp_path / "net.pt", *where, *given, "--mean", "0.5", "0.5", "0.5") == 2
    assert "--mean and --std belong together" in capsys.readouterr().err


# Seeds and keys


def test_seeds_that_are_not_their_own_are_refused():
    assert jax.random.key_data(models.seed_key(2**32 - 1)).tolist() == [0, 2**32 - 1]
    for seed in (2**32, 2**70, -1):
        with pytest.raises(ValueError, match=rf"seed is {seed}; give an integer in 0 ... 4294967295"):
            models.seed_key(seed)
    with pytest.raises(TypeError, match="seed is 1.5; give an integer"):
        models.seed_key(1.5)


@pytest.mark.parametrize(
    "default",
    [
        lambda: jax.enable_x64(True),
        lambda: jax.threefry_partitionable(False),
        lambda: jax.default_prng_impl("rbg"),
        lambda: jax.default_prng_impl("unsafe_rbg"),
    ],
    ids=["x64", "threefry_partitionable", "rbg", "unsafe_rbg"],
)
def test_initial_weights_are_the_same_whatever_jaxs_defaults_are(default):
    def weights(key):
        net = models.create("resnet8", num_classes=10, key=key, stage_widths=(2, 2, 2), mean=MEAN, std=STD)
        return jax.tree.map(np.asarray, (net.params, net.batch_stats, net.mean))

    expected = weights(jax.random.key(3))
    with default():
        jax.tree.map(np.testing.assert_array_equal, weights(jax.random.key(3)), expected)
        assert {leaf.dtype for leaf in jax.tree.leaves(weights(jax.random.key(3)))} == {np.dtype("float32")}


@pytest.mark.parametrize(("key", "message"), [(0, "key is int, not a random key"), (None, "key is NoneType")])
def test_what_is_no_key_is_refused(key, message):
    with pytest.raises(TypeError, match=message):
        models.create("resnet8", num_classes=10, key=key)
