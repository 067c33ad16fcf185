"""All pairs within a radius."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from . import _core
from ._arguments import SEARCH_ITEMS_PER_WORKER, workers
from ._store import Progress, Store


class Pairs(NamedTuple):
    """What join() found: pair i is left_keys[i], right_keys[i], distances[i].

    left_keys, right_keys: uint64, or of 16 bytes ("V16"). distances: float32; NPHD: fractions in
    [0, 1], Hamming: differing bits.
    """

    left_keys: npt.NDArray[np.generic]
    right_keys: npt.NDArray[np.generic]
    distances: npt.NDArray[np.float32]


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

    Returns Pairs, in the order of left's vectors, those of one by distance, then right key. The
    arrays are in memory: nphd_join() of the C library and the program hand pairs over as they go.
    Raises ValueError: radius out of range, or sides that do not fit; TypeError; RuntimeError:
    closed, a damaged view, or ended by progress; MemoryError.
    """
    first = _store(left)
    second = None if right is None else _store(right)
    left_keys, right_keys, distances = _core.join(
        first._core,
        None if second is None else second._core,
        float(radius),
        workers(threads, first.size, SEARCH_ITEMS_PER_WORKER),
        progress,
    )
    dtype = first._keys.dtype
    return Pairs(
        np.frombuffer(left_keys, dtype=dtype),
        np.frombuffer(right_keys, dtype=dtype),
        np.frombuffer(distances, dtype=np.float32),
    )
