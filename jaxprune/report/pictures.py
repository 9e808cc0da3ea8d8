"""Images as a page shows them: inside the page itself."""

import base64
import io

import numpy as np

# Small images are shown enlarged by whole pixels, so that they stay what the network saw.
SHOWN_PIXELS = 96


def data_uri(image: np.ndarray) -> str:
    """Returns an image `[height, width, channels]` as an address that holds it, a PNG enlarged by whole pixels."""
    from PIL import Image

    factor = max(1, SHOWN_PIXELS // max(image.shape[:2]))
    image = np.repeat(np.repeat(image, factor, axis=0), factor, axis=1)
    out = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(out, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"
