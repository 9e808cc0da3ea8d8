"""Reads the python batches of CIFAR without importing or executing anything that they name.

The batches are pickles that Python 2 wrote: a dict of lists of integers and strings and one NumPy array. Python's
unpickler reads them, of whose instructions only those that build plain values are left, and with stand-ins for the four
names that such a file needs; any other name is refused and never looked up. NumPy's own functions would not do as
stand-ins: a hostile dtype makes them read memory that is not theirs.
"""

import io
import pickle
from typing import Any, ClassVar

import numpy as np

_DTYPES = ("u1", "i1", "i2", "i4", "i8")
_BYTE_ORDERS = ("|", "<", ">", "=")
_OPCODES = (
    "PROTO FRAME STOP MARK PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET NONE NEWTRUE NEWFALSE INT BININT "
    "BININT1 BININT2 LONG LONG1 STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINBYTES "
    "SHORT_BINBYTES EMPTY_DICT DICT SETITEM SETITEMS EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 "
    "TUPLE3 GLOBAL STACK_GLOBAL REDUCE BUILD"
)


def read_python2_pickle(data: bytes) -> dict[str, Any]:
    """Returns the dict in a pickle of plain values and NumPy integer arrays, its keys as `str`.

    Byte strings become `str` by Latin-1. Nothing in the file is executed.

    Raises:
      ValueError: the file is truncated, holds other things than dicts, lists, strings, integers and integer arrays,
        or names anything else.
    """
    try:
        result = _Unpickler(io.BytesIO(data), encoding="latin-1").load()
    # What an unpickler raises of hostile files is no closed list.
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise ValueError(f"not a pickle of plain values and integer arrays: {reason}") from error
    if not isinstance(result, dict):
        raise ValueError(f"the pickle holds a {type(result).__name__} instead of a dict")
    return {_text(key): value.value if isinstance(value, _Array) else value for key, value in result.items()}


class _Dtype:
    """Stands for `numpy.dtype`, of integers only."""

    def __init__(self, kind: str | bytes, *_: Any):
        if _text(kind) not in _DTYPES:
            raise ValueError(f"it makes a dtype that is not of {', '.join(_DTYPES)}")
        self.value = np.dtype(_text(kind))

    def __setstate__(self, state: tuple):
        if _text(state[1]) not in _BYTE_ORDERS:
            raise ValueError("it makes a dtype of no known byte order")
        self.value = self.value.newbyteorder(_text(state[1]))


class _Array:
    """Stands for `numpy.core.multiarray._reconstruct`, which makes an array whose content comes later."""

    value: Any = None

    def __init__(self, *_: Any):
        pass

    def __setstate__(self, state: tuple):
        _, shape, dtype, is_fortran, content = state
        if not isinstance(dtype, _Dtype):
            raise ValueError("it makes an array without a dtype")
        content = content.encode("latin-1") if isinstance(content, str) else content
        self.value = np.frombuffer(content, dtype.value).reshape(shape, order="F" if is_fortran else "C")


class _Instructions(dict):
    def __missing__(self, code: int):
        raise ValueError(f"it uses the instruction {bytes([code])!r}, which no CIFAR batch needs")


# The unpickler written in Python: that in C makes a table of 2^32 entries for a file that says "remember as 2^32".
class _Unpickler(pickle._Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        match module, name:
            case ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct"):
                return _Array
            case ("numpy", "dtype"):
                return _Dtype
            case ("numpy", "ndarray"):
                return None  # an argument that `_Array` does not look at
            case ("_codecs", "encode"):  # how Python 3 writes bytes in Python 2's protocol
                return lambda text, *_: text.encode("latin-1")  # a new one each time: a file may set its attributes
        raise ValueError(f"it names {module}.{name}, which is refused and was not executed; the file may be hostile")

    def load_setitems(self) -> None:
        self._set_items(self.pop_mark())

    def load_setitem(self) -> None:
        value = self.stack.pop()
        self._set_items([self.stack.pop(), value])

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self._set_items(items)

    def _set_items(self, items: list) -> None:
        # Only text as keys: hashing a deeply nested tuple would exhaust the C stack.
        keys = [_text(key) for key in items[::2]]
        if not isinstance(self.stack[-1], dict):
            raise ValueError("it sets items of what is no dict")
        self.stack[-1].update(zip(keys, items[1::2], strict=True))

    dispatch: ClassVar = _Instructions(
        {getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]] for name in _OPCODES.split()}
        | {pickle.SETITEMS[0]: load_setitems, pickle.SETITEM[0]: load_setitem, pickle.DICT[0]: load_dict}
    )


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if not isinstance(value, str):
        raise ValueError(f"a {type(value).__name__} stands where a text is needed")
    return value
