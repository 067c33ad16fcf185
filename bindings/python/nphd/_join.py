"""All pairs within a radius."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from . import _core
from ._arguments import SEARCH_ITEMS_PER_WORKER, workers
from ._store import Progress, Store


#: What the arrays of join() may take unless max_bytes says otherwise: 1 GiB, some 53 million pairs.
JOIN_MAX_BYTES = 1 << 30


class _Arrays(NamedTuple):
    left_keys: npt.NDArray[np.generic]
    right_keys: npt.NDArray[np.generic]
    distances: npt.NDArray[np.float32]


class Pairs(_Arrays):
    """What join() found: pair i is left_keys[i], right_keys[i], distances[i].

    left_keys, right_keys: uint64, or of 16 bytes ("V16"). distances: float32; NPHD: fractions in
    [0, 1], Hamming: differing bits. more: there are pairs beyond the limit. len() is 3, as of a
    tuple of three arrays; the number of pairs is len(pairs.distances).
    """

    more: bool = False


def _pairs(arrays: tuple[Any, Any, Any, bool], dtype: npt.DTypeLike) -> Pairs:
    left_keys, right_keys, distances, more = arrays
    pairs = Pairs(
        np.frombuffer(left_keys, dtype=dtype),
        np.frombuffer(right_keys, dtype=dtype),
        np.frombuffer(distances, dtype=np.float32),
    )
    pairs.more = more
    return pairs


def _number(name: str, value: int | None, unlimited: int) -> int:
    if value is None:
        return unlimited
    number = operator.index(value)
    if not 1 <= number < 1 << 63:
        raise ValueError(f"{name} must be 1 or more, or None, not {value}")
    return number


def _store(side: Any) -> Store:
    if not isinstance(side, Store):
        raise TypeError(f"a join is of indexes, not of {type(side).__name__}")
    return side


def join(
    left: Store,
    right: Store | None = None,
    *,
    radius: float,
    threads: int = 1,
    progress: Progress | None = None,
    limit: int | None = None,
    mix_units: bool = False,
    max_bytes: int | None = JOIN_MAX_BYTES,
) -> Pairs:
    """Find all pairs of stored vectors that are at most `radius` apart. None is missed.

    left alone: pairs inside of it, each once, with left key < right key; of two vectors of one key,
    in a multi index, with equal keys.
    left, right: pairs of a vector of each. They agree in metric, width and kind of keys; either may
    be sharded, and both may be the same index, which then gives both orders of each pair and each
    vector with itself.
    radius: NPHD: a fraction, Hamming: bits; itself included. threads: 0 for all processors.
    progress: called with (vectors of `left` done, all of them); False ends the join. It must not
    use the same indexes.
    limit: at most so many pairs, the first ones in the order below; Pairs.more tells whether there
    are further ones. None: all.
    mix_units: join indexes whose codes are known to be of different types.
    max_bytes: what the arrays may take, by default 1 GiB: some 53 million pairs of keys of 64 bits
    at 20 bytes each (36 for those of 128 bits). Half as much again is needed while they are made.
    Of vectors that are equal each is a pair with each, so that a hundred thousand are 100 GB.
    None: whatever there is.

    Returns Pairs, in the order of left's vectors, those of one by distance, then right key.
    join_iter() gives them some at a time, in bounded memory.
    Raises ValueError: radius, limit or max_bytes out of range, or sides that do not fit, of which
    MismatchError: codes of different types; TypeError;
    RuntimeError: closed, a damaged view, or ended by progress; MemoryError: also when the pairs
    would take more than max_bytes, and then nothing is returned.
    """
    first = _store(left)
    second = None if right is None else _store(right)
    found = _core.join(
        first._core,
        None if second is None else second._core,
        float(radius),
        workers(threads, first.size, SEARCH_ITEMS_PER_WORKER),
        progress,
        _number("limit", limit, 0),
        bool(mix_units),
        _number("max_bytes", max_bytes, (1 << 63) - 1),
    )
    return _pairs(found, first._keys.dtype)


class PairsIterator(Iterator[Pairs]):
    """What join_iter() returns: Pairs of at most `batch` pairs, none of them empty.

    more: at the end of the iteration, whether there are pairs beyond the limit. close(), or the end of a
    with block, frees what it holds before it has come to the end.
    """

    def __init__(self, core: Any, dtype: npt.DTypeLike, batch: int) -> None:
        self.more = False
        self._core = core
        self._dtype = dtype
        self._batch = batch
        self._ended = False

    def __next__(self) -> Pairs:
        if self._ended:
            raise StopIteration
        pairs = _pairs(self._core.read(self._batch), self._dtype)
        self.more = pairs.more
        self._ended = len(pairs.distances) < self._batch
        if len(pairs.distances) == 0:
            raise StopIteration
        return pairs

    def close(self) -> None:
        """End the join. May be called again."""
        self._ended = True
        self._core.close()

    def __enter__(self) -> PairsIterator:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def join_iter(
    left: Store,
    right: Store | None = None,
    *,
    radius: float,
    threads: int = 1,
    progress: Progress | None = None,
    limit: int | None = None,
    mix_units: bool = False,
    batch: int = 65536,
) -> PairsIterator:
    """Find what join() finds, some pairs at a time: the same pairs in the same order.

    Memory is bounded whatever the number of pairs: some 10 MB, and 60 bytes for each of `batch`.
    The join goes on while the next pairs are asked for, and stands still between. What changes in
    the indexes meanwhile is in or not.

    batch: most pairs in each of the Pairs; only the last ones are fewer. The rest as for join().

    Returns an iterator of Pairs, whose `more` tells at the end whether there are pairs beyond the
    limit.
    Raises as join(), at once or from the iteration, which cannot go on after an error;
    RuntimeError: two threads ask for pairs at the same time.
    """
    first = _store(left)
    second = None if right is None else _store(right)
    size = _number("batch", batch, 65536)
    core = _core.open_pairs(
        first._core,
        None if second is None else second._core,
        float(radius),
        workers(threads, first.size, SEARCH_ITEMS_PER_WORKER),
        progress,
        _number("limit", limit, 0),
        bool(mix_units),
    )
    return PairsIterator(core, first._keys.dtype, size)
