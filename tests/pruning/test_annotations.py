"""Every argument of the room has a type, and the tests' import hook checks calls against it."""

import ast
import pathlib

import jax.numpy as jnp
import jaxtyping
import pytest

from jaxprune import pruning
from jaxprune.pruning import sparsity_distributions

ROOM = pathlib.Path(__file__).parents[2] / "jaxprune" / "pruning"
FILES = sorted(path for path in ROOM.rglob("*.py") if path.name != "mask_files.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOM)))
def test_every_argument_and_result_is_annotated(path):
    missing = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            arguments = [
                *node.args.posonlyargs,
                *node.args.args,
                *node.args.kwonlyargs,
                node.args.vararg,
                node.args.kwarg,
            ]
            named = [each for each in arguments if each is not None and each.arg not in ("self", "cls")]
            missing += [f"{node.name}({each.arg})" for each in named if each.annotation is None]
            missing += [f"{node.name} ->"] if node.returns is None else []
    assert not missing


PARAMS = {"kernel": jnp.ones((2, 2))}
MASKS = {"kernel": jnp.ones((2, 2), jnp.uint8)}


class Net:
    params = PARAMS


WRONG_CALLS = {
    "parameters that are no arrays": lambda: pruning.mask_params({"kernel": "array"}, MASKS),
    "a classifier without replace": lambda: pruning.prune(Net(), method="weight", sparsity=0.5),
    "a name where a filter is": lambda: sparsity_distributions.uniform(PARAMS, 0.5, filter_fn="kernels"),
    "a text where packing is": lambda: pruning.MagnitudePruning().apply_masks(PARAMS, MASKS, is_packed="no"),
    "a schedule that is none": lambda: pruning.MagnitudePruning(scheduler=10),
    "an optimiser that is none": lambda: pruning.masked_optimizer("sgd", MASKS),
    "a seed as text": lambda: pruning.algorithms.pruners.generate_random_scores(PARAMS, "0"),
    "one latency where a mapping is": lambda: pruning.compare_latency([Net()]),
    "a size that is no integer": lambda: pruning.multiply_accumulates(Net(), image_size=8.5),
    "drop scores of another shape": lambda: pruning.SET()._update_masks(
        MASKS["kernel"], jnp.ones((2, 2)), jnp.ones((3, 2)), 0.5
    ),
}


@pytest.mark.parametrize("call", WRONG_CALLS)
def test_calls_are_checked_against_the_annotations(call):
    try:
        result = WRONG_CALLS[call]()
    except Exception as error:
        result = error
    assert isinstance(result, jaxtyping.TypeCheckError), f"{type(result).__name__}: {result}"
