"""The forms in which callers give keys and vectors, brought to the one that the C side takes.

Arrays of the right kind go through as they are; nothing is copied.
"""

from __future__ import annotations

import array
import math
import operator
import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from ._iscc_id import iscc_id_key

# What the wording of errors depends on: operations that store, remove and look up.
STORE, REMOVE, LOOKUP = "store", "remove", "lookup"

# Batches below these many items a worker are not worth another thread.
ADD_ITEMS_PER_WORKER = 256
SEARCH_ITEMS_PER_WORKER = 8


def key_to_python(key: Any) -> int | bytes:
    """An item of a key array as a plain integer, or as 16 bytes."""
    if isinstance(key, np.void):
        return key.tobytes()
    return key if isinstance(key, bytes) else int(key)


def refuse_masked(array: Any, what: str) -> None:
    """What stands under a mask is not known, and would be taken for what it seems."""
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{what} of a masked array are not all known; use .filled() or .compressed()")


def _number(key: Any) -> int:
    return iscc_id_key(key) if isinstance(key, str) else operator.index(key)


class Keys64:
    """Keys that are integers of 0 to 2**64 - 2, or the text of ISCC-IDs, which stand for such."""

    bits = 64
    dtype = np.dtype(np.uint64)
    plain = int  # the type of most single keys, which the C side takes as they are

    @staticmethod
    def is_single(keys: Any) -> bool:
        return isinstance(keys, (int, np.integer, str)) or (
            isinstance(keys, np.ndarray) and keys.ndim == 0
        )

    @staticmethod
    def one(key: Any, what: str) -> int:
        refuse_masked(key, "keys")
        number = _number(key)
        if not 0 <= number < 2**64:
            raise ValueError(f"key {number}: a key is an integer of 0 to 2**64 - 2")
        return number

    @classmethod
    def many(cls, keys: Any, what: str) -> npt.NDArray[np.generic]:
        if isinstance(keys, np.ndarray):
            refuse_masked(keys, "keys")
            if keys.ndim != 1:
                raise ValueError(f"keys have one dimension, not {keys.ndim}")
            if keys.dtype.kind == "U":
                return cls.many(keys.tolist(), what)
            if keys.size > 0 and keys.dtype.kind not in "iu":
                raise TypeError(f"keys are integers, not {keys.dtype}")
            if keys.dtype.kind == "i" and keys.size > 0 and keys.min() < 0:
                raise ValueError("a key is an integer of 0 to 2**64 - 2; there is a negative one")
            return np.ascontiguousarray(keys, dtype=np.uint64)
        if not isinstance(keys, Iterable):
            raise TypeError(f"a key, or several, are needed, not {type(keys).__name__}")
        try:
            return np.array(array.array("Q", map(_number, keys)), dtype=np.uint64)
        except OverflowError:
            raise ValueError("a key is an integer of 0 to 2**64 - 2") from None

    @staticmethod
    def check_given(keys: Any, what: str) -> None:
        if keys is None and what != LOOKUP:
            raise ValueError("explicit keys are needed; they cannot be None here")


class Keys128:
    """Keys that are strings of 16 bytes, which have no further meaning."""

    bits = 128
    dtype = np.dtype("V16")
    plain = bytes

    @staticmethod
    def is_single(keys: Any) -> bool:
        return isinstance(keys, (bytes, np.void))

    @staticmethod
    def one(key: Any, what: str) -> npt.NDArray[np.generic]:
        octets = bytes(key)
        if len(octets) != 16:
            wanted = "bytes of length 16" if what == LOOKUP else "exactly 16 bytes"
            raise ValueError(f"a key must be {wanted}; this one has {len(octets)}")
        return np.frombuffer(octets, dtype="V16")

    @classmethod
    def many(cls, keys: Any, what: str) -> npt.NDArray[np.generic]:
        cls.check_given(keys, what)
        if isinstance(keys, np.ndarray):
            refuse_masked(keys, "keys")
            if keys.dtype != cls.dtype:
                raise ValueError(f"an array of keys must have dtype 'V16', not {keys.dtype}")
            if keys.ndim != 1:
                raise ValueError(f"keys have one dimension, not {keys.ndim}")
            return np.ascontiguousarray(keys)
        if not isinstance(keys, Iterable):
            raise ValueError(
                f"keys must be bytes(16) or iterable, not {type(keys).__name__}"
            )
        items = [item.tobytes() if isinstance(item, np.void) else item for item in keys]
        for item in items:
            if not isinstance(item, bytes) or len(item) != 16:
                raise ValueError(f"each key must be bytes of length 16, not {item!r}")
        return np.frombuffer(b"".join(items), dtype="V16")

    @staticmethod
    def check_given(keys: Any, what: str) -> None:
        if keys is None and what == STORE:
            raise ValueError("Auto-key generation not supported for keys of 128 bits")
        if keys is None:
            raise ValueError("keys must be bytes, not None")


