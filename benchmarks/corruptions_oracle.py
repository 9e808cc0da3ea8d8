"""The 19 corruptions once more, image by image in float64 with NumPy, SciPy, Pillow and OpenCV.

An independent implementation of the same algorithms, in the style of the original scripts: what the library is tested
against at sizes that have no fixture, and what it is timed against. `draw` takes the random numbers from NumPy's legacy
generator in the original order, `apply` corrupts one uint8 image. Spatter needs OpenCV; SciPy stands in for it
elsewhere.
"""

import io
import math

import numpy as np
from PIL import Image
from scipy import ndimage

from jaxprune.corruptions import severities

try:
    import cv2
except ImportError:
    cv2 = None


def draw(rng: np.random.RandomState, name: str, image: np.ndarray, severity: int, preset: str, textures=None) -> dict:
    """Returns the draws of one image under the names that the library uses; `textures` (for frost) are at scale."""
    height, width, _ = image.shape
    if name in ("gaussian_noise", "speckle_noise"):
        return {"noise": rng.normal(size=image.shape)}
    if name == "shot_noise":
        return {"counts": rng.poisson(image / 255 * severities.SHOT_NOISE_PHOTONS[preset][severity - 1]).astype(float)}
    if name == "impulse_noise":
        return {"replace": rng.random_sample(image.shape), "salt": rng.random_sample(image.shape)}
    if name == "glass_blur":
        return {"offsets": _draw_offsets(rng, severity, preset, height, width)}
    if name == "motion_blur":
        return {"angle": rng.uniform(-45, 45)}
    if name == "snow":
        return {"layer": rng.normal(size=(height, width)), "angle": rng.uniform(-135, -45)}
    if name == "frost":
        texture = textures[rng.randint(5)]
        row = rng.randint(0, texture.shape[0] - height)
        column = rng.randint(0, texture.shape[1] - width)
        return {"crop": texture[row : row + height, column : column + width].astype(float)}
    if name == "fog":
        levels = [2**level for level in range((max(height, width) - 1).bit_length())]
        return {"plasma": [rng.uniform(-1, 1, size=(3, n, n)) for n in levels]}
    if name == "elastic_transform":
        affine = rng.uniform(-1, 1, size=(3, 2))
        return {"affine": affine, "dx": rng.uniform(-1, 1, (height, width)), "dy": rng.uniform(-1, 1, (height, width))}
    if name == "spatter":
        return {"layer": rng.normal(size=(height, width))}
    return {}


def _draw_offsets(rng, severity, preset, height, width):
    table = severities.GLASS_BLUR[preset]
    _, reach, iterations = table[severity - 1]
    offsets = np.zeros((max(row[2] for row in table), height, width, 2), int)
    for iteration in range(iterations):
        for row in range(height - reach, reach, -1):
            for column in range(width - reach, reach, -1):
                offsets[iteration, row, column] = rng.randint(-reach, reach, size=2)
    return offsets


def apply(name: str, image: np.ndarray, draws: dict, severity: int, preset: str) -> np.ndarray:
    """Returns the corrupted uint8 image of a uint8 image."""
    result = APPLY[name](image, draws, severity - 1, preset)
    if result.dtype == np.uint8:
        return result
    return (np.clip(result, 0, 1) * 255).astype(np.uint8)


def _gaussian_noise(image, draws, s, preset):
    return image / 255 + severities.GAUSSIAN_NOISE_SD[preset][s] * draws["noise"]


def _speckle_noise(image, draws, s, preset):
    return image / 255 + image / 255 * (severities.SPECKLE_NOISE_SD[preset][s] * draws["noise"])


def _shot_noise(image, draws, s, preset):
    return draws["counts"] / severities.SHOT_NOISE_PHOTONS[preset][s]


def _impulse_noise(image, draws, s, preset):
    hit = draws["replace"] < severities.IMPULSE_NOISE_AMOUNT[preset][s]
    return np.where(hit, np.where(draws["salt"] < 0.5, 1.0, 0.0), image / 255)


