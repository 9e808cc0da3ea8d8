"""Reading `.npz` files so that damage is found, whichever of their bytes it is in."""

import io

import numpy as np
from etils import epath

# The last bytes of a ZIP archive without a comment: their signature, and where the number of its members stands.
_END_BYTES, _END, _COUNT, _COUNT_UNKNOWN = 22, b"PK\x05\x06", slice(10, 12), 0xFFFF


def read(path, *, cure: str) -> dict[str, np.ndarray]:
    """Returns the arrays of a file by name. Their check sums (CRC-32) are compared, and no pickle is loaded.

    Args:
      path: local or `gs://`.
      cure: what to do with a damaged file, for the error.

    Raises:
      OSError: the file cannot be read.
      ValueError: it is damaged, or no `.npz` file.
    """
    content = epath.Path(path).read_bytes()
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    # Damaged bytes make zipfile, zlib and NumPy raise a dozen kinds, NotImplementedError and RuntimeError among them.
    except Exception as error:
        raise ValueError(f"{path} is damaged ({error}); {cure}") from error
    end = content[-_END_BYTES:]
    stated = int.from_bytes(end[_COUNT], "little")
    # zipfile takes the first entry of the directory that is none for its end, without a word of the others.
    if end.startswith(_END) and stated not in (len(arrays), _COUNT_UNKNOWN):
        raise ValueError(f"{path} is damaged ({len(arrays)} of its {stated} arrays can be read); {cure}")
    return arrays
