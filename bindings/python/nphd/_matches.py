"""Answers to searches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Union

import numpy as np
import numpy.typing as npt

from ._arguments import key_to_python

Key = Union[int, bytes]

# By nphd_search_plan. "none": there was nothing to search.
PLANS = ("none", "scan", "tables", "graph", "mixed")


@dataclass
class Match:
    """One stored vector: its key and its distance from the query."""

    key: Key
    distance: float

    def to_tuple(self) -> tuple[Key, float]:
        return self.key, self.distance


@dataclass
class Matches:
    """The answer to one query, nearest first, ties by ascending key.

    keys: n keys, uint64 or of 16 bytes. distances: n of float32; NPHD: fractions in [0, 1],
    Hamming: differing bits. visited_members: graph nodes expanded, 0 for an exact scan.
    computed_distances: vectors compared. exact: no better or further match exists.

    more: with a radius, further vectors within it were left out. variants: n of uint32, which
    variant of the query is nearest. plan: how it was searched: "scan", "tables", "graph", "mixed"
    (the shards differ) or "none" (nothing to search). predicted: its cost, in microseconds
    of one thread. measured: the microseconds it took, however many threads worked on it; of queries
    answered together, a share.
    """

    keys: npt.NDArray[np.generic]
    distances: npt.NDArray[np.float32]
    visited_members: int = 0
    computed_distances: int = 0
    exact: bool = False
    more: bool = False
    variants: npt.NDArray[np.uint32] | None = None
    plan: str = "none"
    predicted: float = 0.0
    measured: float = 0.0

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, place: int) -> Match:
        if not isinstance(place, (int, np.integer)):
            raise IndexError(f"a match is found by an integer, not by {place!r}")
        return Match(key_to_python(self.keys[place]), float(self.distances[place]))

    def __iter__(self) -> Iterator[Match]:
        return (self[i] for i in range(len(self)))

    def to_list(self) -> list[tuple[Key, float]]:
        """Pairs of key and distance."""
        return [match.to_tuple() for match in self]

    def __repr__(self) -> str:
        return f"nphd.Matches({len(self)}{', exact' if self.exact else ''})"


@dataclass
class BatchMatches:
    """The answers to several queries.

    keys, distances: shape (queries, count); beyond counts[i] row i has key 0 and a distance that is
    no number, or infinite (sharded indexes). counts: matches of each query. exact: a truth value
    for each query. visited_members, computed_distances: totals of all queries.

    more, predicted, measured: for each query, as in Matches; plans: numbers of 8 bits, whose names
    are in the answers to single queries. variants: of the shape of keys.
    """

    keys: npt.NDArray[np.generic]
    distances: npt.NDArray[np.float32]
    counts: npt.NDArray[np.uint64]
    visited_members: int = 0
    computed_distances: int = 0
    exact: npt.NDArray[np.bool_] | None = None
    more: npt.NDArray[np.bool_] | None = None
    variants: npt.NDArray[np.uint32] | None = None
    plans: npt.NDArray[np.uint8] | None = None
    predicted: npt.NDArray[np.float32] | None = None
    measured: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, place: int) -> Matches:
        """The answer to one query, with an even share of the totals."""
        if not isinstance(place, (int, np.integer)):
            raise IndexError(f"an answer is found by an integer, not by {place!r}")
        count = int(self.counts[place])
        return Matches(
            keys=self.keys[place, :count],
            distances=self.distances[place, :count],
            visited_members=self.visited_members // len(self),
            computed_distances=self.computed_distances // len(self),
            exact=self.exact is not None and bool(self.exact[place]),
            more=self.more is not None and bool(self.more[place]),
            variants=None if self.variants is None else self.variants[place, :count],
            plan=PLANS[0 if self.plans is None else int(self.plans[place])],
            predicted=0.0 if self.predicted is None else float(self.predicted[place]),
            measured=0.0 if self.measured is None else float(self.measured[place]),
        )

    def __iter__(self) -> Iterator[Matches]:
        return (self[i] for i in range(len(self)))

    def to_list(self) -> list[list[tuple[Key, float]]]:
        """A list of pairs for each query."""
        return [matches.to_list() for matches in self]

    def __repr__(self) -> str:
        return f"nphd.BatchMatches({len(self)} queries, {int(self.counts.sum())} matches)"
