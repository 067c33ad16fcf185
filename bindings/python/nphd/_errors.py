"""Exceptions: one class for each status of the library, each also a built-in one.

Code written for the reference catches the built-in classes; code that wants to know more catches
these.
"""

from __future__ import annotations

from . import _core, _log


class NphdError(Exception):
    """Any failure that the library reports. `status` is its name there, such as "CORRUPT"."""

    status: str = ""


class InvalidArgumentError(NphdError, ValueError):
    """An argument is outside its documented range."""


class MismatchError(NphdError, ValueError):
    """A file contradicts what the caller asked for, or the other files of its directory."""


class KeyExistsError(NphdError, ValueError):
    """The new key of a rename is present already."""


class CorruptError(NphdError, RuntimeError):
    """A checksum or bound of a file does not hold; the text names file, place and check."""


class ReadOnlyError(NphdError, RuntimeError):
    """A change of a view, or of an index opened read-only."""


class ClosedError(NphdError, RuntimeError):
    """A call on a sharded index that was closed."""


class BusyError(NphdError, RuntimeError):
    """Another handle or process has the directory open for writing."""


class CancelledError(NphdError, RuntimeError):
    """The progress function returned False."""


class FullError(NphdError, RuntimeError):
    """The index cannot hold more."""


class UnsupportedError(NphdError, NotImplementedError):
    """A metric, scalar or operation that is not implemented, by name."""


class OutOfMemoryError(NphdError, MemoryError):
    """Memory could not be allocated; the index is as it was."""


class StorageError(NphdError, OSError):
    """The operating system reported an error on a file; `errno` has its number."""


class NoSpaceError(StorageError):
    """The disk, a quota or a file size limit is full."""


class StoppedError(StorageError):
    """An earlier flush failed; open the index again."""


class DurabilityUnknownError(StorageError):
    """A file was replaced but the flush of its directory failed."""


class NotFoundError(NphdError, FileNotFoundError):
    """There is no such file."""


class RotationTimeoutError(NphdError, TimeoutError):
    """The time ran out before all rotations were written."""


class ChangedError(NphdError, RuntimeError):
    """Another file is in the place of the one that this index was loaded from or saved to."""


class ForkedError(NphdError, RuntimeError):
    """A call that is not possible in a child process, on an index that its parent opened."""


# by number in nphd/status.h, where numbers are final
_CLASSES: dict[int, tuple[str, type[NphdError]]] = {
    1: ("INVALID_ARGUMENT", InvalidArgumentError),
    2: ("CORRUPT", CorruptError),
    3: ("STOPPED", StoppedError),
    4: ("OUT_OF_MEMORY", OutOfMemoryError),
    5: ("IO", StorageError),
    6: ("NOT_FOUND", NotFoundError),
    7: ("READ_ONLY", ReadOnlyError),
    8: ("UNSUPPORTED", UnsupportedError),
    9: ("MISMATCH", MismatchError),
    10: ("EXISTS", KeyExistsError),
    11: ("CANCELLED", CancelledError),
    12: ("DURABILITY_UNKNOWN", DurabilityUnknownError),
    13: ("NO_SPACE", NoSpaceError),
    14: ("FULL", FullError),
    15: ("TOO_SMALL", InvalidArgumentError),
    16: ("CLOSED", ClosedError),
    17: ("BUSY", BusyError),
    18: ("TIMEOUT", RotationTimeoutError),
    19: ("CHANGED", ChangedError),
    20: ("FORKED", ForkedError),
}


def make_error(status: int, os_error: int, text: str) -> NphdError:
    """The exception for a status of the library."""
    name, kind = _CLASSES.get(status, (f"status {status}", NphdError))
    details: tuple[object, ...] = (text,)
    if issubclass(kind, OSError) and os_error != 0:
        details = (os_error, text)
    error = kind(*details)
    error.status = name
    return error


_core.set_hooks(make_error, _log.receive)