KeyForm = type[Keys64] | type[Keys128]


def _contiguous(vector: Any) -> Any:
    """Arrays whose bytes do not stand side by side are copied; all others stay as they are."""
    if isinstance(vector, np.ndarray):
        refuse_masked(vector, "vectors")
        if vector.dtype in (np.uint64, np.dtype(">u8")):
            raise TypeError(
                "a vector is an array of uint8, not of uint64; vectors of 64 bits in one number "
                "each: numbers.astype('>u8').view(numpy.uint8).reshape(-1, 8)"
            )
        if vector.dtype != np.uint8:
            raise TypeError(
                f"a vector is an array of uint8, not of {vector.dtype}; use numpy.packbits() for "
                "single bits, or .astype(numpy.uint8) if the numbers are bytes"
            )
        if vector.shape[-1:] > (1,) and vector.strides[-1] != 1:
            return np.ascontiguousarray(vector)
    return vector


def vectors_read(vectors: Any) -> tuple[Any, int, bool]:
    """(what the C side takes, how many, is it a single one)."""
    if isinstance(vectors, np.ndarray) and vectors.dtype == object and vectors.ndim == 1:
        vectors = list(vectors)
    if isinstance(vectors, np.ndarray):
        refuse_masked(vectors, "vectors")
        if vectors.ndim not in (1, 2):
            raise ValueError(f"vectors have one or two dimensions, not {vectors.ndim}")
        if vectors.size == 0 and vectors.ndim == 1:
            return [], 0, False
        single = vectors.ndim == 1
        return _contiguous(vectors), 1 if single else len(vectors), single
    if isinstance(vectors, (bytes, bytearray, memoryview)):
        return vectors, 1, True
    if not isinstance(vectors, Iterable) or isinstance(vectors, str):
        raise TypeError(f"a vector is an array of uint8, or bytes, not {type(vectors).__name__}")
    items = [_contiguous(vector) for vector in vectors]
    if items and isinstance(items[0], (int, float, np.number)):
        raise TypeError(
            "a list of numbers is no vector; use numpy.array(numbers, dtype=numpy.uint8)"
        )
    return items, len(items), False


def workers(threads: int, items: int, items_per_worker: int) -> int:
    """How many threads a call uses: all processors for 0, but none that has too little to do."""
    if threads < 0:
        raise ValueError(f"threads is {threads}; it must be 0 (all processors) or more")
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (
        os.cpu_count() or 1
    )
    wanted = min(threads, processors) if threads else processors
    return max(1, min(wanted, items // items_per_worker))


def radius_read(radius: float | None) -> float | None:
    """None without limit."""
    if radius is None:
        return None
    number = float(radius)
    if math.isnan(number):
        raise ValueError("the radius is not a number")
    return None if number == math.inf else number


def radius_needed(radius: float) -> float:
    number = float(radius)
    if math.isnan(number) or number < 0:
        raise ValueError(f"the radius is {radius}; it must be 0 or more")
    return number


def plan_number(plan: str | None) -> int:
    """The code of a plan that may be asked for; 0 for None and "auto"."""
    if plan is None:
        return 0
    names = ("auto", "scan", "tables", "graph")
    if plan not in names:
        raise ValueError(f"plan is {plan!r}; it must be one of {', '.join(names)}")
    return names.index(plan)


def check_budget(budget: float | None) -> float:
    """Microseconds; 0 for the default."""
    if budget is None:
        return 0.0
    number = float(budget)
    if not 0 < number < math.inf:
        raise ValueError(f"budget is {budget}; it must be above 0, in microseconds")
    return number


def check_variants(variants: int) -> int:
    number = operator.index(variants)
    if not 1 <= number <= 8:
        raise ValueError(f"variants is {number}; it must be 1 to 8")
    return number


def whole_queries(vectors: int, variants: int) -> int:
    """How many queries so many vectors are."""
    if vectors % variants != 0:
        raise ValueError(f"{vectors} vectors are not queries of {variants} variants each")
    return vectors // variants


def check_count(count: int) -> int:
    number = operator.index(count)
    if number < 1:
        raise ValueError(f"`count` is {number}; it must be 1 or more")
    return number


def positive(name: str, value: int | None) -> int:
    """An option of the C side, where 0 stands for the default."""
    if value is None:
        return 0
    number = operator.index(value)
    if not 0 <= number < 2**32:
        raise ValueError(f"{name} is {number}; it must be 0 (the default) or more")
    return number


def width_in_bits(name: str, bits: int) -> int:
    """A width that a caller gave."""
    number = operator.index(bits)
    if not 8 <= number <= 2040 or number % 8 != 0:
        raise ValueError(f"{name} is {number}; it must be 8 to 2040 and a multiple of 8")
    return number
