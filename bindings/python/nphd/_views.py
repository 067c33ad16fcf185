"""Lazy views of the keys and vectors of an index.

A view holds no copy and always shows the index as it is. Going through it reads a piece at a time;
as with a dict, an index that changes its size meanwhile ends that with a RuntimeError.
numpy.asarray() of a view takes what is there, beside whatever other threads do.
A place is found by going there from the start, because removed entries leave gaps: a loop costs
least as `for key in index.keys`.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ._arguments import key_to_python

if TYPE_CHECKING:
    from ._store import Store

# Enough that the work for a piece outweighs the calls, little enough to fit a cache.
PIECE = 1024


class _View:
    def __init__(self, store: Store) -> None:
        self._store = store

    def __len__(self) -> int:
        return self._store.size

    def _pieces(self, vectors: bool) -> Iterator[tuple[Any, Any, Any]]:
        """(keys, rows, lengths) of up to PIECE entries."""
        core = self._store._core
        cursor = core.cursor()
        while True:
            keys = np.empty(PIECE, dtype=self._store._keys.dtype)
            rows = lengths = None
            if vectors:
                rows = np.empty((PIECE, core.max_bytes()), dtype=np.uint8)
                lengths = np.empty(PIECE, dtype=np.uint64)
            count = cursor.read(PIECE, keys, rows, lengths)
            if count == 0:
                return
            yield keys[:count], rows, lengths

    def _check_size(self, size: int) -> None:
        if len(self) != size:
            raise RuntimeError("the index changed size during iteration")

    def _place(self, place: Any) -> tuple[int, int]:
        """Of an entry: the piece and the place in it. IndexError when there is none."""
        number = operator.index(place)
        size = len(self)
        if number < 0:
            number += size
        if not 0 <= number < size:
            raise IndexError(f"place {place} of {size}")
        return divmod(number, PIECE)

    def __repr__(self) -> str:
        return f"nphd.{type(self).__name__}({len(self)})"


class IndexedKeys(_View):
    """The keys of an index, in the order of its files; one for each vector.

    Items are integers, or 16 bytes; slices and arrays have the key type of the index. Going through
    them ends with RuntimeError when the index changes its size meanwhile, as for a dict; beside
    other threads that add and remove, take `numpy.asarray(index.keys)`.
    """

    def __iter__(self) -> Iterator[int | bytes]:
        size = len(self)
        for keys, _, _ in self._pieces(vectors=False):
            plain = self._store._keys.bits == 64
            for key in keys.tolist() if plain else map(key_to_python, keys):
                yield key
                self._check_size(size)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return np.asarray(self)[place]
        piece, offset = self._place(place)
        for number, (keys, _, _) in enumerate(self._pieces(vectors=False)):
            if number == piece and offset < len(keys):
                return key_to_python(keys[offset])
        raise IndexError(f"place {place}: the index became smaller")

    def __contains__(self, key: Any) -> bool:
        return bool(self._store.contains(key))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        pieces = [keys for keys, _, _ in self._pieces(vectors=False)]
        array = np.concatenate(pieces) if pieces else np.empty(0, dtype=self._store._keys.dtype)
        return array if dtype is None else array.astype(dtype)


class IndexedVectors(_View):
    """The vectors of an index, in the order of its keys, each an array of uint8 of its own length.

    A slice is a list of arrays, or a matrix when all vectors of the index have one length.
    """

    def __iter__(self) -> Iterator[npt.NDArray[np.uint8]]:
        size = len(self)
        for vector in self._items():
            yield vector
            self._check_size(size)

    def _items(self) -> Iterator[npt.NDArray[np.uint8]]:
        for keys, rows, lengths in self._pieces(vectors=True):
            for i in range(len(keys)):
                yield rows[i, : int(lengths[i])].copy()

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            items = list(self._items())[place]
            return self._matrix(items) if self._store._fixed else items
        piece, offset = self._place(place)
        for number, (keys, rows, lengths) in enumerate(self._pieces(vectors=True)):
            if number == piece and offset < len(keys):
                return rows[offset, : int(lengths[offset])].copy()
        raise IndexError(f"place {place}: the index became smaller")

    def _matrix(self, items: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
        if not items:
            shape = (0, self._store.max_bytes) if self._store._fixed else (0,)
            return np.empty(shape, dtype=np.uint8)
        if any(len(item) != len(items[0]) for item in items):
            raise ValueError("the vectors have different lengths, which no array holds; use list()")
        return np.stack(items)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        matrix = self._matrix(list(self._items()))
        return matrix if dtype is None else matrix.astype(dtype)
