"""The original jaxpruner's updaters, where it is installed."""

import dataclasses
import functools
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxprune import pruning
from jaxprune.pruning import sparsity_distributions

installed = pytest.mark.skipif(
    not pruning.original.is_installed(), reason="the original jaxpruner is not installed (it is on no package index)"
)


@dataclasses.dataclass(frozen=True)
class Net:
    params: Any

    def replace(self, **changes):
        return dataclasses.replace(self, **changes)


@pytest.fixture
def without_tree_map():
    """Takes `jax.tree_map` from JAX for a test, and puts back what was there before, or its absence."""
    absent = object()
    before = vars(jax).pop("tree_map", absent)
    yield
    vars(jax).pop("tree_map", None)
    if before is not absent:
        jax.tree_map = before


@pytest.fixture
def stand_in(tmp_path, monkeypatch, without_tree_map):
    """Makes `jaxpruner` the module `STAND_IN` for a test; afterwards, what is installed is found again."""
    (tmp_path / "jaxpruner").mkdir()
    (tmp_path / "jaxpruner" / "__init__.py").write_text(STAND_IN)
    installed = _taken_out("jaxpruner")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    _taken_out("jaxpruner")
    sys.modules.update(installed)


def _taken_out(package):
    """Removes a package and all its parts from the imported modules, and returns them."""
    names = [name for name in sys.modules if name.partition(".")[0] == package]
    return {name: sys.modules.pop(name) for name in names}


@pytest.fixture
def net(rng):
    return Net({"conv": {"kernel": jnp.asarray(rng.normal(size=(3, 3, 2, 4)).astype(np.float32)), "bias": jnp.ones(4)}})


def test_updaters_are_accepted_by_prune(net):
    for packed in (False, True):
        updater = pruning.MagnitudePruning(
            sparsity_distribution_fn=functools.partial(sparsity_distributions.uniform, sparsity=0.5),
            use_packed_masks=packed,
        )
        pruned, masks = pruning.prune(net, method=updater)
        assert masks["conv"]["kernel"].shape == (3, 3, 2, 4)
        np.testing.assert_array_equal(pruned.params["conv"]["kernel"] == 0, masks["conv"]["kernel"] == 0)
    with pytest.raises(ValueError, match="an updater has its own sparsity and key"):
        pruning.prune(net, method=updater, sparsity=0.5)


def test_tree_map_is_restored_only_where_it_is_missing(without_tree_map):
    pruning.original.restore_tree_map()
    assert jax.tree_map(lambda x: x + 1, {"a": 1}) == {"a": 2}
    own = jax.tree_map = object()
    pruning.original.restore_tree_map()
    assert jax.tree_map is own


def test_a_missing_library_is_explained(monkeypatch):
    monkeypatch.setattr(pruning.original, "is_installed", lambda: False)
    with pytest.raises(ImportError, match="install it from its repository google-research/jaxpruner, or go on with"):
        pruning.original.load()


STAND_IN = """
import jax, jax.numpy as jnp, optax

class Halving:
    # Speaks the original's dialect: jax.tree_map, an update of three arguments, a state with masks.
    use_packed_masks = False

    def masks(self, params):
        return jax.tree_map(lambda p: (jnp.arange(p.size) % 2).astype("uint8").reshape(p.shape), params)

    def instant_sparsify(self, params, grads=None):
        masks = self.masks(params)
        return jax.tree_map(lambda p, m: p * m, params, masks), masks

    def wrap_optax(self, inner):
        def init(params):
            return State(self.masks(params), inner.init(params))

        def update(updates, state, params):
            updates, inner_state = inner.update(updates, state.inner_state, params)
            return updates, state._replace(inner_state=inner_state)

        return optax.GradientTransformation(init, update)

from typing import Any, NamedTuple

class State(NamedTuple):
    masks: Any
    inner_state: Any
"""


def test_updaters_in_the_dialect_of_the_original_are_accepted(net, stand_in):
    updater = pruning.original.load().Halving()
    pruned, masks = pruning.prune(net, method=updater)
    assert int((pruned.params["conv"]["kernel"] == 0).sum()) == 36
    tx = pruning.pruned_optimizer(updater, optax.adamw(0.1))
    params, state = net.params, tx.init(net.params)
    for _ in range(2):
        updates, state = tx.update(params, state, params)
        params = optax.apply_updates(params, updates)
        jax.tree.map(lambda leaf, mask: np.testing.assert_array_equal(leaf != 0, mask), params, masks)


def test_no_stand_in_outlives_its_test():
    # Runs after the tests with the stand-in: what they leave would pass for the original in those that follow.
    assert not hasattr(sys.modules.get("jaxpruner"), "Halving")
    if not pruning.original.is_installed():
        assert "jaxpruner" not in sys.modules
        assert not hasattr(jax, "tree_map")


@installed
@pytest.mark.parametrize("name", ["MagnitudePruning", "RandomPruning", "GlobalMagnitudePruning"])
def test_original_updaters_give_our_masks(name, net):
    original = pruning.original.load()
    results = []
    for library, uniform in (
        (pruning, sparsity_distributions.uniform),
        (original, original.sparsity_distributions.uniform),
    ):
        options = (
            {"sparsity": 0.6}
            if name.startswith("Global")
            else {"sparsity_distribution_fn": functools.partial(uniform, sparsity=0.6)}
        )
        results.append(pruning.prune(net, method=getattr(library, name)(**options)))
    jax.tree.map(np.testing.assert_array_equal, results[0][1], results[1][1])


@installed
def test_original_updaters_hold_their_masks_in_our_optimiser(net):
    original = pruning.original.load()
    updater = original.MagnitudePruning(
        scheduler=original.OneShotSchedule(target_step=0),
        sparsity_distribution_fn=functools.partial(original.sparsity_distributions.uniform, sparsity=0.5),
    )
    tx = pruning.pruned_optimizer(updater, optax.adamw(0.1))
    params, state = net.params, tx.init(net.params)
    for _ in range(3):
        updates, state = tx.update(params, state, params)
        params = optax.apply_updates(params, updates)
        assert int((params["conv"]["kernel"] == 0).sum()) == 36
