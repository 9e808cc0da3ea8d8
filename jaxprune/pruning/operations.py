"""Multiply-accumulates of any classifier, counted on the traced forward pass."""

import math
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp

from jaxprune.pruning._annotations import HasForward, Params
from jaxprune.pruning._trees import flatten_named, show

# Operations that pass a weight on as it is, so that its name goes along: operand 0.
_PASSES_ON = {"convert_element_type", "reshape", "transpose", "squeeze", "copy", "stop_gradient", "mul", "rev"}
UNNAMED = "other"


def multiply_accumulates(classifier: HasForward, *, image_size: int) -> dict[str, int]:
    """Returns the multiply-accumulates per image of each weight, {"path/of/kernel": count}.

    Counted are convolutions (output elements x kernel size x input channels per group) and matrix products (rows x
    columns x summed length), padding included; BatchNorm, biases, activations, additions and pooling are not, which is
    how the literature counts "FLOPs" (often twice this number elsewhere). Products of two activations count under
    "other". Nothing is computed: the leaves of the classifier may be shapes (`jax.ShapeDtypeStruct`).

    Args:
      classifier: anything with `params`, `batch_stats`, `apply` and `mean` (one entry per input channel).
      image_size: pixels per side.
    """
    images = jax.ShapeDtypeStruct((1, image_size, image_size, classifier.mean.shape[-1]), jnp.float32)
    named = flatten_named(classifier.params)

    def forward(params: Params, batch_stats: Any, images: Any) -> Any:
        return classifier.apply(params, batch_stats, images)[0]

    traced = jax.make_jaxpr(forward)(classifier.params, classifier.batch_stats, images)
    counts: dict[str, int] = {}
    sources = [show(names) for names, _ in named]
    sources += [None] * (len(traced.jaxpr.invars) - len(sources))
    _walk(traced.jaxpr, sources, 1, counts)
    return counts


def _walk(
    jaxpr: jax.extend.core.Jaxpr, sources: list[str | None], times: int, counts: dict[str, int]
) -> list[str | None]:
    """Adds the operations of a jaxpr, run `times` times, to `counts`; returns which weights its outputs are."""
    names = dict(zip(jaxpr.invars, sources, strict=True))

    def name_of(atom: Any) -> str | None:
        return None if isinstance(atom, jax.extend.core.Literal) else names.get(atom)

    for equation in jaxpr.eqns:
        operands = [name_of(atom) for atom in equation.invars]
        primitive = equation.primitive.name
        if primitive in ("conv_general_dilated", "dot_general"):
            name = next((operand for operand in reversed(operands) if operand), UNNAMED)
            counts[name] = counts.get(name, 0) + times * _count(equation)
            continue
        inner = _inner_jaxpr(equation)
        if inner is not None:
            repeated = times * equation.params.get("length", 1)
            offset = len(operands) - len(inner.invars)
            results = _walk(inner, operands[max(offset, 0) :], repeated, counts)
            names.update(zip(equation.outvars, results[: len(equation.outvars)], strict=False))
        elif primitive in _PASSES_ON:
            out = equation.outvars[0]
            same_size = zip(equation.invars, operands, strict=True)
            # A mask multiplies a weight of its own size; a BatchNorm scale, stretched over activations, ends here.
            names[out] = next((name for atom, name in same_size if name and atom.aval.size == out.aval.size), None)
    return [name_of(atom) for atom in jaxpr.outvars]


def _inner_jaxpr(equation: jax.extend.core.JaxprEqn) -> jax.extend.core.Jaxpr | None:
    """Returns the jaxpr that a higher-order operation runs; of a choice, by platform for instance, the last branch."""
    for key in ("jaxpr", "call_jaxpr", "fun_jaxpr", "body_jaxpr", "branches"):
        inner = equation.params.get(key)
        if inner is not None:
            inner = inner[-1] if isinstance(inner, tuple) else inner
            return getattr(inner, "jaxpr", inner)
    return None


def _count(equation: jax.extend.core.JaxprEqn) -> int:
    out = equation.outvars[0].aval.shape
    left, right = (atom.aval.shape for atom in equation.invars[:2])
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        return math.prod(out) * math.prod(left[axis] for axis in contracted)
    out_features = right[equation.params["dimension_numbers"].rhs_spec[0]]
    return math.prod(out) * math.prod(right) // out_features
