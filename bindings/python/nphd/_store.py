"""What one index and a sharded one have in common."""

from __future__ import annotations

import math
import warnings
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
    check_variants,
    plan_number,
    positive,
    radius_needed,
    radius_read,
    vectors_read,
    whole_queries,
    workers,
)
from ._kinds import MetricKind, ScalarKind
from ._log import timer
from ._matches import BatchMatches, Matches
from ._search import APPROXIMATE, AUTO, EXACT, answer, question
from ._units import codes_read
from ._views import IndexedKeys, IndexedVectors

Progress = Callable[[int, int], Any]

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


def warn_of_unsaved(index: Any, changes: int, path: Any) -> None:
    """Of an index that is forgotten."""
    if changes > 0:
        warnings.warn(
            f"{path}: an index was forgotten with {changes} unsaved changes; use save() or close()",
            ResourceWarning, stacklevel=3, source=index,
        )  # fmt: skip


class Store:
    """Adding, looking up and searching; not to be made by itself."""

    _core: _core.Store
    _keys: KeyForm = Keys64
    _fixed: bool = False  # every vector has the full width
    _lookups: bool = True  # False: nothing is found by key, as in the reference
    _empty_distance: ClassVar[float] = math.nan  # of unused places in a batch answer
    multi: bool = False

    # ---- sizes ----

    @property
    def size(self) -> int:
        """Vectors that can be found."""
        return self._core.size()

    def __len__(self) -> int:
        return self._core.size()

    # index[0], index[1], ... are lookups by key, which never end: without these, Python would take
    # them for a sequence. One goes through `keys` or `vectors`.
    __iter__: ClassVar[None] = None
    __reversed__: ClassVar[None] = None

    @property
    def dirty(self) -> int:
        """Vectors really added plus really removed since the last save."""
        return self._core.dirty()

    @property
    def unit(self) -> str | None:
        """The type of the codes, such as "content-text", "mixed", or None: not known."""
        return self._core.unit()

    def set_unit(self, unit: str, mix: bool = False) -> None:
        """Tell of which type the codes are that are added: "content-text" and so on.

        The first type is kept with the index and in its files. ISCC strings tell theirs by
        themselves. mix: a second type makes it "mixed", which every type agrees with.

        Raises MismatchError, a ValueError: the index has codes of another type. ValueError: no
        such type. RuntimeError: a view, read-only, or closed.
        """
        self._core.set_unit(unit, mix)

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
            ISCC units as text, or as decode_iscc() returns them, stand for their bits; all are of
            the type that the index has, see `unit`.
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
        data, count, _ = vectors_read(codes_read(vectors, self._core, True))
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
        data, count, _ = vectors_read(codes_read(vectors, self._core, True))
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
        if type(keys) is self._keys.plain:
            return self._lookups and self._core.contains_one(keys)
        if self._keys.is_single(keys):
            return self._lookups and self._core.contains_one(self._key(keys))
        array = self._key_array(keys)
        answers = np.zeros(len(array), dtype=np.bool_)
        if self._lookups:
            self._core.contains(array, answers)
        return answers

    def __contains__(self, key: Any) -> bool:
        answer = self.contains(key)
        return answer if isinstance(answer, bool) else bool(answer.all())

    def count(self, keys: Any) -> Any:
        """How many vectors has a key? An int for one key, an array of uint64 for several."""
        if self._keys.is_single(keys):
            return self._core.count_one(self._key(keys)) if self._lookups else 0
        array = self._key_array(keys)
        answers = np.zeros(len(array), dtype=np.uint64)
        if self._lookups:
            self._core.count(array, answers)
        return answers

    def get(self, keys: Any, dtype: Any = None) -> Any:
        """The vector of a key, with the length it was stored with; None when it is absent.

        Of a multi index: all vectors of the key, as a list, or as a matrix where all have one
        length. For several keys: a list with an entry for each. dtype: accepted for bits.
        """
        if type(keys) is self._keys.plain or self._keys.is_single(keys):
            if not self._lookups:
                return None
            return self._get_all(keys) if self.multi else self._get_one(keys)
        array = self._key_array(keys)
        if not self._lookups:
            return [None] * len(array)
        if self.multi:
            return [self._get_all(key) for key in array]
        rows = np.empty((len(array), self.max_bytes), dtype=np.uint8)
        lengths = np.zeros(len(array), dtype=np.uint64)
        self._core.get(array, rows, lengths)
        # copies: one that is kept must not keep all of them
        return [rows[i, :n].copy() if n else None for i, n in enumerate(lengths.tolist())]

    def _get_one(self, key: Any) -> npt.NDArray[np.uint8] | None:
        found = self._core.get_one(key if type(key) is self._keys.plain else self._key(key))
        return None if found is None else np.frombuffer(found, dtype=np.uint8)

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
        plan: str | None = None,
        budget: float | None = None,
    ) -> Matches | BatchMatches:
        """Find the stored vectors nearest to a query, or to each of several.

        vectors: queries, in the forms of add(). count: most matches for each, 1 or more.
        radius: largest distance accepted; NPHD: a fraction, Hamming: bits.
        exact: miss nothing, whatever it costs. approximate: use the graph. With neither the answer
            is exact as long as that is predicted to take no more than the budget. The answer says
            whether it is, how it was made and what that cost.
        breadth: graph candidates for this call instead of `expansion_search`.
        budget: microseconds of one thread that an exact answer to one query may take; None: 1000,
            about a million vectors of 256 bits.
        plan: "scan" compares with every vector, "tables" looks up similar ones where there are
            tables (see prepare()); both are exact. "graph": as approximate. None, "auto": the
            cheapest.
        filter: a function of a key, true for those accepted; or a collection of accepted keys.
            Like progress it must not use the same index.
        threads, log, progress: as for add().

        Returns Matches for one query (one dimension, or one row), else BatchMatches.
        Raises ValueError, TypeError; RuntimeError: closed, or a damaged view.
        """
        wanted = check_count(count)
        if exact and approximate:
            raise ValueError("a search cannot be both exact and approximate")
        data, queries, _ = vectors_read(codes_read(vectors, self._core, False))
        capacity = min(wanted, max(1, self.size))
        filter = self._filter(filter)
        ask = question(
            EXACT if exact else APPROXIMATE if approximate else AUTO, plan, budget,
            positive("breadth", breadth), self._search_workers(threads, queries, filter),
            radius=radius_read(radius),
        )  # fmt: skip
        with _told(log, "search"):
            return answer(
                self, data, queries, capacity if queries == 1 else wanted, capacity, ask,
                (filter, _callback(progress)),
            )  # fmt: skip

    def radius(
        self,
        vectors: Any,
        radius: float,
        count: int = 100,
        *,
        variants: int = 1,
        any: bool = False,
        threads: int = 0,
        log: str | bool = False,
        progress: Progress | None = None,
        filter: Callable[[Any], Any] | Iterable[Any] | None = None,
        plan: str | None = None,
    ) -> Matches | BatchMatches:
        """Find all stored vectors within a radius of a query, or of each of several, nearest first.

        Exact, unless plan="graph". At most `count` matches are given, the nearest ones; `more` of
        the answer says whether there are others. radius_stream() gives all of them.

        vectors: queries, in the forms of add(). radius: NPHD: a fraction, Hamming: bits; itself
            included.
        variants: each run of so many vectors, 1 to 8, is one query, such as the hashes of an image
            turned and mirrored. A stored vector counts once, is as far away as the nearest of them,
            and `variants` of the answer names that one, from 0.
        any: one match will do, whichever is found first: is there anything near?
        plan, filter, threads, log, progress: as for search().

        Returns Matches for one query, else BatchMatches. Raises as search().
        """
        wanted = 1 if any else check_count(count)
        data, vector_count, _ = vectors_read(codes_read(vectors, self._core, False))
        filter = self._filter(filter)
        threads = self._search_workers(threads, vector_count, filter)
        ask = question(
            AUTO if plan == "graph" else EXACT, plan, None, 0, threads, variants, any,
            radius_needed(radius),
        )  # fmt: skip
        capacity = min(wanted, max(1, self.size))
        queries = whole_queries(vector_count, ask.variants)
        with _told(log, "radius"):
            return answer(
                self, data, queries, capacity, capacity, ask, (filter, _callback(progress))
            )

    def radius_stream(
        self,
        vectors: Any,
        radius: float,
        sink: Callable[[int, Any, float, int], Any],
        *,
        variants: int = 1,
        any: bool = False,
        threads: int = 1,
        filter: Callable[[Any], Any] | Iterable[Any] | None = None,
        plan: str | None = None,
    ) -> bool:
        """Hand all stored vectors within a radius of each query to a function, in no order.

        However many there are, memory does not grow with them. Always exact.

        sink: called with (number of the query, key, distance, variant) for each match; False ends
            the call. By one thread at a time, and it must not use the same index.
        any: at most one match of each query. plan: "scan" or "tables". The rest as for radius().

        Returns whether all was handed over: False when the sink ended the call before that.
        Raises as search(); and what the sink raises. What was handed over before stands.
        """
        if not callable(sink):
            raise TypeError("the sink must be callable")
        if plan == "graph":
            raise ValueError("radius_stream() is always exact; plan='graph' is not")
        data, vector_count, _ = vectors_read(codes_read(vectors, self._core, False))
        filter = self._filter(filter)
        threads = self._search_workers(threads, vector_count, filter)
        number = check_variants(variants)
        whole_queries(vector_count, number)
        return not self._core.radius_stream(
            data, radius_needed(radius), (plan_number(plan), threads, number, bool(any)), filter,
            sink,
        )  # fmt: skip

    def prepare(self, threads: int = 1, *, progress: Progress | None = None) -> None:
        """Make ready for exact searches: hash tables, by which what is near is found by looking at
        a few vectors only, and the vectors once more, by words.

        No answer depends on it, and nothing is made for fewer than some 16,000 vectors. The tables
        take some 100 bytes for a vector of 256 bits, the rest 36. A single index has them saved
        with it; of a sharded one they stay in memory until it is closed, see `tables` of its class.
        Vectors stored later are compared one by one, so it pays to prepare again.

        threads: 0 for all processors. progress: as for add(). Raises MemoryError: the index is as
        it was; RuntimeError: closed.
        """
        self._core.prepare(workers(threads, self.size, VECTORS_PER_ITEM), _callback(progress))

    def _filter(self, filter: Any) -> Any:
        """A function of a key, of a function or a collection of keys."""
        if filter is not None and not callable(filter):
            return self._accepted(filter).__contains__
        return filter

    def _search_workers(self, threads: int, queries: int, filter: Any) -> int:
        # a filter runs under the interpreter's lock, where more threads only wait for each other
        items = max(queries, self.size // VECTORS_PER_ITEM)
        return 1 if filter is not None else workers(threads, items, SEARCH_ITEMS_PER_WORKER)

    def _accepted(self, keys: Iterable[Any]) -> Any:
        """A set of the keys as the filter is asked for them."""
        array = self._key_array(keys if isinstance(keys, np.ndarray) else list(keys))
        return set(array.tolist())
