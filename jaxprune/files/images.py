"""The one place where image files are opened: which formats, how many pixels, and how they become RGB.

Pillow decides by a file's content what it is, whatever its name: an EPS file called `x.png` would make it start
Ghostscript. Here only the formats of `FORMATS` are tried, which Pillow decodes itself, in this process.
"""

import io
import os

import numpy as np
from etils import epath

# Pillow's names -> the endings of such files. A file's content decides which of them it is.
FORMATS = {
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "JPEG": (".jfif", ".jpe", ".jpeg", ".jpg"),
    "PNG": (".png",),
    "PPM": (".pbm", ".pgm", ".pnm", ".ppm"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
ENDINGS = tuple(sorted(ending for endings in FORMATS.values() for ending in endings))
_PREFIX = 16  # bytes that Pillow's plugins look at
_MOST_SIXTEEN_BIT = 2**16 - 1


def read_rgb(source, *, name: str | None = None, is_turned: bool = True):
    """Returns an image file as a Pillow image in mode RGB.

    Greyscale, palette and 16-bit images become 8-bit RGB (of 16 bits the upper 8 stay), an alpha channel is dropped,
    and of several frames or pages the first is read.

    Args:
      source: the path of a file, local or `gs://`, or the bytes of one.
      name: what an error calls the image; by default the path.
      is_turned: whether the image is turned as its EXIF orientation says.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: a file of another format than `FORMATS`, whatever its ending; one that is damaged or truncated; one
        of more pixels than `PIL.Image.MAX_IMAGE_PIXELS` (89 million) or of none; floating-point pixels.
    """
    from PIL import ImageOps

    name = name or ("the image" if isinstance(source, bytes) else os.fspath(source))
    try:
        file = io.BytesIO(source) if isinstance(source, bytes) else epath.Path(source).open("rb")
        with file, _identified(file) as image:
            _check_size(image.size)
            return _to_rgb(ImageOps.exif_transpose(image) if is_turned else image)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no image file at {name}") from error
    # Damaged files make Pillow's plugins raise almost anything.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{name} cannot be read as an image ({reason}); replace or remove it") from error


def _identified(file):
    """Returns the file as Pillow's image of the first format that its content fits, nothing decoded.

    As `PIL.Image.open(file, formats=FORMATS)` does, which however warns of large images, and threads cannot silence a
    warning for themselves.
    """
    from PIL import (  # noqa: F401 - they register their formats; no others are loaded
        BmpImagePlugin,
        GifImagePlugin,
        Image,
        JpegImagePlugin,
        PngImagePlugin,
        PpmImagePlugin,
        TiffImagePlugin,
        WebPImagePlugin,
    )

    start = file.read(_PREFIX)
    for form in FORMATS:
        factory, accepts = Image.OPEN[form]
        if accepts(start) is True:
            file.seek(0)
            return factory(file, "")
    raise ValueError(f"its content is none of {', '.join(FORMATS)}")


def _check_size(size: tuple[int, int]) -> None:
    from PIL import Image

    pixels, most = size[0] * size[1], Image.MAX_IMAGE_PIXELS
    if pixels < 1:
        raise ValueError(f"it has {size[0]} x {size[1]} pixels")
    if most is not None and pixels > most:
        raise ValueError(
            f"its {size[0]} x {size[1]} pixels are more than {most}, which may be meant to fill the memory; for an "
            f"image that you trust raise PIL.Image.MAX_IMAGE_PIXELS"
        )


def _to_rgb(image):
    from PIL import Image

    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers, whose range nobody states; save them as 8 bits")
    if image.mode.startswith("I"):  # integers of 16 bits or more, which Pillow's own conversion would saturate
        values = np.asarray(image)
        if values.min() < 0 or values.max() > _MOST_SIXTEEN_BIT:
            raise ValueError(f"its pixels run from {values.min()} to {values.max()}; 16 bits are the most")
        image = Image.fromarray((values >> 8).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")
