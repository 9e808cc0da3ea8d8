"""Code written for jaxpruner, with the import changed and nothing else."""

import dataclasses
import importlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxprune.pruning as jaxpruner
from jaxprune.pruning import sparsity_distributions

# What jaxpruner's own trainers, projects and notebooks call, private names of its extensions included.
NAMES = """
    utils.summarize_sparsity utils.summarize_intersection summarize_sparsity summarize_intersection
    api.ALGORITHMS ALGORITHM_REGISTRY all_algorithm_names register_algorithm create_updater_from_config
    sparsity_distributions.get_n_zeros sparsity_distributions.KERNEL_FILTER_FN
    mask_calculator._topk_mask_calculator_internal mask_calculator.get_topk_fn mask_calculator.MASK_DTYPE
    algorithms.sparse_trainers._restart_using_mask algorithms.sparse_trainers.restart_inner_state
    algorithms.pruners.generate_random_scores algorithms.pruners.BaseUpdater base_updater.apply_mask
"""


def raised(function):
    """Returns the exception that a call ends with, or None."""
    try:
        function()
    except Exception as error:
        return error
    return None


def uniform(sparsity, **options):
    return partial(sparsity_distributions.uniform, sparsity=sparsity, **options)


@pytest.mark.parametrize("name", NAMES.split())
def test_names_that_client_code_uses_are_there(name):
    thing = jaxpruner
    for part in name.split("."):
        assert hasattr(thing, part), f"no {part} in {name}"
        thing = getattr(thing, part)


def test_utils_can_be_imported_as_a_module():
    assert importlib.util.find_spec("jaxprune.pruning.utils") is not None
    utils = importlib.import_module("jaxprune.pruning.utils")
    assert utils.summarize_sparsity({"w": jnp.array([1.0, 0.0])})["w"] == 0.5


@dataclasses.dataclass
class Weighted(jaxpruner.MagnitudePruning):
    def calculate_scores(self, params, sparse_state=None, grads=None, importance=None):
        return jax.tree.map(lambda w, i: jnp.abs(w) * i, params, importance)


@dataclasses.dataclass
class GloballyWeighted(jaxpruner.GlobalMagnitudePruning):
    def calculate_scores(self, params, sparse_state=None, grads=None, importance=None):
        return Weighted.calculate_scores(self, params, importance=importance)


@pytest.mark.parametrize(
    "updater",
    [Weighted(sparsity_distribution_fn=uniform(0.5)), GloballyWeighted(sparsity=0.5, use_normalization=False)],
    ids=["per parameter", "global"],
)
def test_extra_arguments_of_instant_sparsify_reach_the_scores(updater):
    params, importance = {"w": jnp.array([[1.0, 2.0, 3.0, 4.0]])}, {"w": jnp.array([[9.0, 9.0, 1.0, 1.0]])}
    assert raised(lambda: updater.instant_sparsify(params, importance=importance)) is None
    assert updater.instant_sparsify(params, importance=importance)[1]["w"].tolist() == [[1, 1, 0, 0]]


def test_updaters_that_need_no_scores_take_extra_arguments_too():
    params = {"w": jnp.ones((2, 2))}
    assert raised(lambda: jaxpruner.NoPruning().instant_sparsify(params, importance=params)) is None
    error = raised(lambda: jaxpruner.RigL().instant_sparsify(params, importance=params))
    assert "not supported by RigL" in str(error)


TREE = {"a": jnp.ones((2, 2)), "b": {"c": None, "d": jnp.array([1, 0, 1, 0.001]), "e": jnp.zeros((2, 1))}}


