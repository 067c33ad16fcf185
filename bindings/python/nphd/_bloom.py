"""The bloom filter of sharded indexes, by itself."""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Iterable
from typing import Any

import numpy as np

from . import _core

_HEAD = struct.Struct("<4sBQIddI")  # magic, version, count, capacity, rate, growth, filters
_FILTER = struct.Struct("<III")  # capacity, hashes, bytes


def _octets(key: Any) -> bytes:
    """What goes into the filter for a key. Integers as in files: 8 bytes, the lowest first."""
    if isinstance(key, (int, np.integer)):
        number = int(key)
        if not -(2**63) <= number < 2**64:
            raise ValueError(f"key {number}: an integer key has 64 bits")
        return (number & (2**64 - 1)).to_bytes(8, "little")
    if isinstance(key, (bytes, bytearray, np.void)):
        return key.tobytes() if isinstance(key, np.void) else bytes(key)
    raise TypeError(f"a key is an integer or bytes, not {type(key).__name__}")


def _body(data: bytes) -> bytes:
    """A file without what may follow its filters."""
    if data[:4] != b"ISBF":
        raise ValueError("Invalid bloom filter file: it does not begin with ISBF")
    if len(data) < _HEAD.size:
        raise ValueError("Invalid bloom filter file: it ends inside its head")
    version, filters = data[4], _HEAD.unpack_from(data)[6]
    if version != 1:
        raise ValueError(f"Unsupported bloom filter version: {version}")
    end = _HEAD.size
    for _ in range(filters):
        if end + _FILTER.size > len(data):
            raise ValueError("Invalid bloom filter file: it ends inside a filter")
        end += _FILTER.size + _FILTER.unpack_from(data, end)[2]
    if end > len(data):
        raise ValueError("Invalid bloom filter file: it ends inside a filter")
    return data[:end]


class ScalableBloomFilter:
    """A set that may say "maybe" of a key that was never added, and never "no" of one that was.

    initial_capacity: keys of the first filter, 1 or more. fpr: share of false answers aimed at,
    above 0 and up to 0.5. growth_factor: of each further filter, 1 to 16.
    Keys are integers of 64 bits, or bytes of any length. What the reference added is found, and the
    other way round.
    """

    def __init__(
        self, initial_capacity: int = 10_000_000, fpr: float = 0.01, growth_factor: float = 2.0
    ) -> None:
        if not 0 < initial_capacity < 2**32:
            raise ValueError(f"initial_capacity is {initial_capacity}; it must be 1 or more")
        self._core = _core.Bloom(initial_capacity, float(fpr), float(growth_factor))

    @property
    def initial_capacity(self) -> int:
        return int(self._core.state()["initial_capacity"])

    @property
    def fpr(self) -> float:
        return float(self._core.state()["rate"])

    @property
    def growth_factor(self) -> float:
        return float(self._core.state()["growth"])

    @property
    def count(self) -> int:
        """Keys added, repeated ones included."""
        return int(self._core.state()["count"])

    @property
    def filter_count(self) -> int:
        return int(self._core.state()["filters"])

    @property
    def current_capacity(self) -> int:
        """Keys that all filters of this moment have room for."""
        return int(self._core.state()["capacity"])

    @property
    def memory_usage(self) -> int:
        """Bytes of memory."""
        return int(self._core.state()["memory_bytes"])

    def __len__(self) -> int:
        return self.count

    @staticmethod
    def _groups(keys: Any) -> list[tuple[Any, int, list[int] | None]]:
        """(bytes of keys, bytes of one, their places) for each length; None: all places."""
        if isinstance(keys, np.ndarray) and keys.dtype.kind in "iu":
            return [(np.ascontiguousarray(keys.ravel(), dtype="<i8" if keys.dtype.kind == "i" else
                                          "<u8"), 8, None)]  # fmt: skip
        if isinstance(keys, np.ndarray) and keys.dtype == np.dtype("V16"):
            return [(np.ascontiguousarray(keys), 16, None)]
        places: dict[int, list[int]] = {}
        octets = [_octets(key) for key in keys]
        for place, octet in enumerate(octets):
            places.setdefault(len(octet), []).append(place)
        return [
            (b"".join(octets[i] for i in places[width]), width, places[width]) for width in places
        ]

    def add(self, key: Any) -> None:
        """Add a key. Raises MemoryError; RuntimeError: the filter counts no further."""
        octets = _octets(key)
        self._core.add(octets, len(octets))

    def add_batch(self, keys: Iterable[Any]) -> None:
        """Add many keys: an array of integers or of 16 bytes each, or any iterable."""
        for data, width, places in self._groups(keys):
            if width == 0:  # no bytes to tell how many there are
                for _ in places or ():
                    self._core.add(b"", 0)
            elif len(data) > 0:
                self._core.add(data, width)

    def contains(self, key: Any) -> bool:
        """May the key have been added? False is certain."""
        octets = _octets(key)
        answer = np.zeros(1, dtype=np.bool_)
        self._core.contains(octets, len(octets), answer)
        return bool(answer[0])

    def __contains__(self, key: Any) -> bool:
        return self.contains(key)

    def contains_batch(self, keys: Iterable[Any]) -> list[bool]:
        """As contains(), for each key."""
        if not isinstance(keys, np.ndarray):
            keys = list(keys)
        answers = np.zeros(len(keys), dtype=np.bool_)
        for data, width, places in self._groups(keys):
            if width == 0:
                answers[places] = self.contains(b"")
                continue
            some = np.zeros(len(places) if places is not None else len(keys), dtype=np.bool_)
            if len(some) > 0:
                self._core.contains(data, width, some)
            answers[slice(None) if places is None else places] = some
        return answers.tolist()

    def clear(self) -> None:
        """Forget everything: one empty filter of the initial capacity."""
        state = self._core.state()
        self._core = _core.Bloom(state["initial_capacity"], state["rate"], state["growth"])

    def save(self, path: Any) -> None:
        """Write a `bloom.isbf`, durably. Raises OSError: an older file is as it was."""
        data = self._core.file()
        path = os.fsdecode(path)
        folder = os.path.dirname(os.path.abspath(path))
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=os.path.basename(path) + ".tmp-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        directory = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    @classmethod
    def load(cls, path: Any) -> ScalableBloomFilter:
        """Read a file of save(), of a sharded index, or of the reference.

        Raises FileNotFoundError, OSError; ValueError: not such a file; RuntimeError: damaged.
        """
        with open(path, "rb") as file:
            data = file.read()
        bloom = cls.__new__(cls)
        bloom._core = _core.Bloom(_body(data))
        return bloom

    def __repr__(self) -> str:
        return f"nphd.ScalableBloomFilter({self.count} keys, {self.filter_count} filters)"
