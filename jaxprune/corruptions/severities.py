"""Every number of the 19 corruptions: one row per preset, one entry per severity 1..5.

Source: Hendrycks & Dietterich 2019, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations",
and its scripts `make_cifar_c.py`, `make_tinyimagenet_c.py` and `make_imagenet_c.py` (github.com/hendrycks/robustness).
Lengths are pixels of the preset's image size: 32, 64 and 224.
"""

from jaxprune.names import PRESETS

# The preset that is taken when none is named: the first whose limit is not below the longer side of the image.
PRESET_LIMITS_PX = dict(zip(PRESETS, (48, 96, float("inf")), strict=True))

GAUSSIAN_NOISE_SD = {
    "cifar": (0.04, 0.06, 0.08, 0.09, 0.10),
    "tiny_imagenet": (0.04, 0.08, 0.12, 0.15, 0.18),
    "imagenet": (0.08, 0.12, 0.18, 0.26, 0.38),
}

# Photons that a white pixel collects.
SHOT_NOISE_PHOTONS = {
    "cifar": (500, 250, 100, 75, 50),
    "tiny_imagenet": (250, 100, 50, 30, 15),
    "imagenet": (60, 25, 12, 5, 3),
}

IMPULSE_NOISE_AMOUNT = {
    "cifar": (0.01, 0.02, 0.03, 0.05, 0.07),
    "tiny_imagenet": (0.01, 0.02, 0.05, 0.08, 0.14),
    "imagenet": (0.03, 0.06, 0.09, 0.17, 0.27),
}

SPECKLE_NOISE_SD = {
    "cifar": (0.06, 0.10, 0.12, 0.16, 0.20),
    "tiny_imagenet": (0.15, 0.20, 0.25, 0.30, 0.35),
    "imagenet": (0.15, 0.20, 0.35, 0.45, 0.60),
}

GAUSSIAN_BLUR_SIGMA = {
    "cifar": (0.4, 0.6, 0.7, 0.8, 1.0),
    "tiny_imagenet": (0.5, 0.75, 1.0, 1.25, 1.5),
    "imagenet": (1.0, 2.0, 3.0, 4.0, 6.0),
}

# (sigma of the blur before and after, reach of the pixel copies, iterations)
GLASS_BLUR = {
    "cifar": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    "tiny_imagenet": ((0.1, 1, 1), (0.5, 1, 1), (0.6, 1, 2), (0.7, 2, 1), (0.9, 2, 2)),
    "imagenet": ((0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
}

# (radius of the disk, sigma of the Gaussian that softens its edge)
DEFOCUS_BLUR = {
    "cifar": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1)),
    "tiny_imagenet": ((0.5, 0.6), (1.0, 0.1), (1.5, 0.1), (2.5, 0.01), (3.0, 0.1)),
    "imagenet": ((3.0, 0.1), (4.0, 0.5), (6.0, 0.5), (8.0, 0.5), (10.0, 0.5)),
}

# (radius, sigma). In "cifar" every kernel is over before its radius is, so severities 3 and 4 are the same corruption.
MOTION_BLUR = {
    "cifar": ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5)),
    "tiny_imagenet": ((10, 1.0), (10, 1.5), (10, 2.0), (10, 2.5), (12, 3.0)),
    "imagenet": ((10, 3.0), (15, 5.0), (15, 8.0), (15, 12.0), (20, 15.0)),
}

# (step of the zoom factors 1, 1 + step, ...; their number)
ZOOM_BLUR = {
    "cifar": ((0.01, 7), (0.01, 12), (0.01, 16), (0.01, 21), (0.01, 26)),
    "tiny_imagenet": ((0.01, 7), (0.01, 12), (0.01, 16), (0.01, 21), (0.01, 26)),
    "imagenet": ((0.01, 12), (0.01, 16), (0.02, 11), (0.02, 13), (0.03, 11)),
}

# (amount, decay of the plasma's amplitude per level)
FOG = {
    "cifar": ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75)),
    "tiny_imagenet": ((0.4, 3.0), (0.7, 3.0), (1.0, 2.5), (1.5, 2.0), (2.0, 1.75)),
    "imagenet": ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4)),
}

