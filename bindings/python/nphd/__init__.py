"""Nearest-neighbour search over binary vectors of mixed length, in files that survive crashes.

    >>> import numpy as np
    >>> from nphd import NphdIndex
    >>> index = NphdIndex(max_dim=256)
    >>> index.add(1, np.array([0x0f, 0xf0, 0x33, 0xcc], dtype=np.uint8))
    array([1], dtype=uint64)
    >>> index.search(np.array([0x0f, 0xf0], dtype=np.uint8)).to_list()
    [(1, 0.0)]

The names are those of the package iscc-usearch: ``import nphd as iscc_usearch``.
"""

from . import _core
from ._bloom import ScalableBloomFilter
from ._errors import (
    BusyError,
    CancelledError,
    ChangedError,
    ClosedError,
    CorruptError,
    DurabilityUnknownError,
    ForkedError,
    FullError,
    InvalidArgumentError,
    KeyExistsError,
    MismatchError,
    NoSpaceError,
    NotFoundError,
    NphdError,
    OutOfMemoryError,
    ReadOnlyError,
    RotationTimeoutError,
    StoppedError,
    StorageError,
    UnsupportedError,
)
from ._files import (
    IsccUnit,
    SalvageReport,
    VerifyReport,
    decode_iscc,
    decompose,
    distance,
    hamming,
    salvage,
    verify,
)
from ._index import Index, NphdIndex
from ._iscc_id import iscc_id, iscc_id_key
from ._join import JOIN_MAX_BYTES, Pairs, PairsIterator, join, join_iter
from ._kinds import MetricKind, ScalarKind
from ._log import timer
from ._matches import BatchMatches, Match, Matches
from ._sharded import (
    ShardedIndex,
    ShardedIndex128,
    ShardedNphdIndex,
    ShardedNphdIndex128,
)

__version__: str = _core.version

__all__ = [
    "BatchMatches",
    "BusyError",
    "CancelledError",
    "ChangedError",
    "ClosedError",
    "CorruptError",
    "DurabilityUnknownError",
    "ForkedError",
    "FullError",
    "Index",
    "InvalidArgumentError",
    "IsccUnit",
    "JOIN_MAX_BYTES",
    "KeyExistsError",
    "Match",
    "Matches",
    "MetricKind",
    "MismatchError",
    "NoSpaceError",
    "NotFoundError",
    "NphdError",
    "NphdIndex",
    "OutOfMemoryError",
    "Pairs",
    "PairsIterator",
    "ReadOnlyError",
    "RotationTimeoutError",
    "SalvageReport",
    "ScalableBloomFilter",
    "ScalarKind",
    "ShardedIndex",
    "ShardedIndex128",
    "ShardedNphdIndex",
    "ShardedNphdIndex128",
    "StoppedError",
    "StorageError",
    "UnsupportedError",
    "VerifyReport",
    "decode_iscc",
    "decompose",
    "distance",
    "hamming",
    "iscc_id",
    "iscc_id_key",
    "join",
    "join_iter",
    "salvage",
    "timer",
    "verify",
]
