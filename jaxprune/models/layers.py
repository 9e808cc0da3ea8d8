"""Convolutions as PyTorch pads them, for the architectures whose public weights come from there."""

from flax import nnx


def convolution(
    in_features: int, out_features: int, size: int, rngs: nnx.Rngs, *, stride: int = 1, groups: int = 1
) -> nnx.Conv:
    """Returns a `size` x `size` convolution without bias, padded by `size // 2` pixels on every side for any stride.

    `groups` equal to both numbers of features makes it depthwise.
    """
    return nnx.Conv(
        in_features,
        out_features,
        (size, size),
        strides=stride,
        padding=size // 2,
        feature_group_count=groups,
        use_bias=False,
        rngs=rngs,
    )


def check_stem(stem: str, known) -> None:
    """Raises ValueError unless `stem` is one of the `known` ones."""
    if stem not in known:
        raise ValueError(f"unknown stem {stem!r}; known: {', '.join(known)}")
