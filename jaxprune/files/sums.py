"""Check sums of files and folders."""

import hashlib

from etils import epath


def checksum(content: bytes | str) -> str:
    """Returns the SHA-256 of bytes, or of a text as UTF-8, in hexadecimal."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def checksum_of(path) -> str:
    """Returns the SHA-256 of a file's content, or of all the files of a folder and their names."""
    path = epath.Path(path)
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    whole = hashlib.sha256()
    for each in sorted(path.iterdir(), key=lambda each: each.name):
        whole.update(f"{each.name}\0{checksum_of(each)}\n".encode())
    return whole.hexdigest()
