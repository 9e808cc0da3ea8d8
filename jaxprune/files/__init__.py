"""Writing so that nothing is lost: whole or not at all, on the disk before it has its name, and only where it may.

Every file and folder that jaxprune leaves behind goes through here. On a local file system

- content is written under a temporary name of its own beside the target, flushed to the disk (`fsync`), and renamed;
  the folder that holds the name is flushed too. A process that dies at any moment leaves the old content, or the new;
- two processes never share a temporary name; what a dead process of this host left behind is deleted by the next
  one that writes the same target, or by `tidy`;
- `exclusive` creates: of several processes that write one path, the first has it, the others get a FileExistsError.

Object stores (`gs://...`) publish an object when it is complete, so objects are written directly; they have neither
locks nor exclusive creation, and `exclusive` is there a check that can be overtaken.
"""

from jaxprune.files.disk import tidy
from jaxprune.files.locks import LOCKS_FOLDER, do_each, lock
from jaxprune.files.paths import check_folder, check_output, is_remote, is_there, named
from jaxprune.files.sums import checksum, checksum_of
from jaxprune.files.writing import delete_folder, write, writing, writing_folder

__all__ = [
    "LOCKS_FOLDER",
    "check_folder",
    "check_output",
    "checksum",
    "checksum_of",
    "delete_folder",
    "do_each",
    "is_remote",
    "is_there",
    "lock",
    "named",
    "tidy",
    "write",
    "writing",
    "writing_folder",
]
