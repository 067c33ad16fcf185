"""What one index and a sharded one have in common."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from . import _core
from ._arguments import (
    ADD_ITEMS_PER_WORKER,
    LOOKUP,
    SEARCH_ITEMS_PER_WORKER,
    STORE,
    KeyForm,
    Keys64,
    check_count,
    positive,
    radius_read,
    vectors_read,
    workers,
)
from ._kinds import MetricKind, ScalarKind
from ._log import timer
from ._matches import BatchMatches, Matches
from ._views import IndexedKeys, IndexedVectors

Progress = Callable[[int, int], Any]
_AUTO, _EXACT, _APPROXIMATE = 0, 1, 2

# A single query shares an exact scan among threads only where that is this many times a short one.
VECTORS_PER_ITEM = 25_000


def _callback(progress: Any) -> Any:
    """True and False, which callers of the reference may give, ask for nothing here."""
    return None if isinstance(progress, bool) else progress


class _Silent:
    """Stands where a timer would."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *unused: object) -> None:
        return None


def _told(log: Any, what: str) -> Any:
    """A timer at INFO if the caller asked for a log, under the name that they gave."""
    return timer(log if isinstance(log, str) else what, level="INFO") if log else _Silent()


class Store:
    """Adding, looking up and searching; not to be made by itself."""

    _core: _core.Store
    _keys: KeyForm = Keys64
    _fixed: bool = False  # every vector has the full width
    _empty_distance: ClassVar[float] = math.nan  # of unused places in a batch answer
    multi: bool = False

    # ---- sizes ----

    @property
    def size(self) -> int:
        """Vectors that can be found."""
        return self._core.size()

    def __len__(self) -> int:
        return self._core.size()

    @property
    def dirty(self) -> int:
        """Vectors really added plus really removed since the last save."""
        return self._core.dirty()

    @property
    def max_bytes(self) -> int:
        """Widest vector in bytes."""
        return self._core.max_bytes()

    @property
    def max_dim(self) -> int:
        """Widest vector in bits."""
        return self._core.max_bytes() * 8

    @property
    def ndim(self) -> int:
        """Bits of a stored vector: with its length byte, unless all vectors have one length."""
        return self.max_dim + (0 if self._fixed else 8)

    @property
    def dtype(self) -> ScalarKind:
        return ScalarKind.B1

    @property
    def metric_kind(self) -> MetricKind:
        return MetricKind.Hamming if self._fixed else MetricKind.NPHD

    @property
    def metric(self) -> MetricKind:
        return self.metric_kind

    @property
    def keys(self) -> IndexedKeys:
        """A live view of the keys, one for each vector."""
        return IndexedKeys(self)

    @property
    def vectors(self) -> IndexedVectors:
        """A live view of the vectors, in the order of the keys."""
        return IndexedVectors(self)

    # ---- keys ----

    def _key(self, key: Any, what: str = LOOKUP) -> Any:
        """One key for the C side."""
        return self._keys.one(key, what)

    def _key_array(self, keys: Any, what: str = LOOKUP) -> npt.NDArray[Any]:
        """Keys for the C side, also of a single one."""
        if self._keys.is_single(keys):
            one = self._keys.one(keys, what)
            return np.array([one], dtype=np.uint64) if isinstance(one, int) else one
        return self._keys.many(keys, what)

    # ---- changes ----

    def add(
        self,
        keys: Any,
        vectors: Any,
        *,
        copy: bool = True,
        threads: int = 0,
        log: str | bool = False,
        progress: Progress | None = None,
    ) -> npt.NDArray[Any]:
        """Store vectors. A key that is present keeps its vector, unless the index is multi.

        keys: one key or several; None for automatic ones (keys of 64 bits).
        vectors: an array of uint8 of one dimension (one vector) or two (one in each row), bytes, or
            a sequence of arrays or bytes of any lengths of 1 to `max_bytes`. As many as keys.
        copy: vectors are always copied into the index.
        threads: 0 for all processors. log: log the time, under this text.
        progress: called with (done, total) now and then; False ends the call. It must not use the
            same index.

        Returns the keys, also of one vector and of those that were there already.
        Raises ValueError: a number, length or key out of range, with nothing stored. TypeError:
        not bytes. RuntimeError: a view, read-only, or closed. MemoryError, OSError.
        """
        if keys is None:
            self._keys.check_given(keys, STORE if self._keys.bits == 128 else LOOKUP)
        array = None if keys is None else self._key_array(keys, STORE)
        data, count, _ = vectors_read(vectors)
        if array is not None and len(array) != count:
            raise ValueError(f"the numbers of keys ({len(array)}) and vectors ({count}) must match")
        out = np.empty(count, dtype=self._keys.dtype) if array is None else None
        with _told(log, "add"):
            self._core.add(
                array, data, workers(threads, count, ADD_ITEMS_PER_WORKER), _callback(progress), out
            )
        return array.copy() if array is not None else out  # type: ignore[return-value]

    def upsert(
        self,
        keys: Any,
        vectors: Any,
        *,
        threads: int = 0,
        log: str | bool = False,
        progress: Progress | None = None,
    ) -> npt.NDArray[Any]:
        """Store vectors, replacing what their keys had; the last of equal keys wins.

        Lengths may change. Readers see the old vector or the new one, never neither. Arguments as
        for add(), but keys are needed.

        Returns the keys as given. Raises as add(); ValueError on a multi index.
        """
        self._keys.check_given(keys, STORE)
        array = self._key_array(keys, STORE)
        if self.multi:
            raise ValueError("upsert needs an index with multi=False")
        data, count, _ = vectors_read(vectors)
        if len(array) != count:
            raise ValueError(f"the numbers of keys ({len(array)}) and vectors ({count}) must match")
        with _told(log, "upsert"):
            self._core.upsert(
                array, data, workers(threads, count, ADD_ITEMS_PER_WORKER), _callback(progress)
            )
        return array.copy()

    # ---- lookups ----

    def contains(self, keys: Any) -> Any:
        """Is a key there? A bool for one key, an array of bools for several."""
        if self._keys.is_single(keys):
            answer = np.zeros(1, dtype=np.bool_)
            self._core.contains(self._key(keys), answer)
            return bool(answer[0])
        array = self._key_array(keys)
        answers = np.zeros(len(array), dtype=np.bool_)
        self._core.contains(array, answers)
        return answers

    def __contains__(self, key: Any) -> bool:
        answer = self.contains(key)
        return answer if isinstance(answer, bool) else bool(answer.all())

    def count(self, keys: Any) -> Any:
        """How many vectors has a key? An int for one key, an array of uint64 for several."""
        if self._keys.is_single(keys):
            answer = np.zeros(1, dtype=np.uint64)
            self._core.count(self._key(keys), answer)
            return int(answer[0])
        array = self._key_array(keys)
        answers = np.zeros(len(array), dtype=np.uint64)
        self._core.count(array, answers)
        return answers

    def get(self, keys: Any, dtype: Any = None) -> Any:
        """The vector of a key, with the length it was stored with; None when it is absent.

        Of a multi index: all vectors of the key, as a list, or as a matrix where all have one
        length. For several keys: a list with an entry for each. dtype: accepted for bits.
        """
        if self._keys.is_single(keys):
            return self._get_all(keys) if self.multi else self._get_one(keys)
        array = self._key_array(keys)
        if self.multi:
            return [self._get_all(key) for key in array]
        rows = np.empty((len(array), self.max_bytes), dtype=np.uint8)
        lengths = np.zeros(len(array), dtype=np.uint64)
        self._core.get(array, rows, lengths)
        return [rows[i, :n] if n else None for i, n in enumerate(lengths.tolist())]

    def _get_one(self, key: Any) -> npt.NDArray[np.uint8] | None:
        row = np.empty(self.max_bytes, dtype=np.uint8)
        length = np.zeros(1, dtype=np.uint64)
        self._core.get(self._key(key), row, length)
        return row[: int(length[0])] if length[0] else None

    def _get_all(self, key: Any) -> Any:
        one = self._key(key)
        room, count = 0, 1
        while count > room:  # another thread may add to the key meanwhile
            room = count
            rows = np.empty((room, self.max_bytes), dtype=np.uint8)
            lengths = np.zeros(room, dtype=np.uint64)
            count = self._core.get_all(one, rows, lengths)
        if count == 0:
            return None
        if self._fixed:
            return rows[:count]
        return [rows[i, :n] for i, n in enumerate(lengths.tolist()[:count])]

    def __getitem__(self, keys: Any) -> Any:
        return self.get(keys)

    # ---- search ----

    def search(
        self,
        vectors: Any,
        count: int = 10,
        radius: float = math.inf,
        *,
        threads: int = 0,
        exact: bool = False,
        log: str | bool = False,
        progress: Progress | None = None,
        filter: Callable[[Any], Any] | Iterable[Any] | None = None,
        approximate: bool = False,
        breadth: int | None = None,
    ) -> Matches | BatchMatches:
        """Find the stored vectors nearest to a query, or to each of several.

        vectors: queries, in the forms of add(). count: most matches for each, 1 or more.
        radius: largest distance accepted; NPHD: a fraction, Hamming: bits.
        exact: compare with every vector. approximate: use the graph also where comparing with
            every vector would be cheap (below 10,000). The answer says whether it is exact.
        breadth: graph candidates for this call instead of `expansion_search`.
        filter: a function of a key, true for those accepted; or a collection of accepted keys.
            Like progress it must not use the same index.
        threads, log, progress: as for add().

        Returns Matches for one query (one dimension, or one row), else BatchMatches.
        Raises ValueError, TypeError; RuntimeError: closed, or a damaged view.
        """
        wanted = check_count(count)
        if exact and approximate:
            raise ValueError("a search cannot be both exact and approximate")
        data, queries, _ = vectors_read(vectors)
        capacity = min(wanted, max(1, self.size))
        row = capacity if queries == 1 else wanted
        keys = np.zeros((queries, row), dtype=self._keys.dtype)
        distances = np.full((queries, row), self._empty_distance, dtype=np.float32)
        counts = np.zeros(queries, dtype=np.uint64)
        is_exact = np.zeros(queries, dtype=np.bool_)
        visited = np.zeros(queries, dtype=np.uint64)
        computed = np.zeros(queries, dtype=np.uint64)
        if filter is not None and not callable(filter):
            filter = self._accepted(filter).__contains__
        # a filter runs under the interpreter's lock, where more threads only wait for each other
        items = max(queries, self.size // VECTORS_PER_ITEM)
        threads = 1 if filter is not None else workers(threads, items, SEARCH_ITEMS_PER_WORKER)
        mode = _EXACT if exact else _APPROXIMATE if approximate else _AUTO
        with _told(log, "search"):
            self._core.search(
                data, capacity, row, mode, positive("breadth", breadth), threads,
                radius_read(radius), filter, _callback(progress),
                keys, distances, counts, is_exact, visited, computed,
            )  # fmt: skip
        if queries == 1:
            found = int(counts[0])
            return Matches(
                keys[0, :found], distances[0, :found], int(visited[0]), int(computed[0]),
                bool(is_exact[0]),
            )  # fmt: skip
        return BatchMatches(
            keys, distances, counts, int(visited.sum()), int(computed.sum()), is_exact
        )

    def _accepted(self, keys: Iterable[Any]) -> Any:
        """A set of the keys as the filter is asked for them."""
        array = self._key_array(keys if isinstance(keys, np.ndarray) else list(keys))
        return set(array.tolist())
