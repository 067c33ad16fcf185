"""Asking the C side for the nearest, and making Matches of its answer."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ._arguments import check_budget, check_variants, plan_number
from ._matches import PLANS, BatchMatches, Matches

AUTO, EXACT, APPROXIMATE = 0, 1, 2  # nphd_search_mode
GRAPH = PLANS.index("graph")


class Question(NamedTuple):
    """The options of one call, checked."""

    mode: int
    plan: int
    breadth: int
    threads: int
    variants: int
    any: bool
    budget: float  # microseconds; 0: the default
    radius: float | None


def question(
    mode: int,
    plan: str | None,
    budget: float | None,
    breadth: int,
    threads: int,
    variants: int = 1,
    any: bool = False,
    radius: float | None = None,
) -> Question:
    """Refuses what contradicts itself; the library would let one of two options win."""
    number = plan_number(plan)
    if number and mode != AUTO and (number == GRAPH) != (mode == APPROXIMATE):
        raise ValueError(
            f"plan={plan!r} and {'exact' if mode == EXACT else 'approximate'}=True exclude "
            "each other"
        )
    if budget is not None and (number or mode != AUTO):
        raise ValueError("a budget is for searches without exact, approximate and plan")
    return Question(
        mode, number, breadth, threads, check_variants(variants), bool(any),
        check_budget(budget), radius,
    )  # fmt: skip


def answer(
    store: Any, data: Any, queries: int, row: int, capacity: int, ask: Question, watch: Any
) -> Matches | BatchMatches:
    """The answer to `queries` queries, in arrays with `row` places for each.

    watch: (filter, progress).
    """

    def each(dtype: Any) -> npt.NDArray[Any]:
        return np.zeros(queries, dtype=dtype)

    keys = np.zeros((queries, row), dtype=store._keys.dtype)
    distances = np.full((queries, row), store._empty_distance, dtype=np.float32)
    variants = np.zeros((queries, row), dtype=np.uint32)
    counts, visited, computed = each(np.uint64), each(np.uint64), each(np.uint64)
    exact, more, plans = each(np.bool_), each(np.bool_), each(np.uint8)
    predicted, measured = each(np.float32), each(np.float32)
    store._core.search(
        data, capacity, row, ask[:-1], ask.radius, *watch,
        (
            (keys, distances, variants),
            (counts, exact, more, visited, computed, plans, predicted, measured),
        ),
    )  # fmt: skip
    batch = BatchMatches(
        keys, distances, counts, int(visited.sum()), int(computed.sum()), exact,
        more=more, variants=variants, plans=plans, predicted=predicted, measured=measured,
    )  # fmt: skip
    return batch[0] if queries == 1 else batch