def _gaussian(image, sigma, mode="nearest", truncate=4.0):
    sigmas = (sigma, sigma, 0)[: image.ndim]
    return ndimage.gaussian_filter(image, sigmas, mode=mode, truncate=truncate) if sigma else image


def _gaussian_blur(image, draws, s, preset):
    return _gaussian(image / 255, severities.GAUSSIAN_BLUR_SIGMA[preset][s])


def _glass_blur(image, draws, s, preset):
    sigma, reach, iterations = severities.GLASS_BLUR[preset][s]
    pixels = (_gaussian(image / 255, sigma) * 255).astype(np.uint8)
    height, width, _ = image.shape
    for iteration in range(iterations):
        for row in range(height - reach, reach, -1):
            for column in range(width - reach, reach, -1):
                dx, dy = draws["offsets"][iteration, row, column]
                pixels[row, column] = pixels[row + dy, column + dx]
    return _gaussian(pixels / 255, sigma)


def _defocus_blur(image, draws, s, preset):
    radius, alias = severities.DEFOCUS_BLUR[preset][s]
    reach, edge = (8, 1) if radius <= 8 else (int(radius), 2)
    grid = np.arange(-reach, reach + 1)
    disk = (grid[:, None] ** 2 + grid[None] ** 2 <= radius**2).astype(np.float32)
    disk /= disk.sum()
    taps = np.exp(-0.5 * (np.arange(-edge, edge + 1) / alias) ** 2)
    taps = (taps / taps.sum()).astype(np.float32)
    for axis in (0, 1):
        disk = ndimage.correlate1d(disk, taps, axis=axis, mode="mirror")
    if cv2 is not None:
        return cv2.filter2D(image / 255, -1, disk).reshape(image.shape)
    return ndimage.correlate(image / 255, disk[..., None].astype(float), mode="mirror")


def _motion(grey_or_color, radius, sigma, angle):
    """ImageMagick's one-sided motion blur of whole numbers 0..255."""
    width = 2 * math.ceil(radius) + 1
    weights = np.exp(-0.5 * (np.arange(width) / sigma) ** 2)
    weights /= weights.sum()
    rows, columns = np.indices(grey_or_color.shape[:2])
    total = 0.0
    for tap, weight in enumerate(weights):
        right = math.ceil(tap * math.cos(math.radians(angle)) - 0.5)
        down = math.ceil(tap * math.sin(math.radians(angle)) - 0.5)
        row = np.clip(rows + down, 0, rows.shape[0] - 1)
        column = np.clip(columns + right, 0, rows.shape[1] - 1)
        total = total + weight * grey_or_color[row, column].astype(float) * 257
    return np.floor(total + 0.5) // 257


def _motion_blur(image, draws, s, preset):
    radius, sigma = severities.MOTION_BLUR[preset][s]
    return _motion(image, radius, sigma, draws["angle"]).astype(np.uint8)


