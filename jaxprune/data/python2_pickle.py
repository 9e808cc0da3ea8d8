"""Reads the python batches of CIFAR without executing anything in them.

The batches are pickles that Python 2 wrote: a dict of lists of integers and strings and one NumPy array. They are
parsed opcode by opcode (`pickletools.genops`, which only decodes) and interpreted here; Python's unpickler is not
used. The four names that such a file needs stand for code of ours; any other name is refused and never imported.
"""

import dataclasses
import pickletools

import numpy as np

_ARRAY, _ARRAY_TYPE, _DTYPE, _BYTES = "array", "array type", "dtype", "bytes"
_NAMES = {
    ("numpy.core.multiarray", "_reconstruct"): _ARRAY,
    ("numpy._core.multiarray", "_reconstruct"): _ARRAY,
    ("numpy", "ndarray"): _ARRAY_TYPE,
    ("numpy", "dtype"): _DTYPE,
    ("_codecs", "encode"): _BYTES,  # how Python 3 writes bytes in Python 2's protocol
}
_DTYPES = ("u1", "i1", "i2", "i4", "i8")
_BYTE_ORDERS = ("|", "<", ">", "=")
# An opcode's argument is the value: Python 2's byte strings arrive decoded as Latin-1, which loses nothing.
_VALUES = {
    *("BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE"),
    *("BINBYTES", "SHORT_BINBYTES"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Mark:
    """Where a list, tuple or dict begins on the stack."""


@dataclasses.dataclass(frozen=True)
class _Name:
    kind: str


@dataclasses.dataclass
class _Built:
    """An array or a dtype: created by one opcode, given its content by a later one."""

    kind: str
    value: object = None


def read_python2_pickle(data: bytes) -> dict:
    """Returns the dict in a pickle of plain values and NumPy integer arrays, its keys as `str`.

    Byte strings become `str` by Latin-1. Nothing in the file is executed.

    Raises:
      ValueError: the file is truncated, holds other things than dicts, lists, strings, integers and integer arrays,
        or names anything else.
    """
    try:
        result = _interpret(data)
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"not a pickle of plain values and integer arrays: {error}") from error
    if not isinstance(result, dict):
        raise ValueError(f"the pickle holds a {type(result).__name__} instead of a dict")
    return {key: value.value if isinstance(value, _Built) else value for key, value in result.items()}


def _interpret(data: bytes):
    stack, memo = [], {}
    for opcode, argument, position in pickletools.genops(data):
        name = opcode.name
        if name in _VALUES:
            stack.append(argument)
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(memo[argument])
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("EMPTY_DICT", "EMPTY_LIST"):
            stack.append({} if name == "EMPTY_DICT" else [])
        elif name == "MARK":
            stack.append(_Mark)
        elif name in ("TUPLE", "LIST"):
            values = _pop_to_mark(stack)
            stack.append(tuple(values) if name == "TUPLE" else values)
        elif name in _TUPLES:
            stack.append(tuple(_pop(stack, _TUPLES[name])))
        elif name in ("APPENDS", "APPEND"):
            values = _pop_to_mark(stack) if name == "APPENDS" else _pop(stack, 1)
            _expect(stack[-1], list).extend(values)
        elif name in ("SETITEMS", "SETITEM", "DICT"):
            values = _pop(stack, 2) if name == "SETITEM" else _pop_to_mark(stack)
            if name == "DICT":
                stack.append({})
            # Only text as keys: hashing a deeply nested tuple would exhaust the C stack.
            keys = [_text(key) for key in values[::2]]
            _expect(stack[-1], dict).update(zip(keys, values[1::2], strict=True))
        elif name == "GLOBAL":
            stack.append(_name(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            stack.append(_name(*_pop(stack, 2)))
        elif name == "REDUCE":
            function, arguments = _pop(stack, 2)
            stack.append(_create(_expect(function, _Name).kind, arguments))
        elif name == "BUILD":
            (state,) = _pop(stack, 1)
            _fill(_expect(stack[-1], _Built), state)
        elif name == "STOP":
            return stack.pop()
        elif name not in ("PROTO", "FRAME"):
            raise ValueError(f"it uses {name} at byte {position}, which no CIFAR batch needs")
    raise ValueError("it has no end")


def _pop(stack: list, count: int) -> list:
    if len(stack) < count:
        raise ValueError("a value is missing")
    values = stack[len(stack) - count :]
    del stack[len(stack) - count :]
    return values


def _pop_to_mark(stack: list) -> list:
    values = []
    while (value := stack.pop()) is not _Mark:
        values.append(value)
    return values[::-1]


def _expect(value, kind: type):
    if not isinstance(value, kind):
        raise ValueError(f"a {type(value).__name__} stands where a {kind.__name__.strip('_').lower()} is needed")
    return value


def _name(module: str, name: str) -> _Name:
    if (module, name) not in _NAMES:
        raise ValueError(f"it names {module}.{name}, which is refused and was not executed; the file may be hostile")
    return _Name(_NAMES[module, name])


def _create(kind: str, arguments: tuple):
    if kind == _BYTES:
        return arguments[0].encode("latin-1")
    if kind == _ARRAY:
        return _Built(_ARRAY)
    if kind == _DTYPE and _text(arguments[0]) in _DTYPES:
        return _Built(_DTYPE, np.dtype(_text(arguments[0])))
    raise ValueError(f"it makes a {kind} that is not of {', '.join(_DTYPES)}")


def _fill(built: _Built, state: tuple) -> None:
    if built.kind == _DTYPE:
        order = _text(state[1])
        if order not in _BYTE_ORDERS:
            raise ValueError("a dtype of no known byte order")
        built.value = built.value.newbyteorder(order)
        return
    _, shape, dtype, is_fortran, content = state
    if _expect(dtype, _Built).kind != _DTYPE:
        raise ValueError("an array without a dtype")
    content = content.encode("latin-1") if isinstance(content, str) else content
    built.value = np.frombuffer(content, dtype.value).reshape(shape, order="F" if is_fortran else "C")


def _text(value) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else _expect(value, str)
