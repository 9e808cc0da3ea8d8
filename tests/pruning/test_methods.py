"""A method is one row: N:M and block patterns, fixed sparsities, other names, needs, options, a row of one's own."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprune import names, pruning, study
from jaxprune.report import formatting
from tests.pruning import toy


@dataclasses.dataclass(frozen=True)
class Net:
    params: Any

    def replace(self, **changes):
        return dataclasses.replace(self, **changes)


@pytest.fixture(scope="module")
def grouped():
    return toy.classifier()


@pytest.fixture
def net(rng):
    def array(*shape):
        return jnp.asarray(rng.normal(size=shape).astype(np.float32))

    return Net({"stem": {"kernel": array(3, 3, 3, 8)}, "conv": {"kernel": array(3, 3, 8, 6), "bias": array(6)}})


@pytest.mark.parametrize("name", pruning.METHODS)
def test_a_row_says_all_that_is_asked_of_it(name):
    row = pruning.METHODS[name]
    assert row.granularity in (names.GRANULARITY_WEIGHTS, names.GRANULARITY_CHANNELS)
    assert row.scope in (pruning.GLOBAL, pruning.PER_LAYER)
    assert row.title
    assert row.description.endswith(".")
    assert "\n" not in row.description
    assert set(row.needs) <= {"key", "images", "labels"}
    assert [each is not None for each in (row.masks, row.updater, row.criterion)].count(True) == 1
    assert row.removes_channels == (row.criterion is not None)
    assert row.masks_move == (row.updater is not None) == (name in ("set", "rigl", "ste"))
    assert (name in pruning.STRUCTURED_METHODS) == row.removes_channels
    assert row.sparsity is None or 0 < row.sparsity < 1
    assert study.configuration.granularity(name) == row.granularity
    # The report may not import this room, so it has the titles again.
    assert formatting.method(name) == row.title


def test_controls_are_the_random_methods_of_their_kind():
    for granularity, name in names.CONTROLS.items():
        assert pruning.METHODS[name].granularity == granularity
        assert pruning.METHODS[name].needs == ("key",)


@pytest.mark.parametrize(("method", "kept"), [("nm_2_4", 2), ("nm_1_4", 1)])
def test_n_of_m_keeps_the_largest_of_every_m_along_the_inputs(method, kept, net):
    pruned, masks = pruning.prune(net, method=method)
    # The stem has 27 inputs, which 4 does not divide.
    assert masks["stem"]["kernel"] is None
    np.testing.assert_array_equal(pruned.params["stem"]["kernel"], net.params["stem"]["kernel"])
    kernel, mask = np.asarray(net.params["conv"]["kernel"]), np.asarray(masks["conv"]["kernel"])
    assert mask.dtype == np.uint8
    for groups, of in ((mask[:, :, :4], kernel[:, :, :4]), (mask[:, :, 4:], kernel[:, :, 4:])):
        assert (groups.sum(2) == kept).all()
        order = np.argsort(-np.abs(of), axis=2)[:, :, :kept]
        assert np.take_along_axis(groups, order, axis=2).all()
    again = pruning.prune(net, method=method, sparsity=1 - kept / 4)[1]
    np.testing.assert_array_equal(again["conv"]["kernel"], mask)


def test_kernels_with_the_outputs_first_have_the_same_pattern(net):
    kernel = net.params["conv"]["kernel"]
    turned = Net({"conv": {"weight": jnp.transpose(kernel, (3, 2, 0, 1))}})
    for method, sparsity in (("nm_2_4", None), ("block_4_4", 0.5)):
        _, masks = pruning.prune(Net({"conv": {"kernel": kernel}}), method=method, sparsity=sparsity)
        _, others = pruning.prune(turned, method=method, sparsity=sparsity)
        expected = jnp.transpose(masks["conv"]["kernel"], (3, 2, 0, 1))
        np.testing.assert_array_equal(others["conv"]["weight"], expected)


def test_the_kernels_of_attention_are_the_matrices_that_multiply_the_inputs(rng):
    matrix = jnp.asarray(rng.normal(size=(8, 8)).astype(np.float32))
    params = {
        "attention": {
            "query": {"kernel": matrix.reshape(8, 2, 4)},
            "out": {"kernel": matrix.reshape(2, 4, 8)},
        },
        "linear": {"kernel": matrix},
    }
    for method, sparsity in (("nm_2_4", None), ("block_4_4", 0.5)):
        _, masks = pruning.prune(Net(params), method=method, sparsity=sparsity, filter_fn="kernels")
        expected = np.asarray(masks["linear"]["kernel"])
        assert 0 < expected.mean() < 1
        for name in ("query", "out"):
            np.testing.assert_array_equal(masks["attention"][name]["kernel"].reshape(8, 8), expected)


def test_blocks_go_whole_by_their_mean(net):
    _, masks = pruning.prune(net, method="block_4_4", sparsity=0.5)
    for layer in ("stem", "conv"):
        kernel, mask = (np.asarray(tree[layer]["kernel"]) for tree in (net.params, masks))
        matrix, mask = np.abs(kernel).reshape(-1, kernel.shape[-1]), mask.reshape(-1, kernel.shape[-1])
        means, kept = [], []
        for row in range(0, matrix.shape[0], 4):
            for column in range(0, matrix.shape[1], 4):
                block = mask[row : row + 4, column : column + 4]
                assert len(np.unique(block)) == 1
                kept.append(block[0, 0] == 1)
                means.append(matrix[row : row + 4, column : column + 4].mean())
        kept, means = np.array(kept), np.array(means)
        assert kept.sum() == round(len(kept) * 0.5)
        assert means[kept].min() > means[~kept].max()
    everything = pruning.prune(net, method="block_4_4", sparsity=0.0)[1]
    assert all(mask.all() for mask in jax.tree.leaves(everything))


def test_a_pattern_that_fits_no_kernel_is_refused():
    narrow = Net({"conv": {"kernel": jnp.ones((3, 3, 3, 2))}})
    with pytest.raises(
        ValueError, match="none of the 1 kernels that the filter selects has a number of inputs that 4 d"
    ):
        pruning.prune(narrow, method="nm_2_4")
    with pytest.raises(
        ValueError, match="has at least 4 inputs and 4 outputs; use a method without a pattern, such as"
    ):
        pruning.prune(narrow, method="block_4_4", sparsity=0.5)


def test_a_method_with_one_sparsity_takes_no_other(net):
    message = (
        r"'nm_2_4' removes 0.5 of the weights that it prunes and nothing else, got sparsity 0.7; leave it out or give"
    )
    with pytest.raises(ValueError, match=message):
        pruning.prune(net, method="nm_2_4", sparsity=0.7)
    with pytest.raises(ValueError, match=r"sparsity must be a number in \[0, 1\)"):
        pruning.prune(net, method="weight")
    assert pruning.prune(net, method="nm_2_4", sparsity=0.0)[1]["conv"]["kernel"].all()


def raised(function):
    try:
        function()
    except Exception as error:
        return error
    return None


@pytest.mark.parametrize(("alias", "name"), [("global_magnitude", "weight"), ("nm_2,4", "nm_2_4")])
def test_other_names_of_methods_are_accepted(alias, name, net):
    sparsity = pruning.METHODS[name].sparsity or 0.5 if name in pruning.METHODS else 0.5
    assert raised(lambda: pruning.prune(net, method=alias, sparsity=sparsity)) is None
    masks, expected = (pruning.prune(net, method=method, sparsity=sparsity)[1] for method in (alias, name))
    jax.tree.map(np.testing.assert_array_equal, masks, expected)
    config = study.StudyConfig(methods=(alias, "filter_l1"), controls=False)
    assert config.all_arms()[0].methods == (name, "filter_l1")
    assert raised(lambda: study.check(config)) is None


def test_a_study_can_name_patterns_and_gives_them_their_own_sparsity():
    config = study.StudyConfig(methods=("nm_2_4", "block_4_4", "filter_l1"), sparsities=(0.0, 0.3), seeds=(0,))
    assert raised(lambda: study.check(config)) is None
    (arm,) = config.all_arms()
    planned = [(each.method, each.sparsity) for each in study.networks(config, arm, 0)]
    assert planned == [
        ("dense", 0.0),
        ("nm_2_4", 0.5),
        ("block_4_4", 0.3),
        ("filter_l1", 0.3),
        ("random", 0.3),
        ("random", 0.5),
        ("channel_random", 0.3),
    ]


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("weight", {"layers": "study", "round_to": 8}, "layers, round_to are options of methods that remove channels"),
        ("filter_l1", {"filter_fn": "kernels"}, r"filter_fn is an option of methods that remove weights \(weight, "),
        ("weight", {"rounds": 3}, "prune has no option 'rounds'; 'weight' takes filter_fn"),
        ("taylor", {}, "method 'taylor' needs images= and labels=, a batch of training images"),
        ("taylor", {"images": toy.images()}, "method 'taylor' needs labels="),
        ("channel_random", {}, r"method 'channel_random' draws at random: give key=jax.random.key\(seed\)"),
    ],
)
def test_options_and_needs_are_those_of_the_row(method, options, message, grouped):
    with pytest.raises(ValueError, match=message):
        pruning.prune(grouped, method=method, sparsity=0.5, **options)


def test_a_row_of_ones_own_is_a_method_everywhere(monkeypatch, net):
    def largest(params, sparsity, filter_fn, key):
        updater = pruning.GlobalMagnitudePruning(sparsity=1 - sparsity, filter_fn=filter_fn, use_normalization=False)
        return jax.tree.map(lambda mask: 1 - mask, updater.instant_sparsify(params)[1])

    row = dataclasses.replace(pruning.METHODS["weight"], masks=largest, title="pruning of large weights")
    monkeypatch.setitem(pruning.METHODS, "largest", row)
    _, masks = pruning.prune(net, method="largest", sparsity=0.5)
    _, others = pruning.prune(net, method="weight", sparsity=0.5)
    jax.tree.map(lambda mask, other: np.testing.assert_array_equal(mask, 1 - other), masks, others)
    config = study.StudyConfig(methods=("largest",))
    study.check(config)
    assert config.all_arms()[0].methods == ("largest", "random")


@pytest.mark.parametrize("method", [name for name, row in pruning.METHODS.items() if row.masks_move])
def test_a_method_whose_masks_move_is_refused_where_nothing_trains(method, net):
    with pytest.raises(ValueError, match=f"the masks of '{method}' change while the network trains.*pruned_optimizer"):
        pruning.prune(net, method=method, sparsity=0.5)
    config = study.StudyConfig(methods=(method,))
    study.check(config)
    untrained = dataclasses.replace(config, pretrain=dataclasses.replace(config.pretrain, epochs=0))
    with pytest.raises(ValueError, match=f"arm 'resnet8': the masks of '{method}' change while the network trains"):
        study.check(untrained)
