"""Classifiers as StableHLO: files that run without the code that made them."""

import jax
import jax.numpy as jnp
from etils import epath
from jax import export as jax_export

from jaxprune.models.classifier import Classifier
from jaxprune.models.finite import check_finite

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def export_stablehlo(path, classifier: Classifier, *, image_size: int | None = None) -> None:
    """Writes the evaluation-mode forward pass, weights and normalisation included, as portable StableHLO.

    The function in the file maps uint8 images `[batch, image_size, image_size, C]`, 0..255, to float32 logits
    `[batch, num_classes]`, for any batch, on CPU, GPU and TPU. `load_stablehlo`, or `jax.export.deserialize` alone,
    runs it: neither Flax nor jaxprune's models are needed.

    Args:
      path: the file, local or `gs://`, such as "small.stablehlo"; replaced if it exists.
      classifier: any classifier.
      image_size: pixels per side; by default the one that the architecture states.

    Raises:
      ValueError: no image size is known, or the classifier cannot take images of that size; a parameter or statistic
        that is not finite.
    """
    check_finite(classifier, classifier.name)
    image_size = image_size or classifier.image_size
    if image_size is None:
        raise ValueError(f"{classifier.name} does not state its image_size; give image_size=, the pixels per side")
    (batch,) = jax_export.symbolic_shape("batch")
    shape = (batch, image_size, image_size, classifier.mean.shape[-1])

    def logits(images):
        return classifier.apply(classifier.params, classifier.batch_stats, images)[0]

    try:
        exported = jax_export.export(jax.jit(logits), platforms=PLATFORMS)(jax.ShapeDtypeStruct(shape, jnp.uint8))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{classifier.name} cannot be exported for images of {image_size} x {image_size} pixels and any batch "
            f"(a module must use x.shape[0], not len(x)): {error}"
        ) from error
    path = epath.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.tmp"
    temporary.write_bytes(bytes(exported.serialize()))
    temporary.replace(path)


def load_stablehlo(path):
    """Returns the jitted function `images -> logits` that `export_stablehlo` wrote.

    The function raises a ValueError for images of another shape or type than it was exported for. The weights are
    constants of its program and are not looked at: those in a file that `export_stablehlo` wrote are finite.

    Raises:
      FileNotFoundError: no such file; ValueError: it holds no exported classifier.
    """
    path = epath.Path(path)
    content = path.read_bytes()
    try:
        exported = jax_export.deserialize(bytearray(content))
    except Exception as error:  # flatbuffers reports damage by whatever it stumbles on
        raise ValueError(
            f"{path} holds no exported classifier, or is damaged; write it with export_stablehlo"
        ) from error
    (expected,) = exported.in_avals
    call = jax.jit(exported.call)

    def logits(images):
        images = jnp.asarray(images)
        if images.shape[1:] != expected.shape[1:] or images.dtype != expected.dtype:
            size = ", ".join(map(str, expected.shape[1:]))
            raise ValueError(
                f"images are {images.dtype} {list(images.shape)}; {path.name} was exported for "
                f"{expected.dtype} [batch, {size}]: resize them, or export again with image_size="
            )
        return call(images)

    return logits
