"""Updaters by configuration, and every public name."""

import dataclasses
import inspect
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprune import pruning
from jaxprune.pruning import api, sparsity_types

BASE = {"algorithm": "magnitude", "dist_type": "uniform", "sparsity": 0.8}
STEPS = {"update_freq": 10, "update_start_step": 200, "update_end_step": 1000}


def test_every_public_name_exists_and_is_documented():
    for name in pruning.__all__:
        public = getattr(pruning, name)
        assert inspect.getdoc(public), name
    for module, names in {
        "sparsity_types": "Unstructured Block NByM Channel SparsityType is_sparsity_type",
        "sparsity_distributions": "uniform erk get_sparsities_erdos_renyi KERNEL_FILTER_FN NOT_DIM_ONE_FILTER_FN",
        "sparsity_schedules": "NoUpdateSchedule OneShotSchedule PeriodicSchedule PolynomialSchedule",
        "mask_calculator": "get_topk_fn topk_mask_calculator topk_n_by_m_mask_calculator topk_block_mask_calculator "
        "topk_channel_mask_calculator MASK_DTYPE",
        "base_updater": "SparseState BaseUpdater NoPruning apply_mask",
        "api": "create_updater_from_config all_algorithm_names register_algorithm ALGORITHM_REGISTRY",
        "algorithms": "pruners global_pruners sparse_trainers ste MagnitudePruning RandomPruning SaliencyPruning "
        "GlobalMagnitudePruning GlobalSaliencyPruning SteMagnitudePruning SteRandomPruning StaticRandomSparse SET RigL",
    }.items():
        for name in names.split():
            assert hasattr(getattr(pruning, module), name), f"{module}.{name}"


@dataclasses.dataclass
class Config:
    algorithm: str = "magnitude"
    dist_type: str = "uniform"
    sparsity: float = 0.8


class Items:
    """As an ml_collections.ConfigDict offers itself: items, without being a Mapping."""

    def items(self):
        return BASE.items()


@pytest.mark.parametrize(
    "config", [BASE, types.SimpleNamespace(**BASE), Config(), Items()], ids=lambda c: type(c).__name__
)
def test_a_configuration_is_anything_with_entries(config):
    updater = api.create_updater_from_config(config)
    assert type(updater) is pruning.MagnitudePruning
    assert updater.sparsity_distribution_fn(np.ones((2, 2))) == 0.8
    assert BASE["algorithm"] == "magnitude"  # the configuration is left as it was


@pytest.mark.parametrize("name", api.all_algorithm_names())
def test_every_algorithm_can_be_configured_and_initialised(name):
    updater = api.create_updater_from_config({**BASE, **STEPS, "algorithm": name, "dist_type": "erk"})
    assert type(updater) is api.ALGORITHM_REGISTRY[name]
    state = updater.init_state({"a": jnp.ones((4, 4)), "b": jnp.ones((2, 8))})
    assert int(state.count) == 0


def test_the_distribution_is_a_partial_of_its_function():
    updater = api.create_updater_from_config({**BASE, "dist_type": "erk"})
    parameters = inspect.signature(updater.sparsity_distribution_fn).parameters
    assert list(parameters) == ["param_tree", "sparsity", "filter_fn", "custom_sparsity_map"]
    assert parameters["sparsity"].default == 0.8


@pytest.mark.parametrize(
    ("steps", "schedule"),
    [
        ({}, pruning.NoUpdateSchedule()),
        ({"update_start_step": None, "update_end_step": 10}, pruning.NoUpdateSchedule()),
        ({"update_start_step": 7, "update_end_step": 7}, pruning.OneShotSchedule(target_step=7)),
        (STEPS, pruning.PolynomialSchedule(update_freq=10, update_start_step=200, update_end_step=1000)),
    ],
)
def test_schedules(steps, schedule):
    assert api.create_updater_from_config(BASE | steps).scheduler == schedule


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nm_2,4", sparsity_types.NByM(2, 4)),
        ("block_4,8", sparsity_types.Block((4, 8))),
        ("channel_-1", sparsity_types.Channel(-1)),
        (sparsity_types.Channel(0), sparsity_types.Channel(0)),
    ],
)
def test_sparsity_types(text, expected):
    assert api.create_updater_from_config(BASE | {"sparsity_type": text}).sparsity_type == expected


