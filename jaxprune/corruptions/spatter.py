"""Spatter: drops of water or of mud on one float32 image in [0, 1], shape [height, width, channels]."""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Int

from jaxprune.corruptions import _random, severities
from jaxprune.corruptions._filters import gaussian_correction
from jaxprune.corruptions.image import Draws, Image, Plane, Severity, at_severity, in_channels_of

# The reference's colours: pale turquoise water, brown mud.
_WATER = np.array([175, 238, 238], np.float32) / 255
_MUD = np.array([63, 42, 20], np.float32) / 255
_MUD_THRESHOLD = 0.8

_CANNY_LOW, _CANNY_HIGH = 50, 150
# OpenCV compares a gradient's slope with tan(22.5 degrees) in fixed point.
_TANGENT_BITS, _TANGENT_22 = 15, 13573

# OpenCV's 5 x 5 chamfer distances, in its 16-bit fixed point, of a step, a diagonal step and a knight's move.
_CHAMFER = tuple(round(length * 2**16) / 2**16 for length in (1.0, 1.4, 2.1969))
_FARTHEST = 20.0

_EMBOSS = ((-2, -1, 0), (-1, 1, 1), (0, 1, 2))
_BOX = ((1, 1, 1), (1, 1, 1), (1, 1, 1))


def draw_spatter(key: Array, image: Image, severity: Severity, preset: str) -> Draws:
    """Returns `layer`: standard normal numbers, one per pixel."""
    return {"layer": _random.normal(key, image.shape[:2])}


def apply_spatter(image: Image, draws: Draws, severity: Severity, preset: str) -> Image:
    """Returns the image under drops: water at the lower severities, mud at the higher."""
    table = np.array(severities.SPATTER[preset])
    location, sd, _, threshold, strength, mud = at_severity(table, severity)
    blurs, smears = (tuple(table[:, column].tolist()) for column in (2, 4))
    liquid = (location + sd * draws["layer"])[..., None]
    liquid = (liquid + gaussian_correction(liquid, blurs, severity))[..., 0]

    def add_water(liquid):
        drops = _water(jnp.where(liquid < threshold, 0.0, liquid)) * strength
        return image + drops[..., None] * in_channels_of(image, _WATER)[None, None]

    def add_mud(liquid):
        drops = (liquid > threshold).astype(image.dtype)[..., None]
        drops += gaussian_correction(drops, smears, severity)
        drops = jnp.where(drops < _MUD_THRESHOLD, 0.0, drops)
        return image * (1 - drops) + drops * in_channels_of(image, _MUD)[None, None]

    return lax.cond(mud > 0, add_mud, add_water, liquid)


def _water(liquid: Plane) -> Plane:
    """Returns the drops' brightness, in [0, 1]: bright rims along the edges of the liquid.

    Zero where the reference divides zero by zero because no drop is left at all.
    """
    grey = (liquid * 255).astype(jnp.int32) % 256
    distance = jnp.floor(_correlate(_distance_to(_canny_edges(grey)), _BOX) / 9)
    rims = jnp.clip(_correlate(_equalize(distance), _EMBOSS), 0, 255)
    drops = grey.astype(liquid.dtype) * jnp.floor(_correlate(rims, _BOX) / 9 + 0.5)
    brightest = drops.max()
    return drops / jnp.where(brightest > 0, brightest, 1)


def _correlate(plane: Plane, kernel: tuple[tuple[int, ...], ...]) -> Plane:
    """Returns the 3 x 3 correlation, borders mirrored at the pixel centre."""
    height, width = plane.shape
    padded = jnp.pad(plane, 1, mode="reflect")
    return sum(
        weight * padded[row : row + height, column : column + width]
        for row, weights in enumerate(kernel)
        for column, weight in enumerate(weights)
        if weight
    )


def _shifts(plane: Array, reach: int, outside) -> dict[tuple[int, int], Array]:
    """Returns the planes of all neighbours: entry (down, right) holds at (y, x) the value at (y + down, x + right)."""
    height, width = plane.shape
    padded = jnp.pad(plane, reach, constant_values=outside)
    offsets = range(-reach, reach + 1)
    return {
        (down, right): padded[reach + down : reach + down + height, reach + right : reach + right + width]
        for down in offsets
        for right in offsets
    }


def _until_stable(step, start: Array) -> Array:
    """Returns the first value that `step` leaves unchanged."""
    changing = lambda values: (values[0] != values[1]).any()  # noqa: E731
    return lax.while_loop(changing, lambda values: (step(values[0]), values[0]), (step(start), start))[0]


def _canny_edges(grey: Int[Array, "height width"]) -> Bool[Array, "height width"]:
    """Returns the edges by Canny with OpenCV's defaults: 3 x 3 Sobel with repeated borders, |dx| + |dy|, hysteresis."""
    padded = jnp.pad(grey, 1, mode="edge")
    along_x = padded[:, 2:] - padded[:, :-2]
    along_y = padded[2:] - padded[:-2]
    dx = along_x[:-2] + 2 * along_x[1:-1] + along_x[2:]
    dy = along_y[:, :-2] + 2 * along_y[:, 1:-1] + along_y[:, 2:]
    strength = jnp.abs(dx) + jnp.abs(dy)
    near = _shifts(strength, 1, 0)

    tangent = jnp.abs(dx) * _TANGENT_22
    rise = jnp.abs(dy) << _TANGENT_BITS
    is_flat = rise < tangent
    is_steep = rise > tangent + (jnp.abs(dx) << (_TANGENT_BITS + 1))
    falls = (dx ^ dy) < 0
    is_peak_along_x = (strength > near[0, -1]) & (strength >= near[0, 1])
    is_peak_along_y = (strength > near[-1, 0]) & (strength >= near[1, 0])
    is_peak_falling = (strength > near[-1, 1]) & (strength > near[1, -1])
    is_peak_rising = (strength > near[-1, -1]) & (strength > near[1, 1])
    is_peak_diagonally = jnp.where(falls, is_peak_falling, is_peak_rising)
    is_peak = jnp.where(is_flat, is_peak_along_x, jnp.where(is_steep, is_peak_along_y, is_peak_diagonally))

    weak = is_peak & (strength > _CANNY_LOW)
    strong = weak & (strength > _CANNY_HIGH)
    return _until_stable(lambda edges: weak & jnp.stack(list(_shifts(edges, 1, False).values())).any(axis=0), strong)


def _distance_to(edges: Bool[Array, "height width"]) -> Plane:
    """Returns the chamfer distance to the nearest edge, at most 20: shortest paths, relaxed until they are."""
    step, diagonal, knight = _CHAMFER
    lengths = {1: step, 2: diagonal, 5: knight}

    def relax(distance):
        for (down, right), shifted in _shifts(distance, 2, _FARTHEST).items():
            if (squared := down**2 + right**2) in lengths:
                distance = jnp.minimum(distance, shifted + lengths[squared])
        return distance

    return _until_stable(relax, jnp.where(edges, np.float32(0), np.float32(_FARTHEST)))


def _equalize(values: Plane) -> Plane:
    """Returns OpenCV's histogram equalisation of whole numbers 0..20; a constant plane stays as it is."""
    levels = values.astype(jnp.int32)
    histogram = jnp.zeros(int(_FARTHEST) + 1, jnp.int32).at[levels.reshape(-1)].add(1)
    first = histogram[levels.min()]
    rest = values.size - first
    scale = 255.0 / jnp.maximum(rest, 1).astype(values.dtype)
    lookup = jnp.round(scale * (jnp.cumsum(histogram) - first).astype(values.dtype))
    return jnp.where(rest > 0, lookup[levels], values)
