"""ISCC units as vectors: their bits, and their type against that of an index."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _core
from ._arguments import refuse_masked
from ._errors import MismatchError
from ._files import IsccUnit, decode_iscc


NUMBER_BYTES = 8


def _decoded(code: Any) -> IsccUnit:
    unit = code if isinstance(code, IsccUnit) else decode_iscc(code)
    if unit.main_type > 4:
        raise ValueError(f"{unit.text} is a key, not a vector")
    return unit


def _are_numbers(vectors: Any) -> bool:
    return (
        isinstance(vectors, (np.ndarray, np.uint64))
        and vectors.dtype.kind == "u"
        and vectors.dtype.itemsize == 8
        and vectors.ndim <= 1
    )


def codes_read(vectors: Any, store: _core.Store, adding: bool) -> Any:
    """Vectors with ISCC units, as text or decoded, replaced by their bits; others as they are.

    In an index of vectors of 64 bits, which leaves no doubt of what they are, numbers of uint64 are
    such: their bytes, the highest first.

    The type of the units is noted in the store, or compared with its type when `adding` is False.
    """
    if _are_numbers(vectors) and store.max_bytes() == NUMBER_BYTES:
        refuse_masked(vectors, "vectors")
        octets = np.asarray(vectors).astype(">u8").reshape(-1).view(np.uint8)
        return octets.reshape(vectors.shape + (NUMBER_BYTES,))
    single = isinstance(vectors, (str, IsccUnit))
    several = isinstance(vectors, (list, tuple)) and vectors and isinstance(
        vectors[0], (str, IsccUnit)
    )
    if not single and not several:
        return vectors
    units = [_decoded(code) for code in ([vectors] if single else vectors)]
    known = store.unit()
    if known != "mixed":
        known = known or units[0].unit
        other = next((unit for unit in units if unit.unit != known), None)
        if other is not None:
            raise MismatchError(
                f"the codes here are of the type {known}, and {other.text} is {other.unit}; "
                "set_unit('mixed') mixes them"
            )
        if adding:
            store.set_unit(known, False)
    return units[0].bits if single else [unit.bits for unit in units]
