"""Classifiers as StableHLO: files that run without the code that made them.

`jax.export` writes a flatbuffer: its first four bytes say where its root lies, every other offset is relative to its
own place. So there is room for bytes of ours between those four and the rest, which `jax.export.deserialize` passes
over: a mark by which a file of jaxprune's is recognised, and the SHA-256 of all that is not the mark.
"""

import jax
import jax.numpy as jnp
from etils import epath
from jax import export as jax_export

from jaxprune import files
from jaxprune.models.classifier import Classifier
from jaxprune.models.finite import check_finite

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
_MARK = b"jaxprune StableHLO, SHA-256 of what is not this: "
_ROOT_BYTES, _CHECKSUM_BYTES = 4, 64
_ALIGNMENT_BYTES = 16  # of everything in a flatbuffer that a reader in C++ may ask for
_PADDING = b" " * (-(len(_MARK) + _CHECKSUM_BYTES) % _ALIGNMENT_BYTES)
_HEADER_BYTES = len(_MARK) + _CHECKSUM_BYTES + len(_PADDING)


def export_stablehlo(path, classifier: Classifier, *, image_size: int | None = None) -> None:
    """Writes the evaluation-mode forward pass, weights and normalisation included, as portable StableHLO.

    The function in the file maps uint8 images `[batch, image_size, image_size, C]`, 0..255, to float32 logits
    `[batch, num_classes]`, for any batch, on CPU, GPU and TPU. `load_stablehlo`, or `jax.export.deserialize` alone,
    runs it: neither Flax nor jaxprune's models are needed.

    Args:
      path: the file, local or `gs://`, such as "small.stablehlo"; one that this function wrote is replaced.
      classifier: any classifier.
      image_size: pixels per side; by default the one that the architecture states.

    Raises:
      ValueError: an empty path; no image size is known, or the classifier cannot take images of that size; a parameter
        or statistic that is not finite.
      FileExistsError: something is at `path` that this function did not write, or that has no check sum, by which it
        would be recognised.
      OSError: the file could not be written, as on a full disk; what was at `path` still is.
    """
    path = check_export_path(path)
    is_new = not files.is_there(path)
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
    files.write(path, _with_checksum(bytes(exported.serialize())), exclusive=is_new)


def check_export_path(path) -> epath.Path:
    """Returns where `export_stablehlo` may write; raises its ValueError, FileExistsError or OSError before it works."""
    return files.check_output(path, what="StableHLO export", is_ours=_is_ours)


def _is_ours(path: epath.Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(_ROOT_BYTES + len(_MARK)).endswith(_MARK)


def _with_checksum(content: bytes) -> bytes:
    root = int.from_bytes(content[:_ROOT_BYTES], "little") + _HEADER_BYTES
    root, rest = root.to_bytes(_ROOT_BYTES, "little"), content[_ROOT_BYTES:]
    return root + _MARK + files.checksum(root + rest).encode() + _PADDING + rest


def _is_intact(content: bytes) -> bool:
    """Returns whether an export is what its check sum says; those from before there was one pass."""
    root, header = content[:_ROOT_BYTES], content[_ROOT_BYTES : _ROOT_BYTES + _HEADER_BYTES]
    if not header.startswith(_MARK):
        return True
    expected = files.checksum(root + content[_ROOT_BYTES + _HEADER_BYTES :]).encode()
    return header == _MARK + expected + _PADDING


def load_stablehlo(path):
    """Returns the jitted function `images -> logits` that `export_stablehlo` wrote.

    The function raises a ValueError for images of another shape or type than it was exported for. The weights are
    constants of its program and are not looked at: those in a file that `export_stablehlo` wrote are finite.

    Raises:
      FileNotFoundError: no such file; ValueError: it holds no exported classifier, or not the one that was written.
        (A damaged file from before there were check sums can give other logits, or end the process.)
    """
    path = epath.Path(path)
    content = path.read_bytes()
    if not _is_intact(content):
        raise ValueError(f"{path} is damaged: its check sum is wrong; export it again")
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