@pytest.mark.parametrize("name", ["rigl", "set"])
def test_drop_fractions_decay_along_a_cosine(name):
    for given, expected in (({}, 0.1), ({"drop_fraction": 0.4}, 0.4)):
        updater = api.create_updater_from_config(BASE | STEPS | given | {"algorithm": name})
        assert float(updater.drop_fraction_fn(0)) == pytest.approx(expected)
        assert float(updater.drop_fraction_fn(500)) == pytest.approx(expected / 2)
        assert float(updater.drop_fraction_fn(1000)) == pytest.approx(0)


def test_filters_and_custom_sparsities_go_where_they_belong():
    extra = {"filter_fn": pruning.kernels, "custom_sparsity_map": {("scale",): 0.5}}
    params = {"kernel": jnp.arange(1.0, 11.0), "scale": jnp.arange(1.0, 5.0), "bias": jnp.ones((2, 2))}
    updater = api.create_updater_from_config(BASE | extra)
    assert updater.sparsity_distribution_fn(params) == {"kernel": 0.8, "scale": 0.5, "bias": None}
    updater = api.create_updater_from_config(
        BASE | extra | {"algorithm": "global_magnitude", "use_normalization": False}
    )
    assert (updater.sparsity, updater.use_normalization) == (0.8, False)
    masks = updater.instant_sparsify(params)[1]
    assert (int(masks["kernel"].sum()), int(masks["scale"].sum()), masks["bias"]) == (2, 2, None)


def test_other_entries_go_to_the_updater():
    updater = api.create_updater_from_config(BASE | {"use_packed_masks": True, "rng_seed": 3})
    assert updater.use_packed_masks
    np.testing.assert_array_equal(updater.rng_seed, jax.random.PRNGKey(3))


def test_registration(monkeypatch):
    monkeypatch.setattr(api, "ALGORITHM_REGISTRY", dict(api.ALGORITHM_REGISTRY))

    @dataclasses.dataclass
    class Signed(pruning.BaseUpdater):
        def calculate_scores(self, params, sparse_state=None, grads=None):
            return params

    api.register_algorithm("signed", Signed)
    assert "signed" in api.all_algorithm_names()
    updater = api.create_updater_from_config(BASE | {"algorithm": "signed", "sparsity": 0.5})
    assert updater.instant_sparsify(jnp.array([[-3.0, 1.0]]))[1].tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"algorithm": "magic"},
            r"Sparsity algorithm 'magic' is not supported; use one of all_algorithm_names\(\), no_prune, magn",
        ),
        ({"dist_type": "normal"}, r"dist_type: 'normal' is not supported; use one of uniform, erk"),
        ({"dist_type": None}, r"dist_type: None"),
        ({"sparsity_type": "nm_2"}, r"Sparsity type 'nm_2' is not supported; write nm_2,4"),
        ({"sparsity_type": "wrong"}, r"Sparsity type 'wrong' is not supported"),
        ({"update_start_step": 5}, r"needs update_end_step and update_freq too"),
        ({"algorithm": "rigl"}, r"rigl needs an update_end_step"),
        ({"momentum": 0.9}, r"magnitude has no option momentum; its options are scheduler"),
    ],
)
def test_what_is_unknown_is_refused_with_what_is_known(change, message):
    with pytest.raises(ValueError, match=message):
        api.create_updater_from_config(BASE | change)


def test_a_configuration_needs_a_sparsity_and_no_prune_needs_nothing():
    with pytest.raises(ValueError, match="no sparsity"):
        api.create_updater_from_config({"algorithm": "magnitude", "dist_type": "erk"})
    assert type(api.create_updater_from_config({"algorithm": "no_prune"})) is pruning.NoPruning
