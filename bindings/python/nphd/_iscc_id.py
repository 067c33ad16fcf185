"""ISCC-IDs as keys: 64 bits, whose realm is in the text alone."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from . import _core

MAIN_TYPE, VERSION, BYTES = 6, 1, 8

#: The realm of IDs that nothing is said of; 0 is for tests.
REALM = 1


def iscc_id_key(text: str, realm: int = REALM) -> int:
    """The key that an ISCC-ID such as "ISCC:MAIGHFZ..." stands for: its 64 bits.

    Where a key is asked for the text itself will do, if it is of realm 1. realm: of which realm it
    must be, for keys do not say it.
    Raises ValueError: no ISCC-ID of version 1 and 64 bits, or one of another realm.
    """
    if text[:5].upper() != "ISCC:":
        raise ValueError(f"a key is an integer, or an ISCC-ID with its prefix 'ISCC:', not {text!r}")
    main_type, sub_type, version, body, _, _ = _core.iscc_decode(text)
    if main_type != MAIN_TYPE:
        raise ValueError(f"{text} is an ISCC, but no ISCC-ID")
    if version != VERSION or len(body) != BYTES:
        raise ValueError(
            f"{text} is an ISCC-ID of version {version} and {8 * len(body)} bits, not 1 and 64"
        )
    if sub_type != realm:
        raise ValueError(f"{text} is an ISCC-ID of realm {sub_type}, not {realm}")
    return int.from_bytes(body, "big")


def iscc_id(keys: Any, realm: int = REALM) -> Any:
    """The ISCC-ID of a key; of several keys, such as `matches.keys`, a list of them.

    realm: 0 to 255. Raises ValueError: out of range; TypeError: no integers.
    """
    if np.ndim(keys) > 0:
        return [iscc_id(key, realm) for key in keys]
    number = operator.index(keys.item() if isinstance(keys, np.ndarray) else keys)
    if not 0 <= number < 1 << 64 or not 0 <= realm < 256:
        raise ValueError(f"key {number}, realm {realm}: a key has 64 bits, a realm 8")
    return _core.iscc_encode(MAIN_TYPE, realm, VERSION, number.to_bytes(BYTES, "big"))
