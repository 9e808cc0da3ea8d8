"""Blur corruptions of one float32 image in [0, 1], shape [height, width, channels]."""

from jaxprune.corruptions import severities
from jaxprune.corruptions._image import (
    Draws,
    Image,
    Severity,
    along_rows_and_columns,
    at_severity,
    gaussian_matrices,
)


def apply_gaussian_blur(image: Image, draws: Draws, severity: Severity, preset: str) -> Image:
    """Returns the image under skimage's `gaussian`, edge pixels repeated; sigma grows with severity."""
    sigmas = severities.GAUSSIAN_BLUR_SIGMA[preset]
    rows, columns = (at_severity(gaussian_matrices(sigmas, size), severity) for size in image.shape[:2])
    return along_rows_and_columns(image, rows, columns)