def _clipped_zoom(image, factor):
    crops, enlarged = [], []
    for size in image.shape[:2]:
        crop = math.ceil(size / factor)
        crops.append(slice((size - crop) // 2, (size - crop) // 2 + crop))
        enlarged.append((crop, round(crop * factor), size))
    rows, columns = (
        (np.arange(size) + (out - size) // 2) * (crop - 1) / max(out - 1, 1) for crop, out, size in enlarged
    )
    image = image[tuple(crops)]
    for axis, position in enumerate((rows, columns)):
        lower = np.minimum(position.astype(int), image.shape[axis] - 1)
        upper = np.minimum(lower + 1, image.shape[axis] - 1)
        share = np.expand_dims(position - lower, [other for other in range(image.ndim) if other != axis])
        image = (1 - share) * image.take(lower, axis) + share * image.take(upper, axis)
    return image


def _zoom_blur(image, draws, s, preset):
    step, number = severities.ZOOM_BLUR[preset][s]
    image = (image / 255).astype(np.float32)
    total = np.zeros_like(image)
    for factor in np.arange(1, 1 + step * number, step)[:number]:
        total += _clipped_zoom(image, factor).astype(np.float32)
    return (image + total) / (number + 1)


def _luma(image):
    return image @ np.array([0.299, 0.587, 0.114])


def _snow(image, draws, s, preset):
    location, sd, zoom, threshold, radius, sigma, mix = severities.SNOW[preset][s]
    image = (image / 255).astype(np.float32)
    layer = _clipped_zoom(location + sd * draws["layer"], zoom)
    layer[layer < threshold] = 0
    layer = (np.clip(layer, 0, 1) * 255).astype(np.uint8)
    layer = (_motion(layer, radius, sigma, draws["angle"]) / 255)[..., None]
    image = mix * image + (1 - mix) * np.maximum(image, 1.5 * _luma(image)[..., None] + 0.5)
    return image + layer + np.rot90(layer, k=2)


def _frost(image, draws, s, preset):
    image_weight, frost_weight = severities.FROST[preset][s]
    return np.clip(image_weight * image + frost_weight * draws["crop"], 0, 255).astype(np.uint8)


def _plasma(errors, decay):
    grid, amplitude = np.zeros((1, 1)), 100.0
    for error in errors:
        square, top, left = amplitude * amplitude * error
        around = grid + np.roll(grid, -1, 1)
        square = (around + np.roll(around, -1, 0)) / 4 + square
        top = (square + np.roll(square, 1, 0) + around) / 4 + top
        left = (square + np.roll(square, 1, 1) + grid + np.roll(grid, -1, 0)) / 4 + left
        finer = np.empty((2 * len(grid), 2 * len(grid)))
        finer[::2, ::2], finer[::2, 1::2], finer[1::2, ::2], finer[1::2, 1::2] = grid, top, left, square
        grid, amplitude = finer, amplitude / decay
    grid -= grid.min()
    return grid / grid.max()


def _fog(image, draws, s, preset):
    amount, decay = severities.FOG[preset][s]
    image = image / 255
    plasma = _plasma(draws["plasma"], decay)[: image.shape[0], : image.shape[1], None]
    peak = image.max()
    return (image + amount * plasma) * peak / (peak + amount)


def _to_hsv(image):
    value, span = image.max(-1), np.ptp(image, axis=-1)
    red, green, blue = np.moveaxis(image, -1, 0)
    safe = np.where(span > 0, span, 1)
    hue = np.where(value == red, (green - blue) / safe, 0)
    hue = np.where(value == green, 2 + (blue - red) / safe, hue)
    hue = np.where(value == blue, 4 + (red - green) / safe, hue)
    return np.where(span > 0, hue / 6 % 1, 0), np.where(value > 0, span / np.where(value > 0, value, 1), 0), value


def _from_hsv(hue, saturation, value):
    sextant = np.floor(hue * 6)
    share = hue * 6 - sextant
    p, q, t = value * (1 - saturation), value * (1 - share * saturation), value * (1 - (1 - share) * saturation)
    sextant = sextant.astype(int) % 6
    channels = [(value, q, p, p, t, value), (t, value, value, q, p, p), (p, p, t, value, value, q)]
    return np.stack([np.choose(sextant, channel) for channel in channels], axis=-1)


def _brightness(image, draws, s, preset):
    hue, saturation, value = _to_hsv(image / 255)
    return _from_hsv(hue, saturation, np.clip(value + severities.BRIGHTNESS_SHIFT[preset][s], 0, 1))


def _saturate(image, draws, s, preset):
    factor, summand = severities.SATURATE[preset][s]
    hue, saturation, value = _to_hsv(image / 255)
    return _from_hsv(hue, np.clip(saturation * factor + summand, 0, 1), value)


def _contrast(image, draws, s, preset):
    mean = (image / 255).mean(axis=(0, 1), keepdims=True)
    return (image / 255 - mean) * severities.CONTRAST_FACTOR[preset][s] + mean


def _mirror(index, size):
    index = index % (2 * size - 2)
    return np.minimum(index, 2 * size - 2 - index)


def _elastic_transform(image, draws, s, preset):
    alpha, sigma, reach = severities.ELASTIC_TRANSFORM[preset][s]
    image = (image / 255).astype(np.float32)
    height, width, _ = image.shape
    center, square = np.array([width // 2, height // 2], float), min(height, width) // 3
    points = np.float32(center + square * np.array([[1, 1], [1, -1], [-1, -1]]))
    moved = np.float32(points + reach * draws["affine"])
    (xx, yx), (xy, yy), (x0, y0) = np.linalg.solve(np.c_[moved, np.ones(3)].astype(float), points.astype(float))
    x, y = np.arange(width)[None], np.arange(height)[:, None]
    columns = np.floor((np.rint((xy * y + x0) * 1024) + np.rint(xx * x * 1024) + 16) / 32) / 32
    rows = np.floor((np.rint((yy * y + y0) * 1024) + np.rint(yx * x * 1024) + 16) / 32) / 32
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    down, right = (rows - top).astype(np.float32)[..., None], (columns - left).astype(np.float32)[..., None]
    warped = np.zeros_like(image)
    for row_step, row_share in ((0, 1 - down), (1, down)):
        for column_step, column_share in ((0, 1 - right), (1, right)):
            pixels = image[_mirror(top + row_step, height), _mirror(left + column_step, width)]
            warped += pixels * (row_share * column_share)
    dx, dy = (alpha * _gaussian(draws[axis], sigma, mode="reflect", truncate=3.0) for axis in ("dx", "dy"))
    rows, columns = np.indices((height, width))
    return np.stack(
        [
            ndimage.map_coordinates(warped[..., channel], [rows + dy, columns + dx], order=1, mode="reflect")
            for channel in range(image.shape[-1])
        ],
        axis=-1,
    )


def _to_pillow(image):
    return Image.fromarray(image if image.shape[-1] == 3 else image[..., 0])


def _pixelate(image, draws, s, preset):
    height, width, _ = image.shape
    fraction = severities.PIXELATE_FRACTION[preset][s]
    small = _to_pillow(image).resize((int(width * fraction), int(height * fraction)), Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), Image.Resampling.BOX)).reshape(image.shape)


def _jpeg_compression(image, draws, s, preset):
    file = io.BytesIO()
    _to_pillow(image).save(file, "JPEG", quality=severities.JPEG_QUALITY[preset][s])
    return np.asarray(Image.open(file)).reshape(image.shape)


def _spatter(image, draws, s, preset):
    location, sd, blur, threshold, strength, mud = severities.SPATTER[preset][s]
    image = (image / 255).astype(np.float32)
    liquid = _gaussian(location + sd * draws["layer"], blur)
    if mud:
        drops = _gaussian((liquid > threshold).astype(float), strength)
        drops[drops < 0.8] = 0
        return image * (1 - drops[..., None]) + drops[..., None] * np.array([63, 42, 20]) / 255
    liquid[liquid < threshold] = 0
    liquid = (liquid * 255).astype(np.int64).astype(np.uint8)
    distance = cv2.distanceTransform(255 - cv2.Canny(liquid, 50, 150), cv2.DIST_L2, 5)
    distance = cv2.blur(np.minimum(distance, 20), (3, 3)).astype(np.uint8)
    distance = cv2.equalizeHist(distance)
    distance = cv2.filter2D(distance, cv2.CV_8U, np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]))
    drops = liquid.astype(np.float32) * cv2.blur(distance, (3, 3)).astype(np.float32)
    drops = drops / drops.max() * strength
    return image + drops[..., None] * np.array([175, 238, 238]) / 255


APPLY = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "impulse_noise": _impulse_noise,
    "defocus_blur": _defocus_blur,
    "glass_blur": _glass_blur,
    "motion_blur": _motion_blur,
    "zoom_blur": _zoom_blur,
    "snow": _snow,
    "frost": _frost,
    "fog": _fog,
    "brightness": _brightness,
    "contrast": _contrast,
    "elastic_transform": _elastic_transform,
    "pixelate": _pixelate,
    "jpeg_compression": _jpeg_compression,
    "speckle_noise": _speckle_noise,
    "gaussian_blur": _gaussian_blur,
    "spatter": _spatter,
    "saturate": _saturate,
}
