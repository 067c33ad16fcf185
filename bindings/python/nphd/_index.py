"""One index, in memory or mapped from one file."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from . import _core
from ._arguments import REMOVE, Keys64, Keys128, positive, width_in_bits
from ._errors import NotFoundError
from ._files import metadata_record
from ._kinds import HAMMING, NPHD, MetricKind, ScalarKind, check_bits, metric_kind
from ._store import Progress, Store, _callback, _told, warn_of_unsaved

Source = Any  # a path, or the bytes of a file


def _from_pickle(kind: type[Any], data: bytes, options: dict[str, Any], path: str | None) -> Any:
    index = kind.restore(data, **options)
    index.path = path
    return index


class _SingleIndex(Store):
    """What NphdIndex and Index have in common."""

    _metric: ClassVar[int]
    _core: _core.Index

    def _create(
        self,
        bits: int,
        key_bits: int,
        connectivity: int | None,
        expansion_add: int | None,
        expansion_search: int | None,
        multi: bool,
        enable_key_lookups: bool,
        path: Any,
        view: bool,
    ) -> None:
        if key_bits not in (64, 128):
            raise ValueError(f"key_bits is {key_bits}; it must be 64 or 128")
        self._keys = Keys128 if key_bits == 128 else Keys64
        self._lookups = bool(enable_key_lookups)
        # absolute: the working directory may be another one at the save
        self.path: str | None = None if path is None else os.path.abspath(os.fsdecode(path))
        # what a caller asked for goes before what a file says
        self._build = positive("expansion_add", expansion_add)
        self._search = positive("expansion_search", expansion_search)
        self._core = _core.Index(
            bits, key_bits, self._metric, positive("connectivity", connectivity),
            self._build, self._search, bool(multi),
        )  # fmt: skip
        self._learn()
        if self.path is not None and os.path.exists(self.path):
            self._open(self.path, view, None)

    def _learn(self) -> None:
        """Take over the parameters that do not change until another file is opened."""
        stats = self._core.stats()
        self.connectivity: int = stats["connectivity"]
        self.multi: bool = stats["multi"]

    # ---- parameters and state ----

    @property
    def expansion_add(self) -> int:
        """Graph candidates kept while adding."""
        return int(self._core.stats()["build_breadth"])

    @expansion_add.setter
    def expansion_add(self, value: int) -> None:
        self._build = positive("expansion_add", value)
        self._core.set_breadth(self._build, 0)

    @property
    def expansion_search(self) -> int:
        """Graph candidates kept while searching."""
        return int(self._core.stats()["search_breadth"])

    @expansion_search.setter
    def expansion_search(self, value: int) -> None:
        self._search = positive("expansion_search", value)
        self._core.set_breadth(0, self._search)

    @property
    def capacity(self) -> int:
        """Vectors that memory is there for."""
        return int(self._core.stats()["capacity"])

    @property
    def memory_usage(self) -> int:
        """Bytes of memory, without the mapping of a view."""
        return int(self._core.stats()["memory_bytes"])

    @property
    def serialized_length(self) -> int:
        """Bytes of the file that a save would write now."""
        return int(self._core.stats()["serialized_bytes"])

    @property
    def max_level(self) -> int:
        """Top layer of the graph; -1 when empty."""
        return int(self._core.stats()["max_level"])

    @property
    def nlevels(self) -> int:
        return self.max_level + 1

    @property
    def stats(self) -> SimpleNamespace:
        """The state: nodes, edges, max_edges, allocated_bytes, and all that the library tells."""
        stats = self._core.stats()
        most = stats["slots"] * 2 * stats["connectivity"]
        return SimpleNamespace(
            nodes=stats["slots"], edges=self._core.edges(), max_edges=most,
            allocated_bytes=stats["memory_bytes"], **stats,
        )  # fmt: skip

    @property
    def specs(self) -> dict[str, Any]:
        """Parameters and state in a few words."""
        return {
            "Class": type(self).__name__,
            "Connectivity": self.connectivity,
            "Size": self.size,
            "Dimensions": self.ndim,
            "Expansion@Add": self.expansion_add,
            "Expansion@Search": self.expansion_search,
            "Hardware acceleration": self.hardware_acceleration,
        }

    @property
    def hardware_acceleration(self) -> str:
        """The kernels in use: "portable", "neon", "avx2" or "avx512vpopcntdq"."""
        return _core.kernel_name

    @property
    def is_view(self) -> bool:
        """Mapped and read-only?"""
        return bool(self._core.stats()["view"])

    def reserve(self, vectors: int) -> None:
        """Set memory aside for so many vectors."""
        self._core.reserve(vectors)

    # ---- changes ----

    def remove(self, keys: Any, *, compact: bool = False, threads: int = 0) -> bool | int:
        """Remove the vectors of keys; absent keys do nothing.

        compact: also drop the graph links to removed vectors.
        Returns whether the key was there, or for several keys how many vectors were removed.
        Raises RuntimeError: a view.
        """
        single = self._keys.is_single(keys)
        removed = self._core.remove(self._key_array(keys, REMOVE))
        if compact:
            self._core.isolate()
        return removed > 0 if single else removed

    def __delitem__(self, keys: Any) -> None:
        self.remove(keys)

    def rename(self, from_: Any, to: Any) -> Any:
        """Give the vectors of a key another key.

        Returns whether the key was there; for lists of keys an array of that.
        Raises ValueError: `to` is present and the index is not multi, or one key for several.
        RuntimeError: a view.
        """
        if self._keys.is_single(from_):
            if not self._keys.is_single(to):
                raise ValueError("one key cannot become several")
            return self._core.rename(self._key(from_), self._key(to))
        old = self._key_array(from_)
        one = self._keys.is_single(to)
        new = np.repeat(self._key_array(to), len(old)) if one else self._key_array(to)
        if len(old) != len(new):
            raise ValueError(f"the numbers of keys ({len(old)} and {len(new)}) must match")
        found = [
            self._core.rename(old[i : i + 1], new[i : i + 1]) for i in range(len(old))
        ]
        return np.array(found, dtype=np.bool_)

    def clear(self) -> None:
        """Remove everything, keep the memory."""
        self._core.clear()

    def reset(self) -> None:
        """Remove everything, give memory and mapping back; the index stays usable."""
        self._core.reset()

    def copy(self) -> Any:
        """An independent index with the same parameters and content, in memory and writable."""
        other = type(self).__new__(type(self))
        other._core = self._core.copy()
        other._keys = self._keys
        other._lookups = self._lookups
        other._build, other._search = self._build, self._search
        other.path = None
        other._learn()
        return other

    def __reduce__(self) -> Any:
        """Pickled as the bytes of a file; what comes back is in memory and writable."""
        options = {
            "key_bits": self._keys.bits,
            "enable_key_lookups": self._lookups,
            "expansion_add": self._build or None,
            "expansion_search": self._search or None,
        }
        return _from_pickle, (type(self), bytes(self._core.save_buffer()), options, self.path)

    def __del__(self) -> None:
        core = self.__dict__.get("_core")
        if core is not None and self.__dict__.get("path") is not None:
            warn_of_unsaved(self, core.dirty(), self.path)

    # ---- files ----

    def save(
        self,
        path_or_buffer: Any = None,
        *,
        log: str | bool = False,
        progress: Progress | None = None,
        overwrite: bool = False,
    ) -> bytes | None:
        """Write the whole index to a file, durably: at a crash the old file is still whole.

        path_or_buffer: the file; None: the path of the constructor, or without one, memory.
        overwrite: also over a file that somebody else put in the place of the one that this index
        was loaded from or saved to; otherwise that raises ChangedError, and nothing is written.
        Returns None, or the bytes of the file; `dirty` is 0 after writing a file.
        Raises OSError: nothing changed on disk, and the index is as dirty as before.
        """
        path = self.path if path_or_buffer is None else path_or_buffer
        with _told(log, "save"):
            if path is None:
                return self._core.save_buffer()
            self._core.save(path, _callback(progress), overwrite)
        return None

    def _open(
        self,
        source: Source,
        view: bool,
        progress: Progress | None,
        verify: bool = False,
        legacy_nphd: bool = False,
    ) -> None:
        if source is None:
            source = self.path
        if source is None:
            raise ValueError("a path, or the bytes of a file, are needed")
        self._core.open(
            source, bool(view),
            (self._metric, 0, self._build, self._search, bool(verify), bool(legacy_nphd)),
            _callback(progress),
        )  # fmt: skip
        self._learn()

    def load(
        self,
        path_or_buffer: Source = None,
        *,
        log: str | bool = False,
        progress: Progress | None = None,
        legacy_nphd: bool = False,
    ) -> None:
        """Replace the content by that of a file, in memory and writable.

        path_or_buffer: a path, the bytes of a file, or None for the path of the constructor.
        Width, connectivity and multi become the file's. Breadths stay if they were asked for.
        legacy_nphd: the file was written as NPHD before version 0.5.0 of the reference.
        Raises FileNotFoundError, OSError; RuntimeError: damaged; ValueError: another metric or key
        width. On an error the index keeps its content.
        """
        with _told(log, "load"):
            self._open(path_or_buffer, False, progress, legacy_nphd=legacy_nphd)

    def view(
        self,
        path_or_buffer: Source = None,
        *,
        log: str | bool = False,
        progress: Progress | None = None,
        verify: bool = False,
        legacy_nphd: bool = False,
    ) -> None:
        """Replace the content by a read-only mapping of a file, or of bytes, which are kept.

        verify: check every block first. Otherwise as load(); changes raise RuntimeError until
        reset() or load(). Bytes must stay as they are while they are viewed.
        """
        with _told(log, "view"):
            self._open(path_or_buffer, True, progress, verify, legacy_nphd)

    @classmethod
    def restore(
        cls,
        path_or_buffer: Source,
        view: bool = False,
        *,
        progress: Progress | None = None,
        **options: Any,
    ) -> Any:
        """A new index from a file, or from its bytes; None when there is no such file.

        view: mapped and read-only. progress: as for load(). options: of the constructor. Raises as
        load().
        """
        record = cls.metadata(path_or_buffer)
        if record is None:
            return None
        options.setdefault("key_bits", record["key_bits"])
        index = cls(**options)
        index._open(path_or_buffer, view, progress)
        return index

    @staticmethod
    def metadata(path_or_buffer: Source) -> dict[str, Any] | None:
        """What the header of a file says; None when there is no such file.

        Raises RuntimeError: not an index file.
        """
        try:
            return metadata_record(_core.file_metadata(path_or_buffer))
        except NotFoundError:
            return None

    # ---- between stored vectors ----

    def pairwise_distance(self, left: Any, right: Any) -> Any:
        """Distances between the stored vectors of keys in the same places.

        A float for two keys, an array of float32 for several. Raises KeyError: a key is absent.
        """
        single = self._keys.is_single(left) and self._keys.is_single(right)
        sides = []
        for keys in (left, right):
            vectors = self.get(self._key_array(keys))
            if any(vector is None for vector in vectors):
                raise KeyError("a key is not in the index")
            sides.append([v[0] if self.multi else v for v in vectors])
        out = np.zeros(len(sides[0]), dtype=np.float32)
        _core.distances(sides[0], sides[1], self._fixed, out)
        return float(out[0]) if single else out

    def join(self, *arguments: Any, **options: Any) -> Any:
        """Not implemented."""
        raise NotImplementedError("join is not implemented")

    def cluster(self, *arguments: Any, **options: Any) -> Any:
        """Not implemented."""
        raise NotImplementedError("cluster is not implemented")

    def __repr__(self) -> str:
        return (
            f"nphd.{type(self).__name__}({self.size} vectors, ndim={self.ndim}"
            f"{', view' if self.is_view else ''})"
        )


class NphdIndex(_SingleIndex):
    """An index of vectors of 1 to max_dim / 8 bytes, compared over the prefix that two share.

    max_dim: widest vector in bits, 8 to 2040 in steps of 8. connectivity: graph links per node and
    layer. expansion_add, expansion_search: graph candidates while adding and searching. multi:
    several vectors may share a key. enable_key_lookups: False makes lookups by key find nothing.
    path: a file, opened now if it exists (mapped with `view`), and where save() writes to.
    key_bits: 64 (integers), or 128 (strings of 16 bytes).

    Any number of threads may use an index at once; calls run without the interpreter's lock.
    """

    _metric = NPHD

    def __init__(
        self,
        max_dim: int = 256,
        connectivity: int | None = None,
        expansion_add: int | None = None,
        expansion_search: int | None = None,
        multi: bool = False,
        enable_key_lookups: bool = True,
        path: Any = None,
        view: bool = False,
        *,
        key_bits: int = 64,
        **refused: Any,
    ) -> None:
        for name in refused:
            if name in ("ndim", "metric", "dtype"):
                raise TypeError(f"{name} is not an argument of NphdIndex; it follows from max_dim")
            raise TypeError(f"NphdIndex() got an unexpected keyword argument {name!r}")
        self._create(
            width_in_bits("max_dim", max_dim), key_bits, connectivity, expansion_add,
            expansion_search, multi, enable_key_lookups, path, view,
        )  # fmt: skip


class Index(_SingleIndex):
    """An index of vectors that all have ndim bits, compared by the number of bits that differ.

    ndim: bits of a vector, 8 to 2040 in steps of 8. metric: Hamming. dtype: bits. The rest as for
    NphdIndex.
    """

    _metric = HAMMING
    _fixed = True

    def __init__(
        self,
        ndim: int = 256,
        metric: Any = MetricKind.Hamming,
        dtype: Any = ScalarKind.B1,
        connectivity: int | None = None,
        expansion_add: int | None = None,
        expansion_search: int | None = None,
        multi: bool = False,
        enable_key_lookups: bool = True,
        path: Any = None,
        view: bool = False,
        *,
        key_bits: int = 64,
    ) -> None:
        if metric_kind(metric) is not MetricKind.Hamming:
            raise NotImplementedError(f"the metric of an Index is Hamming, not {metric}")
        check_bits(dtype)
        self._create(
            width_in_bits("ndim", ndim), key_bits, connectivity, expansion_add, expansion_search,
            multi, enable_key_lookups, path, view,
        )  # fmt: skip


