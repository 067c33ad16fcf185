"""The codes of metrics and scalars in files, by name."""

from __future__ import annotations

import enum


class MetricKind(enum.Enum):
    """How two vectors are compared. NPHD and Hamming are implemented."""

    Unknown = 0
    NPHD = ord("n")
    Hamming = ord("b")
    Cos = ord("c")
    IP = ord("i")
    L2sq = ord("e")
    Tanimoto = ord("t")
    Sorensen = ord("s")
    Jaccard = ord("j")
    Pearson = ord("p")
    Haversine = ord("h")
    Divergence = ord("d")


class ScalarKind(enum.Enum):
    """What a vector is made of. B1, bits packed into bytes, is implemented."""

    Unknown = 0
    B1 = 1
    U40 = 2
    UUID = 3
    BF16 = 4
    F64 = 10
    F32 = 11
    F16 = 12
    F8 = 13
    U64 = 14
    U32 = 15
    U16 = 16
    U8 = 17
    I64 = 20
    I32 = 21
    I16 = 22
    I8 = 23


_METRIC_NAMES = {kind.name.lower(): kind for kind in MetricKind} | {
    "cosine": MetricKind.Cos,
    "b": MetricKind.Hamming,
    "n": MetricKind.NPHD,
}
_BIT_NAMES = {"b1", "b1x8", "bits", "bit"}

# of the C interface
DEFAULT, NPHD, HAMMING = 0, 1, 2


def metric_kind(metric: object) -> MetricKind:
    """The kind that a caller's metric stands for: a kind, a name or a code."""
    if isinstance(metric, MetricKind):
        return metric
    value = getattr(metric, "value", metric)  # also an enumeration of another package
    if isinstance(value, str) and value.lower() in _METRIC_NAMES:
        return _METRIC_NAMES[value.lower()]
    if isinstance(value, int):
        try:
            return MetricKind(value)
        except ValueError:
            pass
    raise ValueError(f"unknown metric: {metric!r}")


def check_bits(dtype: object) -> None:
    """Refuse scalars other than bits."""
    if dtype is None or dtype is ScalarKind.B1:
        return
    if isinstance(dtype, str) and dtype.lower() in _BIT_NAMES:
        return
    if getattr(dtype, "name", None) == "B1":
        return
    raise NotImplementedError(f"vectors of {dtype} are not implemented; bits are: ScalarKind.B1")


def scalar_kind(code: int) -> ScalarKind:
    try:
        return ScalarKind(code)
    except ValueError:
        return ScalarKind.Unknown