# (weight of the image, weight of the frost)
FROST = {
    "cifar": ((1.0, 0.2), (1.0, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
    "tiny_imagenet": ((1.0, 0.3), (0.9, 0.4), (0.8, 0.45), (0.75, 0.5), (0.7, 0.55)),
    "imagenet": ((1.0, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
}

# (mean and sd of the flakes, zoom, threshold, motion radius, motion sigma, weight of the plain image)
SNOW = {
    "cifar": (
        (0.1, 0.2, 1.0, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1.0, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ),
    "tiny_imagenet": (
        (0.1, 0.2, 1.0, 0.6, 8, 3, 0.8),
        (0.1, 0.2, 1.0, 0.5, 10, 4, 0.8),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.7),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.65),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.6),
    ),
    "imagenet": (
        (0.1, 0.3, 3.0, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2.0, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4.0, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    ),
}

# (mean and sd of the liquid, sigma of its blur, threshold, strength of the water or sigma of the mud, 1 if mud)
SPATTER = {
    "cifar": (
        (0.62, 0.1, 0.7, 0.7, 0.5, 0),
        (0.65, 0.1, 0.8, 0.7, 0.5, 0),
        (0.65, 0.3, 1.0, 0.69, 0.5, 0),
        (0.65, 0.1, 0.7, 0.69, 0.6, 1),
        (0.65, 0.1, 0.5, 0.68, 0.6, 1),
    ),
    "tiny_imagenet": (
        (0.62, 0.1, 0.7, 0.7, 0.6, 0),
        (0.65, 0.1, 0.8, 0.7, 0.6, 0),
        (0.65, 0.3, 1.0, 0.69, 0.6, 0),
        (0.65, 0.1, 0.7, 0.68, 0.6, 1),
        (0.65, 0.1, 0.5, 0.67, 0.6, 1),
    ),
    "imagenet": (
        (0.65, 0.3, 4.0, 0.69, 0.6, 0),
        (0.65, 0.3, 3.0, 0.68, 0.6, 0),
        (0.65, 0.3, 2.0, 0.68, 0.5, 0),
        (0.65, 0.3, 1.0, 0.65, 1.5, 1),
        (0.67, 0.4, 1.0, 0.65, 1.5, 1),
    ),
}

CONTRAST_FACTOR = {
    "cifar": (0.75, 0.5, 0.4, 0.3, 0.15),
    "tiny_imagenet": (0.4, 0.3, 0.2, 0.1, 0.05),
    "imagenet": (0.4, 0.3, 0.2, 0.1, 0.05),
}

BRIGHTNESS_SHIFT = {
    "cifar": (0.05, 0.1, 0.15, 0.2, 0.3),
    "tiny_imagenet": (0.1, 0.2, 0.3, 0.4, 0.5),
    "imagenet": (0.1, 0.2, 0.3, 0.4, 0.5),
}

# (factor, summand) of the saturation
SATURATE = {
    "cifar": ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2)),
    "tiny_imagenet": ((0.3, 0.0), (0.1, 0.0), (2.0, 0.0), (5.0, 0.1), (30.0, 0.2)),
    "imagenet": ((0.3, 0.0), (0.1, 0.0), (2.0, 0.0), (5.0, 0.1), (20.0, 0.2)),
}

JPEG_QUALITY = {
    "cifar": (80, 65, 58, 50, 40),
    "tiny_imagenet": (65, 58, 50, 40, 25),
    "imagenet": (25, 18, 15, 10, 7),
}

# Side of the small image, as a fraction of the side of the image, rounded down.
PIXELATE_FRACTION = {
    "cifar": (0.95, 0.9, 0.85, 0.75, 0.65),
    "tiny_imagenet": (0.9, 0.8, 0.7, 0.6, 0.5),
    "imagenet": (0.6, 0.5, 0.4, 0.3, 0.25),
}

# (alpha of the displacement, sigma of its Gaussian, reach of the affine corners). The "imagenet" numbers are
# multiples of 244, a slip for 224 that is part of the benchmark.
ELASTIC_TRANSFORM = {
    "cifar": ((0.0, 0.0, 2.56), (1.6, 6.4, 2.24), (2.56, 1.92, 1.92), (3.2, 1.28, 1.6), (3.2, 0.96, 0.96)),
    "tiny_imagenet": ((0.0, 0.0, 5.12), (3.2, 19.2, 3.84), (6.4, 5.12, 3.84), (6.4, 1.92, 1.92), (10.24, 1.92, 1.28)),
    "imagenet": (
        (488.0, 170.8, 24.4),
        (488.0, 19.52, 48.8),
        (12.2, 2.44, 4.88),
        (17.08, 2.44, 4.88),
        (29.28, 2.44, 4.88),
    ),
}
