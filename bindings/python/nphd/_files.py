"""Files looked at without an index, and distances between given vectors."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import _core
from ._arguments import vectors_read
from ._kinds import MetricKind, ScalarKind, scalar_kind


def metadata_record(found: dict[str, Any]) -> dict[str, Any]:
    """The names of the reference for what a header says, and ours for the rest."""
    try:
        kind = MetricKind(found["metric_code"])
    except ValueError:
        kind = MetricKind.Unknown
    return {
        "matrix_included": found["vectors_included"],
        "matrix_uses_64_bit_dimensions": found["dimensions_64_bit"],
        "version": ".".join(map(str, found["version"])),
        "kind_metric": kind,
        "kind_scalar": scalar_kind(found["scalar_code"]),
        "kind_key": ScalarKind.UUID if found["key_bits"] == 128 else ScalarKind.U64,
        "kind_compressed_slot": ScalarKind.U40 if found["key_bits"] == 128 else ScalarKind.U32,
        "count_present": found["present"],
        "count_deleted": found["deleted"],
        "dimensions": found["dimensions"],
        "max_dim": found["max_bits"],
        "key_bits": found["key_bits"],
        "connectivity": found["connectivity"],
        "multi": found["multi"],
        "generation": found["generation"],
        "identity": found["identity"],
        "checksums": found["trailer"],
        "tables": found["tables"],
        "file_bytes": found["file_bytes"],
    }


@dataclass(frozen=True)
class VerifyReport:
    """What verify() found. ok: no damage. damage: a line for each place. counts: what was read.

    A whole directory may have lines in `damage` too: a journal that was put aside, or a last commit
    that was interrupted or cut off, which nobody can tell from each other.
    """

    ok: bool
    damage: list[str] = field(default_factory=list)
    counts: dict[str, Any] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self.ok


def verify(
    path: str | os.PathLike[str], *, progress: Callable[[int, int], Any] | None = None
) -> VerifyReport:
    """Read a whole index file, or a whole directory of a sharded index, and check all of it.

    Finds any single changed byte of a file with checksums; of files of the reference, which have
    none, the structure is checked. Changes nothing.
    progress: called with (done, total) now and then; False ends the call.
    Raises FileNotFoundError, OSError; NotImplementedError: another metric or scalar;
    CancelledError by progress.
    """
    if os.path.isdir(path):
        whole, damage, counts = _core.directory_verify(path, progress)
    else:
        whole, damage, counts = _core.file_verify(path, progress)
    return VerifyReport(whole, damage, counts)


@dataclass(frozen=True)
class SalvageReport:
    """What salvage() found: vectors in the new directory, entries that could not be read, files
    damaged or missing, and a line for each thing that is missing."""

    vectors: int
    unreadable: int
    files: int
    damage: list[str] = field(default_factory=list)


def salvage(
    path: str | os.PathLike[str],
    new_path: str | os.PathLike[str],
    *,
    progress: Callable[[int, int], Any] | None = None,
) -> SalvageReport:
    """Build a clean directory from what can be read of a damaged one, which stays as it is.

    Every vector whose bytes are undamaged is there; deletions hold as far as they can be read.
    new_path: does not exist yet, or is empty. progress: called with (done, total) now and then;
    False ends the call. Raises ValueError: there is something in it; FileNotFoundError: nothing can
    be read at all; OSError; CancelledError by progress. After an error, or Ctrl-C, the new
    directory is empty.
    """
    damage, vectors, unreadable, files = _core.directory_salvage(path, new_path, progress)
    return SalvageReport(vectors, unreadable, files, damage)


def _distances(a: Any, b: Any, hamming_bits: bool) -> Any:
    first, count, single = vectors_read(a)
    second, others, _ = vectors_read(b)
    if count != others:
        raise ValueError(f"the numbers of vectors ({count} and {others}) must match")
    out = np.zeros(count, dtype=np.float32)
    _core.distances(first, second, hamming_bits, out)
    return out[0].item() if single else out


def distance(a: Any, b: Any) -> Any:
    """The share of differing bits among those that two vectors share: a float in [0, 1].

    a, b: vectors of 1 to 255 bytes, or as many of each: then an array of float32.
    """
    return _distances(a, b, False)


def hamming(a: Any, b: Any) -> Any:
    """The number of differing bits of two vectors of one length; or an array, as distance()."""
    return _distances(a, b, True)


@dataclass(frozen=True)
class IsccUnit:
    """A decoded ISCC unit.

    bits: its body, 4 to 32 bytes, an array of uint8. text: the unit as "ISCC:...". unit: the name
    of its type, such as "content-text".
    """

    main_type: int
    sub_type: int
    version: int
    bits: Any
    text: str = ""
    unit: str = ""


def _iscc_unit(facts: tuple[int, int, int, bytes, str, str]) -> IsccUnit:
    main_type, sub_type, version, body, text, unit = facts
    bits = np.frombuffer(body, dtype=np.uint8)
    return IsccUnit(main_type, sub_type, version, bits, text, unit)


def decode_iscc(text: str) -> IsccUnit:
    """Decode an ISCC unit such as "ISCC:EADZYKUESSJWNPV2...".

    Raises ValueError: no such code. NotImplementedError: a composite ISCC-CODE, which decompose()
    takes apart.
    """
    return _iscc_unit(_core.iscc_decode(text))


def decompose(text: str) -> list[IsccUnit]:
    """Take an ISCC-CODE such as "ISCC:KACYPXW4..." apart into its units, in the order of their
    main types; a single unit into itself.

    Raises ValueError: no such code. NotImplementedError: a kind of ISCC-CODE that is not known.
    """
    return [_iscc_unit(facts) for facts in _core.iscc_decompose(text)]