def test_the_summary_of_sparsity_keeps_none():
    summary = jaxpruner.summarize_sparsity(TREE)
    assert {name: None if value is None else float(value) for name, value in summary.items()} == {
        "a": 0.0,
        "b/c": None,
        "b/d": 0.25,
        "b/e": 1.0,
        "_total_sparsity": pytest.approx(0.3),
        "_nparams_nnz": 7.0,
        "_nparams": 10.0,
    }
    assert jax.jit(jaxpruner.summarize_sparsity)(TREE)["b/c"] is None
    assert jaxpruner.summarize_sparsity([jnp.ones(2), None]).get("1", "absent") is None
    _, masks = jaxpruner.MagnitudePruning(sparsity_distribution_fn=uniform(0.5)).instant_sparsify(
        {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    )
    assert jaxpruner.summarize_sparsity(masks).get("bias", "absent") is None


def test_the_summary_of_intersections_keeps_none():
    first = {"a": jnp.array([0, 0, 1, 1]), "b": {"c": None, "d": jnp.array([1, 0]), "e": jnp.array([1, 0])}}
    second = {"a": jnp.array([0, 1, 0, 1]), "b": {"c": None, "d": jnp.array([1, 0]), "e": jnp.array([0, 1])}}
    summary = jaxpruner.summarize_intersection(first, second)
    assert summary["b/c"] is None
    assert [float(summary[name]) for name in ("a", "b/d", "b/e", "_total_intersection")] == [0.5, 1.0, 0.0, 0.5]
    assert jaxpruner.mask_overlap(first, second)["b/c"] is None
    nothing = jaxpruner.summarize_intersection({"c": None}, {"c": None})
    assert (nothing["c"], float(nothing["_total_intersection"])) == (None, 0.0)


@pytest.mark.parametrize(("size", "sparsity", "zeros"), [(10, 0.25, 2), (9, 0.5, 4), (7, 0.0, 0), (3, 0.999, 2)])
def test_numbers_of_zeros_round_down(size, sparsity, zeros):
    assert hasattr(sparsity_distributions, "get_n_zeros")
    assert sparsity_distributions.get_n_zeros(size, sparsity) == zeros


def test_the_inner_top_k_of_extensions_is_the_top_k():
    calculator = jaxpruner.mask_calculator
    assert hasattr(calculator, "_topk_mask_calculator_internal")
    scores = jnp.array([[1.0, 5.0], [1.0, 1.0]])
    for sparsity in (0.0, 0.5, 0.9):
        np.testing.assert_array_equal(
            calculator._topk_mask_calculator_internal(scores, sparsity),
            calculator.topk_mask_calculator(scores, sparsity),
        )


BIASES = {"conv": {"bias": jnp.arange(1.0, 5.0)}, "linear": {"bias": jnp.ones(3)}}


@pytest.mark.parametrize("name", sorted(set(jaxpruner.all_algorithm_names()) - {"no_prune"}))
def test_an_optimiser_for_biases_has_nothing_to_prune(name):
    updater = jaxpruner.create_updater_from_config(
        {
            "algorithm": name,
            "dist_type": "uniform",
            "sparsity": 0.5,
            "update_start_step": 0,
            "update_end_step": 3,
            "update_freq": 1,
        }
    )
    tx = updater.wrap_optax(optax.sgd(0.5, momentum=0.9))
    assert raised(lambda: tx.init(BIASES)) is None
    state = tx.init(BIASES)
    assert state.masks == {"conv": {"bias": None}, "linear": {"bias": None}}
    for _ in range(2):
        updates, state = tx.update(BIASES, state, BIASES)
    expected = optax.apply_updates(BIASES, updates)
    jax.tree.map(np.testing.assert_array_equal, updater.post_gradient_update(expected, state), expected)


def test_a_tree_of_biases_is_left_as_it_is_at_once():
    updater = jaxpruner.MagnitudePruning(sparsity_distribution_fn=uniform(0.5))
    assert raised(lambda: updater.instant_sparsify(BIASES)) is None
    params, masks = updater.instant_sparsify(BIASES)
    jax.tree.map(np.testing.assert_array_equal, params, BIASES)
    assert not jax.tree.leaves(masks)


def test_an_optimiser_of_two_parts_prunes_the_one_and_not_the_other():
    pruner = jaxpruner.MagnitudePruning(
        scheduler=jaxpruner.OneShotSchedule(0), sparsity_distribution_fn=uniform(0.5), use_packed_masks=True
    )
    params = {"kernel": jnp.arange(1.0, 9.0).reshape(2, 4), "bias": jnp.ones(4)}
    tx = optax.multi_transform(
        {name: pruner.wrap_optax(optax.sgd(0.1)) for name in params}, {name: name for name in params}
    )
    assert raised(lambda: tx.init(params)) is None
    _, state = tx.update(params, tx.init(params), params)
    masks = state.inner_states["kernel"].inner_state.masks["kernel"]
    assert np.unpackbits(np.asarray(masks), count=8).tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_a_filter_of_ones_own_that_selects_nothing_is_still_an_error():
    updater = jaxpruner.MagnitudePruning(sparsity_distribution_fn=uniform(0.5, filter_fn=jaxpruner.conv_kernels))
    with pytest.raises(ValueError, match="selects none of the 2 parameters"):
        updater.wrap_optax(optax.sgd(0.1)).init(BIASES)


def test_an_algorithm_that_moves_between_sparse_and_dense_phases():
    """In the style of jaxpruner's AC/DC: a schedule of its own, masks made from both hooks, registered by name."""

    @dataclasses.dataclass
    class Alternating(jaxpruner.algorithms.MagnitudePruning):
        period: int = 2

        def __post_init__(self):
            super().__post_init__()
            self.scheduler = jaxpruner.sparsity_schedules.PeriodicSchedule(
                update_freq=1, update_start_step=0, update_end_step=2**31 - 1
            )

        def update_state(self, sparse_state, params, grads):
            def sparse():
                scores = self.calculate_scores(params, sparse_state=sparse_state, grads=grads)
                return sparse_state._replace(masks=self.create_masks(scores, sparse_state.target_sparsities))

            def dense():
                return sparse_state._replace(masks=self.get_initial_masks(params, sparse_state.target_sparsities))

            return jax.lax.cond(sparse_state.count % self.period == 1, sparse, dense)

    updater = Alternating(sparsity_distribution_fn=uniform(0.5))
    tx = updater.wrap_optax(optax.adamw(1e-3))
    params = {"w": jnp.array([[0.1, 0.9], [0.2, 0.5]])}
    state, kept = tx.init(params), []
    for _ in range(4):
        _, state = jax.jit(tx.update)(params, state, params)
        kept.append(float(state.masks["w"].mean()))
    assert kept == [1.0, 0.5, 1.0, 0.5]
