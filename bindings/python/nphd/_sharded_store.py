"""What the four classes of sharded indexes have in common."""

from __future__ import annotations

import atexit
import math
import os
import pathlib
import weakref
from types import TracebackType
from typing import Any, ClassVar

import numpy as np

from . import _core
from ._arguments import (
    ADD_ITEMS_PER_WORKER,
    REMOVE,
    STORE,
    KeyForm,
    positive,
    vectors_read,
    width_in_bits,
    workers,
)
from ._errors import BusyError, NotFoundError, NphdError
from ._files import metadata_record
from ._log import logger
from ._store import Progress, Store, _callback, _told, warn_of_unsaved
from ._units import codes_read

_open_indexes: weakref.WeakSet[Any] = weakref.WeakSet()

# A child process has the objects of its parent, but not the threads behind them.
os.register_at_fork(after_in_child=_open_indexes.clear)


def _finish() -> None:
    """At the end of the interpreter: what was handed to a background thread is still written."""
    for index in list(_open_indexes):
        try:
            if not index.closed and not index.read_only:
                index.drain_rotations()
        except NphdError as error:
            logger.error("%s: %s", index.path, error)
    _core.close_log()


atexit.register(_finish)


class ShardedStore(Store):
    """A directory of index files that answers as one and grows past memory."""

    _metric: ClassVar[int]
    _keys: KeyForm
    _core: _core.Sharded
    _empty_distance = math.inf

    def _open(
        self,
        path: Any,
        name: str,
        bits: int | None,
        connectivity: int | None,
        expansion_add: int | None,
        expansion_search: int | None,
        multi: bool | None,
        shard_size: int,
        bloom_filter: bool,
        read_only: bool,
        background_rotation: bool,
        max_pending_rotations: int,
        salvage: bool,
        journal: bool,
        commit_each_call: bool,
        commit_interval_ms: int,
        tables: bool,
        reference_wrote_last: bool,
        progress: Progress | None,
    ) -> None:
        if path is None:
            raise TypeError("a path is needed: the directory of the index")
        if bits is None and not salvage and self.metadata(path) is None and not read_only:
            raise ValueError(f"{name} is required: there are no shards in {os.fspath(path)!r} yet")
        if shard_size < 1:
            raise ValueError(f"shard_size is {shard_size}; it must be 1 or more")
        if max_pending_rotations < 1:
            raise ValueError("max_pending_rotations must be 1 or more")
        if not 0 <= commit_interval_ms < 2**32:
            raise ValueError("commit_interval_ms must be 0 (never) or more, and below 2**32")
        width = 0 if bits is None else width_in_bits(name, bits)
        try:
            self._core = _core.Sharded(
                path,
                (
                    width, self._keys.bits, self._metric, positive("connectivity", connectivity),
                    2 if multi else 0,
                    positive("expansion_add", expansion_add),
                    positive("expansion_search", expansion_search),
                ),
                (shard_size, max_pending_rotations, commit_interval_ms),
                (
                    not bloom_filter, read_only, background_rotation, salvage, journal,
                    commit_each_call, tables, reference_wrote_last,
                ),
                _callback(progress),
            )  # fmt: skip
        except BusyError as error:
            error.args = (f"{error}; read_only=True opens it beside that one", *error.args[1:])
            raise
        except NotFoundError:
            if not read_only:
                raise
            raise ValueError("read_only=True requires existing shards") from None
        self._path = pathlib.Path(os.fsdecode(path))
        self._process = os.getpid()
        self._commits = journal or commit_each_call or commit_interval_ms > 0
        self._read_only = bool(read_only)
        stats = self._core.stats()
        self.connectivity: int = stats["connectivity"]
        self.multi: bool = stats["multi"]
        self.shard_size: int = shard_size
        _open_indexes.add(self)

    # ---- parameters and state ----

    @property
    def path(self) -> pathlib.Path:
        """The directory."""
        return self._path

    @property
    def read_only(self) -> bool:
        return self._read_only

    @property
    def closed(self) -> bool:
        return self._core.closed()

    @property
    def expansion_add(self) -> int:
        """Graph candidates kept while adding."""
        return int(self._core.stats()["build_breadth"])

    @expansion_add.setter
    def expansion_add(self, value: int) -> None:
        if self.read_only:
            raise RuntimeError("expansion_add: the index is read-only")
        self._core.set_breadth(positive("expansion_add", value), 0)

    @property
    def expansion_search(self) -> int:
        """Graph candidates kept while searching, in all shards."""
        return int(self._core.stats()["search_breadth"])

    @expansion_search.setter
    def expansion_search(self, value: int) -> None:
        self._core.set_breadth(0, positive("expansion_search", value))

    @property
    def shard_count(self) -> int:
        """Shard files on disk."""
        return int(self._core.stats()["files"])

    @property
    def tombstone_count(self) -> int:
        """Keys that were deleted while an old entry of them is still in a view shard."""
        return int(self._core.stats()["tombstones"])

    @property
    def memory_usage(self) -> int:
        """Bytes of memory and of mapped files, in all shards."""
        stats = self._core.stats()
        return int(stats["memory_bytes"]) + int(stats["mapped_bytes"])

    @property
    def serialized_length(self) -> int:
        """Bytes of the active shard's file if it were written now; 0 when read-only."""
        return 0 if self.read_only else int(self._core.stats()["active_bytes"])

    @property
    def capacity(self) -> int:
        """Vectors that the active shard has memory for; 0 when read-only."""
        return 0 if self.read_only else int(self._core.stats()["active_capacity"])

    @property
    def bloom_filter(self) -> bool:
        """Is a bloom filter in use?"""
        return bool(self._core.stats()["bloom"])

    def stats(self) -> dict[str, Any]:
        """The state: the 14 entries of the reference, and what it cannot tell.

        Ours: pending_rotations (full shards not on disk yet), shard_files, disk_bytes, dead_entries
        (deleted or replaced, still in files), mapped_bytes, active_bytes, bloom_keys, bloom_bytes,
        generation, next_automatic_key, verified (every file has checksums), unapplied_journals (such
        that were not applied, as the reference had saved since).
        """
        stats = self._core.stats()
        return {
            "total_vectors": stats["size"],
            "dimensions": self.ndim,
            "metric": str(self.metric_kind),
            "dtype": str(self.dtype),
            "connectivity": stats["connectivity"],
            "view_shards": stats["view_shards"],
            "active_shard_vectors": stats["active_vectors"],
            "shard_size": stats["shard_bytes"],
            "dirty": stats["dirty"],
            "tombstones": stats["tombstones"],
            "bloom_filter": stats["bloom"],
            "memory_usage": stats["memory_bytes"] + stats["mapped_bytes"],
            "path": str(self._path),
            "read_only": stats["read_only"],
            "pending_rotations": stats["pending_rotations"],
            "shard_files": stats["files"],
            "disk_bytes": stats["disk_bytes"],
            "dead_entries": stats["dead"],
            "mapped_bytes": stats["mapped_bytes"],
            "active_bytes": stats["active_bytes"],
            "bloom_keys": stats["bloom_keys"],
            "bloom_bytes": stats["bloom_bytes"],
            "generation": stats["generation"],
            "next_automatic_key": stats["next_automatic_key"],
            "verified": stats["verified"],
            "unapplied_journals": stats["unapplied"],
        }

    def shards(self) -> list[dict[str, Any]]:
        """Every shard, oldest first: number, vectors, dead, slots, file_bytes, generation, and
        whether it is active, pending (not on disk yet), verified (has checksums) and has hash
        tables."""
        return self._core.shards()

    @staticmethod
    def metadata(path: Any) -> dict[str, Any] | None:
        """What the header of the first shard says; None without a shard there."""
        if not os.path.isdir(path):
            return None
        try:
            return metadata_record(_core.directory_metadata(path))
        except NotFoundError:
            return None

    # ---- changes ----

    def add_once(
        self,
        keys: Any,
        vectors: Any,
        *,
        threads: int = 0,
        log: str | bool = False,
        progress: Progress | None = None,
    ) -> Any:
        """Store the vectors whose keys are absent; the first of equal keys wins.

        Arguments as for add(), but keys are needed. Also on a multi index.
        Returns the keys that were stored; None for a single key that was there. Raises as add().
        """
        self._keys.check_given(keys, STORE)
        single = self._keys.is_single(keys)
        array = self._key_array(keys, STORE)
        data, count, _ = vectors_read(codes_read(vectors, self._core, True))
        if len(array) != count:
            raise ValueError(f"the numbers of keys ({len(array)}) and vectors ({count}) must match")
        stored = np.zeros(count, dtype=np.bool_)
        with _told(log, "add_once"):
            self._core.add_once(
                array, data, workers(threads, count, ADD_ITEMS_PER_WORKER), _callback(progress),
                stored,
            )  # fmt: skip
        if single and not stored[0]:
            return None
        return array[stored]

    def remove(self, keys: Any, *, compact: bool = False, threads: int = 0) -> None:
        """Remove the vectors of keys; absent keys do nothing, repeated ones count once.

        compact: accepted; compact() is what gives room back.
        Raises ValueError on a multi index; RuntimeError: read-only, or closed.
        """
        array = self._key_array(keys, REMOVE)
        if self.multi and not self.closed and not self.read_only:
            raise ValueError("remove needs an index with multi=False")
        self._core.remove(array)

    def __delitem__(self, keys: Any) -> None:
        self.remove(keys)

    def reset(self) -> None:
        """Remove everything from this index. The files go with the next save(), or with a close()
        after something was stored; a crash or a close() before that leaves them as they are. Without
        journal=True others may open the directory until this index changes something again, which
        raises BusyError while they have it and ChangedError if they changed it.
        Raises RuntimeError: read-only, or closed."""
        self._core.reset()

    # ---- files ----

    def save(self, *, log: str | bool = False, progress: Progress | None = None) -> None:
        """Make every change durable. Waits for rotations first, and tries failed ones again.

        Raises OSError: all data is still there, and a later save tries again; RuntimeError:
        read-only, or closed.
        """
        with _told(log, "save"):
            self._core.save(_callback(progress))

    def commit(self) -> None:
        """Make the changes so far durable, at a cost that depends on them alone.

        They are appended to the journal, which the next opening applies; without journal=True this
        is a save. Threads that commit at once share one flush. Raises OSError: it is unknown which
        changes since the last commit are durable; all are still in memory, and the next commit
        saves everything. RuntimeError: read-only, or closed.
        """
        self._core.commit()

    def refresh(self, *, progress: Progress | None = None) -> bool:
        """Move a read-only index to the newest save, rotation or commit of the writer.

        progress: as for add(). Returns whether there was one; False for an index that writes.
        Raises as opening does; the index then keeps the state it had, also after Ctrl-C.
        """
        return self._core.refresh(_callback(progress))

    def snapshot(
        self, path: str | os.PathLike[str], *, progress: Progress | None = None
    ) -> None:
        """Make a copy of the directory that opens with the state of this moment.

        An index that writes saves first. Files are shared by hard links where possible. path: does
        not exist yet, or is empty; also after progress, as for add(), or Ctrl-C ended the call.
        Raises ValueError: there is something in it; and as save().
        """
        self._core.snapshot(path, _callback(progress))

    def rotate(self) -> None:
        """End the active shard now, whatever its size. With background rotation this returns
        before the shard is written."""
        self._core.rotate()

    def drain_rotations(self, timeout: float | None = None) -> None:
        """Wait until no rotation is pending, trying failed ones again, once.

        timeout: seconds; None: without limit. Raises TimeoutError, which says how many are pending;
        OSError: a shard could not be written, its data stays in memory.
        """
        self._core.drain(None if timeout is None else max(0, math.ceil(timeout * 1000)))

    def compact(self, *, log: str | bool = False, progress: Progress | None = None) -> int:
        """Rebuild shards without deleted and replaced entries, and merge small neighbours.

        Saves first; memory for about one shard. Returns how many entries were dropped. Raises as
        save().
        """
        with _told(log, "compact"):
            return self._core.compact(_callback(progress))

    def rebuild_bloom(
        self,
        save: bool = True,
        log_progress: bool = True,
        *,
        progress: Progress | None = None,
    ) -> int:
        """Make the bloom filter anew from the keys that are present, and save.

        save: the filter is always saved. progress: as for add(). Returns the keys in it.
        Raises ValueError: the index was opened with bloom_filter=False; and as save().
        """
        if not self.closed and not self.read_only and not self.bloom_filter:
            raise ValueError("rebuild_bloom: the index was opened with bloom_filter=False")
        with _told(log_progress, "rebuild_bloom"):
            return self._core.rebuild_bloom(_callback(progress))

    def close(self) -> None:
        """Finish: wait for rotations, save what is not saved. A second close does nothing.

        Raises as save(); the index then stays open with all its data, and close may be tried again.
        """
        self._core.close()

    def __del__(self) -> None:
        core = self.__dict__.get("_core")
        # commits may have made the changes durable, and those of a parent are the parent's
        if core is not None and not (
            core.closed() or self._read_only or self._commits or self._process != os.getpid()
        ):
            warn_of_unsaved(self, core.dirty(), self._path)

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
            return
        try:
            self.close()
        except NphdError as second:
            # the exception of the block is the one to be seen
            logger.error("%s: not closed: %s", self._path, second)

    # ---- what the reference refuses too ----

    def _unsupported(self, name: str) -> Any:
        raise NotImplementedError(f"{name} is not implemented for sharded indexes")

    def rename(self, *arguments: Any, **options: Any) -> Any:
        """Not implemented."""
        self._unsupported("rename")

    def join(self, *arguments: Any, **options: Any) -> Any:
        """Not implemented."""
        self._unsupported("join")

    def cluster(self, *arguments: Any, **options: Any) -> Any:
        """Not implemented."""
        self._unsupported("cluster")

    def pairwise_distance(self, *arguments: Any, **options: Any) -> Any:
        """Not implemented."""
        self._unsupported("pairwise_distance")

    def copy(self, *arguments: Any, **options: Any) -> Any:
        """Not implemented."""
        self._unsupported("copy")

    def clear(self, *arguments: Any, **options: Any) -> Any:
        """Not implemented; see reset()."""
        self._unsupported("clear")

    def __repr__(self) -> str:
        if self.closed:
            return f"nphd.{type(self).__name__}(closed, path={str(self._path)!r})"
        return (
            f"nphd.{type(self).__name__}({self.size} vectors, {self.shard_count} shards, "
            f"ndim={self.ndim}, path={str(self._path)!r}{', read_only' if self.read_only else ''})"
        )
