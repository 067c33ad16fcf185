"""Sharded indexes: a directory of index files that answers as one and grows past memory."""

from __future__ import annotations

from typing import Any

from ._arguments import KeyForm, Keys64, Keys128
from ._errors import NphdError
from ._kinds import HAMMING, NPHD, MetricKind, check_bits, metric_kind
from ._sharded_store import ShardedStore
from ._store import Progress

DEFAULT_SHARD_SIZE = 1024 * 1024 * 1024


class ShardedIndex(ShardedStore):
    """A sharded index of vectors that all have ndim bits, compared by the bits that differ.

    path: the directory, created if need be. ndim: bits of a vector; None: as the shards say.
    metric: Hamming; None: as the shards say. dtype: bits. shard_size: bytes of a full shard.
    bloom_filter: keep one. read_only: change nothing, for any number of processes beside none that
    writes. background_rotation: full shards are written by a thread. max_pending_rotations: full
    shards in memory that wait for it. salvage: open what can be read of a damaged directory.
    journal: commit() appends to a journal, which the reference does not know. commit_each_call:
    with a journal, every change commits before it returns. commit_interval_ms: with a journal,
    changes are committed every so often; 0: never. tables: full shards are written with hash
    tables, see prepare(); half as large again they find what is within a small radius many times
    faster. reference_wrote_last: where the files do not agree whether the reference (iscc-usearch)
    saved last, it did. progress: called with (done, total) now and then while it is opened; False
    ends that with CancelledError, and leaves the directory as it was, as Ctrl-C does. The rest as
    for NphdIndex.

    Raises ValueError: an argument out of range, or against what the shards say; RuntimeError:
    damaged, or open for writing elsewhere; NotImplementedError: another metric or scalar; OSError.
    """

    _metric = HAMMING
    _keys: KeyForm = Keys64
    _fixed = True

    def __init__(
        self,
        path: Any = None,
        ndim: int | None = None,
        metric: Any = None,
        dtype: Any = None,
        connectivity: int | None = None,
        expansion_add: int | None = None,
        expansion_search: int | None = None,
        multi: bool = False,
        shard_size: int = DEFAULT_SHARD_SIZE,
        bloom_filter: bool = True,
        read_only: bool = False,
        background_rotation: bool = False,
        max_pending_rotations: int = 2,
        *,
        salvage: bool = False,
        journal: bool = False,
        commit_each_call: bool = False,
        commit_interval_ms: int = 0,
        tables: bool = False,
        reference_wrote_last: bool = False,
        progress: Progress | None = None,
        key_kind: Any = None,
    ) -> None:
        if metric is not None and metric_kind(metric) is not MetricKind.Hamming:
            raise NotImplementedError(f"the metric of this class is Hamming, not {metric}")
        check_bits(dtype)
        if metric is None and ndim is not None and self._metadata_or_none(path) is None:
            raise NotImplementedError(
                "a new index without a metric would use the cosine of floats, which is not "
                "implemented; say metric=MetricKind.Hamming"
            )
        self._open(
            path, "ndim", ndim, connectivity, expansion_add, expansion_search, multi, shard_size,
            bloom_filter, read_only, background_rotation, max_pending_rotations, salvage,
            journal, commit_each_call, commit_interval_ms, tables, reference_wrote_last, progress,
        )  # fmt: skip

    @classmethod
    def _metadata_or_none(cls, path: Any) -> dict[str, Any] | None:
        """As metadata(), but also None where the first shard is damaged: opening tells of that."""
        try:
            return None if path is None else cls.metadata(path)
        except NphdError:
            return {}


class ShardedIndex128(ShardedIndex):
    """As ShardedIndex, with keys of 16 bytes. key_kind is accepted and does nothing."""

    _keys = Keys128


class ShardedNphdIndex(ShardedStore):
    """A sharded index of vectors of 1 to max_dim / 8 bytes, compared over the prefix two share.

    max_dim: widest vector in bits, 8 to 2040 in steps of 8; None: as the shards say. ndim, metric
    and dtype are accepted and do nothing. The rest as for ShardedIndex.
    """

    _metric = NPHD
    _keys: KeyForm = Keys64

    def __init__(
        self,
        path: Any = None,
        max_dim: int | None = None,
        connectivity: int | None = None,
        expansion_add: int | None = None,
        expansion_search: int | None = None,
        multi: bool = False,
        shard_size: int = DEFAULT_SHARD_SIZE,
        bloom_filter: bool = True,
        read_only: bool = False,
        background_rotation: bool = False,
        max_pending_rotations: int = 2,
        *,
        salvage: bool = False,
        journal: bool = False,
        commit_each_call: bool = False,
        commit_interval_ms: int = 0,
        tables: bool = False,
        reference_wrote_last: bool = False,
        progress: Progress | None = None,
        ndim: Any = None,
        metric: Any = None,
        dtype: Any = None,
        key_kind: Any = None,
    ) -> None:
        self._open(
            path, "max_dim", max_dim, connectivity, expansion_add, expansion_search, multi,
            shard_size, bloom_filter, read_only, background_rotation, max_pending_rotations,
            salvage, journal, commit_each_call, commit_interval_ms, tables, reference_wrote_last,
            progress,
        )  # fmt: skip


class ShardedNphdIndex128(ShardedNphdIndex):
    """As ShardedNphdIndex, with keys of 16 bytes. key_kind is accepted and does nothing."""

    _keys = Keys128
