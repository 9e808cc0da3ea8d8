"""Errors under common corruptions, relative to a baseline or not, and their means over the benchmark's categories.

`errors` is a dictionary: corruption name -> error rates `[..., severities]`, in [0, 1] (percentages are refused, except
under a transformation, which sees no values); leading axes (models, seeds) are kept. The benchmark is the fifteen
`COMMON_CORRUPTIONS`; others count only when named in `corruptions=`.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxprune.metrics._arguments import as_float
from jaxprune.metrics._checked import checked, refuse_values
from jaxprune.names import COMMON_CORRUPTIONS, CORRUPTION_CATEGORIES, EXTRA_CORRUPTIONS

# Mean top-1 error over the five severities of ImageNet-C, and clean: Hendrycks & Dietterich 2019, Table 1, with the
# digits of the evaluation script they published.
ALEXNET_IMAGENET_C_ERROR = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}
ALEXNET_IMAGENET_CLEAN_ERROR = 0.4348
NUM_SEVERITIES = 5

Errors = Mapping[str, ArrayLike]


@checked()
def corruption_error(error: ArrayLike, baseline_error: ArrayLike) -> Float[Array, "..."]:
    r"""Returns the error under one corruption relative to the baseline's, 1 where they are as robust.

    $$\frac{\sum_s E_s}{\sum_s E^{\mathrm{baseline}}_s}$$

    over the last axis, the same severities of both (Hendrycks & Dietterich 2019, Section 4.2). Raises `ValueError` when
    the numbers of severities differ, and, eagerly, for error rates outside [0, 1].

    >>> round(corruption_error(jnp.array([0.1, 0.3]), jnp.array([0.4, 0.4])).item(), 3)
    0.5
    """
    return _relative_error(_severities("error", error), _severities("baseline_error", baseline_error))


def _relative_error(error: Float[Array, "..."], baseline_error: Float[Array, "..."]) -> Float[Array, "..."]:
    if error.shape[-1] != baseline_error.shape[-1]:
        raise ValueError(
            "error and baseline_error must hold the same severities in their last axis, got "
            f"{error.shape[-1]} and {baseline_error.shape[-1]}"
        )
    return error.sum(axis=-1) / baseline_error.sum(axis=-1)


def mean_corruption_error(
    errors: Errors,
    *,
    baseline: Errors | str | None = None,
    corruptions: tuple[str, ...] = COMMON_CORRUPTIONS,
) -> Float[Array, "..."]:
    """Returns the mean over `corruptions` of the error, or with `baseline` of the error relative to it.

    Without a baseline: the plain mean error over corruptions and severities, in [0, 1], the usual number for CIFAR.
    With one (a dictionary like `errors`, or "alexnet" for the published errors on ImageNet-C, which needs all five
    severities): the mean of `corruption_error`, the number of Hendrycks & Dietterich 2019 (times 100 in their tables).
    Papers give both under one name, so print the baseline with it.

    Raises `ValueError` for corruptions that are missing and for a baseline that does not fit.

    >>> errors = {name: jnp.full(5, 0.25) for name in COMMON_CORRUPTIONS}
    >>> mean_corruption_error(errors).item()
    0.25
    >>> round(mean_corruption_error(errors, baseline="alexnet").item(), 4)
    0.3234
    """
    errors = _rates("errors", _select("errors", errors, corruptions))
    if baseline is None:
        return _mean([jnp.mean(_severities(name, error), axis=-1) for name, error in errors.items()])
    baseline = _baseline(baseline, errors, corruptions)
    return _mean([corruption_error(errors[name], baseline[name]) for name in corruptions])


def relative_mean_corruption_error(
    errors: Errors,
    clean_error: ArrayLike,
    *,
    baseline: Errors | str,
    baseline_clean_error: ArrayLike | None = None,
    corruptions: tuple[str, ...] = COMMON_CORRUPTIONS,
) -> Float[Array, "..."]:
    r"""Returns the mean rise of the error over clean, relative to the baseline's rise.

    $$\frac{1}{|C|} \sum_c \frac{\sum_s (E_{s,c} - E_{\mathrm{clean}})}
    {\sum_s (E^{\mathrm{baseline}}_{s,c} - E^{\mathrm{baseline}}_{\mathrm{clean}})}$$

    Hendrycks & Dietterich 2019, Section 4.2. With `baseline="alexnet"` its clean error is known. Raises `ValueError`
    for corruptions that are missing and for a baseline that does not fit.

    >>> errors = {name: jnp.full(5, 0.25) for name in COMMON_CORRUPTIONS}
    >>> worse = {name: jnp.full(5, 0.6) for name in COMMON_CORRUPTIONS}
    >>> round(relative_mean_corruption_error(errors, 0.05, baseline=worse, baseline_clean_error=0.2).item(), 4)
    0.5
    """
    if isinstance(baseline, str) and baseline == "alexnet" and baseline_clean_error is None:
        baseline_clean_error = ALEXNET_IMAGENET_CLEAN_ERROR
    if baseline_clean_error is None:
        raise ValueError("baseline_clean_error is missing; only baseline='alexnet' brings its own")
    errors = _rates("errors", _select("errors", errors, corruptions))
    baseline = _baseline(baseline, errors, corruptions)
    _rates("clean errors", {"clean_error": clean_error, "baseline_clean_error": baseline_clean_error})
    rise = {name: rise_over_clean(errors[name], clean_error) for name in corruptions}
    baseline_rise = {name: rise_over_clean(baseline[name], baseline_clean_error) for name in corruptions}
    return _mean([_relative_error(rise[name], baseline_rise[name]) for name in corruptions])


def category_means(
    values: Errors, *, corruptions: tuple[str, ...] = COMMON_CORRUPTIONS
) -> dict[str, Float[Array, "..."]]:
    """Returns the mean of each category (noise, blur, weather, digital) and of "all", `[..., severities]` kept.

    For any quantity by corruption: error, accuracy, a calibration error. "all" is the mean over the corruptions, the
    robustness per severity when `values` are accuracies. A category without any of `corruptions` is left out; raises
    `ValueError` for corruptions that are missing or have no category.

    >>> values = {"fog": jnp.array([0.1, 0.2]), "snow": jnp.array([0.3, 0.4])}
    >>> means = category_means(values, corruptions=("fog", "snow"))
    >>> {name: [round(x, 2) for x in mean.tolist()] for name, mean in means.items()}
    {'weather': [0.2, 0.3], 'all': [0.2, 0.3]}
    """
    category_of = {name: key for key, names in CORRUPTION_CATEGORIES.items() for name in names} | EXTRA_CORRUPTIONS
    strangers = [name for name in corruptions if name not in category_of]
    if strangers:
        raise ValueError(f"no category is known for {strangers}; known are {sorted(category_of)}")
    values = _select("values", values, corruptions)
    means = {}
    for category in CORRUPTION_CATEGORIES:
        members = [values[name] for name in corruptions if category_of[name] == category]
        if members:
            means[category] = _mean([_severities(category, member) for member in members])
    means["all"] = _mean([_severities(name, value) for name, value in values.items()])
    return means


@jax.jit
def rise_over_clean(values: ArrayLike, clean: ArrayLike) -> Float[Array, "..."]:
    """Returns how much a quantity (error, calibration error) rises from clean to each severity, `[..., severities]`.

    >>> [round(x, 2) for x in rise_over_clean(jnp.array([0.1, 0.3]), 0.05).tolist()]
    [0.05, 0.25]
    """
    values, clean = _severities("values", values), as_float("clean", clean)
    return values - jnp.expand_dims(jnp.broadcast_to(clean, values.shape[:-1]), -1)


def _severities(name: str, values: ArrayLike) -> Float[Array, "*shape"]:
    values = as_float(name, values)
    if values.ndim == 0 or values.shape[-1] == 0:
        raise ValueError(f"{name} must have severities as its last axis, got the shape {list(values.shape)}")
    return values


def _select(name: str, values: Errors, corruptions: tuple[str, ...]) -> dict[str, ArrayLike]:
    missing = [corruption for corruption in corruptions if corruption not in values]
    if missing or not corruptions:
        raise ValueError(
            f"{name} lack {missing or 'everything'}; measure them, or say what the mean is over by "
            f"corruptions={tuple(values)!r}"
        )
    return {corruption: values[corruption] for corruption in corruptions}


def _rates(name: str, rates: Errors) -> Errors:
    """Returns the rates; raises `ValueError` with the corruption's name for what is no error rate."""
    for corruption, values in rates.items():
        try:
            refuse_values({"error": values})
        except ValueError as error:
            raise ValueError(f"{name} of {corruption}: {error}") from None
    return rates


def _baseline(baseline: Errors | str, errors: Errors, corruptions: tuple[str, ...]) -> dict[str, ArrayLike]:
    if not isinstance(baseline, str):
        return _rates("baseline", _select("baseline", baseline, corruptions))
    if baseline != "alexnet":
        raise ValueError(f"baseline must be a dictionary of errors, 'alexnet' or None, got {baseline!r}")
    for name, error in errors.items():
        if jnp.shape(error)[-1:] != (NUM_SEVERITIES,):
            raise ValueError(
                f"baseline='alexnet' is the mean over {NUM_SEVERITIES} severities, but {name} has the shape "
                f"{jnp.shape(error)}; give the baseline's errors at your severities"
            )
    means = _select("the errors of AlexNet", ALEXNET_IMAGENET_C_ERROR, corruptions)
    return {name: jnp.full(NUM_SEVERITIES, mean) for name, mean in means.items()}


def _mean(values: list[Float[Array, "*shape"]]) -> Float[Array, "*shape"]:
    return jnp.stack(values).mean(axis=0)
