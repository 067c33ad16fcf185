"""Plans, budgets and hash tables; everything within a radius."""

import gc
import time

import numpy as np
import pytest
from conftest import SMALL

import nphd
from nphd import Index, NphdIndex, ShardedNphdIndex, ShardedNphdIndex128

TABLED = 17_000  # enough for tables


@pytest.fixture(params=["single", "sharded"])
def index(request, tmp_path, rows):
    """300 random vectors of 256 bits under the keys 0 to 299, of which ten are near number 7."""
    given = rows(300)
    for i in range(1, 11):
        given[7 + i] = given[7]
        given[7 + i, : i] ^= 1  # i bits away
    if request.param == "single":
        made = NphdIndex()
    else:
        made = ShardedNphdIndex(path=tmp_path / "index", max_dim=256, shard_size=20_000)
    made.vectors_given = given
    made.add(range(300), given)
    yield made
    if request.param == "sharded":
        made.close()


# ---- plans ----


def test_plans_and_reports(index):
    query = index.vectors_given[7]
    auto = index.search(query, 5)
    assert auto.exact and auto.plan == "scan"
    for plan, wanted in (("scan", "scan"), ("tables", "scan"), ("graph", "graph")):
        found = index.search(query, 5, plan=plan)
        assert found.plan == wanted and found.exact == (plan != "graph")
        assert found.predicted > 0 and found.measured > 0
        assert found.computed_distances > 0
    assert index.search(query, 5, plan="tables").keys.tolist() == auto.keys.tolist()
    assert index.search(query, 5, budget=1e-6).plan == "graph"
    assert index.search(query, 5, budget=1e6).plan == "scan"
    assert index.search(query, 5, exact=True, plan="scan").exact
    assert not index.search(query, 5, approximate=True, plan="graph").exact
    assert index.search(query, 5, plan="auto").exact


@pytest.mark.parametrize("sharded", [False, True])
def test_report_of_a_query_shared_by_threads(tmp_path, sharded):
    vectors = np.random.default_rng(3).integers(0, 256, (80000, 8), dtype=np.uint8)
    if sharded:
        index = ShardedNphdIndex(max_dim=64, path=tmp_path / "d", connectivity=2, expansion_add=1)
    else:
        index = NphdIndex(max_dim=64, connectivity=2, expansion_add=1)
    index.add(np.arange(len(vectors)), vectors, threads=2)
    for options in ({}, {"radius": 0.2}, {"threads": 4}):
        start = time.perf_counter()
        found = index.search(vectors[5], 3, exact=True, **options)
        elapsed = 1e6 * (time.perf_counter() - start)
        assert found.plan == "scan" and found.exact and found.keys[0] == 5
        assert found.predicted > 0 and 0 < found.measured <= elapsed
    if sharded:
        index.close()


def test_reports_of_a_batch(index):
    batch = index.search(index.vectors_given[:4], 2)
    assert batch.plans.dtype == np.uint8 and batch.predicted.dtype == np.float32
    assert batch.predicted.shape == batch.measured.shape == batch.more.shape == (4,)
    assert not batch.more.any() and batch.variants.shape == (4, 2)
    assert [matches.plan for matches in batch] == ["scan"] * 4
    assert batch[1].predicted == pytest.approx(float(batch.predicted[1]))


def test_nothing_to_search():
    for options in ({}, {"exact": True}, {"approximate": True}):
        found = NphdIndex().search(b"\x01\x02", **options)
        assert len(found) == 0 and found.plan == "none" and found.exact


def test_refused_options(index):
    query = index.vectors_given[0]
    for options in (
        {"plan": "mixed"},
        {"plan": "fast"},
        {"plan": "graph", "exact": True},
        {"plan": "scan", "approximate": True},
        {"budget": 0},
        {"budget": -1},
        {"budget": float("nan")},
        {"budget": 5, "exact": True},
        {"budget": 5, "plan": "scan"},
    ):
        with pytest.raises(ValueError):
            index.search(query, **options)


# ---- tables ----


@pytest.mark.skipif(SMALL, reason="takes a while under sanitizers")
def test_prepare_and_save(tmp_path, rows):
    given = rows(TABLED)
    index = NphdIndex(connectivity=4, expansion_add=8, path=tmp_path / "a.usearch")
    index.add(range(TABLED), given)
    assert not index.stats.tables
    before = [index.radius(given[i], 0.05, plan="scan").to_list() for i in range(20)]
    index.prepare(threads=2)
    assert index.stats.tables
    index.save()
    assert NphdIndex.metadata(tmp_path / "a.usearch")["tables"]
    view = NphdIndex.restore(tmp_path / "a.usearch", view=True)
    for store in (index, view):
        for i in range(20):
            found = store.radius(given[i], 0.05, plan="tables")
            assert found.plan == "tables" and found.exact and not found.more
            assert found.to_list() == before[i]
    index.add(TABLED, given[0])
    assert not index.stats.tables  # not of all of them
    assert index.radius(given[0], 0).keys.tolist() == [0, TABLED]
    assert nphd.verify(tmp_path / "a.usearch").ok


@pytest.mark.skipif(SMALL, reason="takes a while under sanitizers")
def test_shards_with_tables(tmp_path, rows):
    given = rows(TABLED)
    options = {"max_dim": 256, "connectivity": 4, "expansion_add": 8, "shard_size": 2_500_000}
    with ShardedNphdIndex(path=tmp_path / "a", tables=True, **options) as index:
        index.add(range(TABLED), given)
        index.rotate()
        assert [shard["tables"] for shard in index.shards() if not shard["active"]] == [True]
    with ShardedNphdIndex(path=tmp_path / "b", **options) as index:
        index.add(range(TABLED), given)
        index.rotate()
        assert not index.shards()[0]["tables"]
        index.prepare()
        assert index.shards()[0]["tables"]
        assert index.radius(given[3], 0.05, plan="tables").plan == "tables"
    with ShardedNphdIndex(path=tmp_path / "b", read_only=True) as index:
        assert not index.shards()[0]["tables"]
        with pytest.raises(ValueError):
            index.prepare(threads=-1)
    with pytest.raises(RuntimeError):
        index.prepare()


# ---- radius ----


def test_radius(index):
    query = index.vectors_given[7]
    found = index.radius(query, 10 / 256)
    assert found.keys.tolist() == list(range(7, 18)) and found.exact and not found.more
    assert found.distances.tolist() == [i / 256 for i in range(11)]
    capped = index.radius(query, 10 / 256, 4)
    assert capped.keys.tolist() == [7, 8, 9, 10] and capped.more and capped.exact
    some = index.radius(query, 10 / 256, any=True)
    assert len(some) == 1 and 7 <= some[0].key <= 17 and not some.more
    assert len(index.radius(np.full(32, 0x55, np.uint8), 0.0)) == 0
    assert index.radius(query, 10 / 256, filter=[9, 200]).keys.tolist() == [9]
    batch = index.radius(index.vectors_given[[7, 100]], 2 / 256)
    assert batch.counts.tolist() == [3, 1] and batch.more.tolist() == [False, False]
    assert index.radius(query, 10 / 256, plan="graph").plan == "graph"


def test_radius_with_variants(index):
    given = index.vectors_given
    found = index.radius(np.stack([given[100], given[7]]), 2 / 256, variants=2)
    assert found.keys.tolist() == [7, 100, 8, 9]
    assert found.variants.tolist() == [1, 0, 1, 1]
    batch = index.radius(given[[100, 7, 7, 50]], 0, variants=2)
    assert len(batch) == 2 and [m.keys.tolist() for m in batch] == [[7, 100], [7, 50]]
    assert batch[1].variants.tolist() == [0, 1]
    assert len(index.radius([], 0.1, variants=2)) == 0


def test_radius_stream(index):
    query = index.vectors_given[7]
    met = []
    assert index.radius_stream(query, 10 / 256, lambda *match: met.append(match))
    assert sorted(met) == [(0, 7 + i, i / 256, 0) for i in range(11)]
    met.clear()

    def three(*match):
        met.append(match)
        return len(met) < 3

    assert not index.radius_stream(query, 10 / 256, three)
    assert len(met) == 3
    met.clear()
    pair = index.vectors_given[[100, 7]]
    assert index.radius_stream(pair, 0, lambda *match: met.append(match), variants=2)
    assert sorted(met) == [(0, 7, 0.0, 1), (0, 100, 0.0, 0)]
    met.clear()
    many = np.repeat(index.vectors_given[7:8], 40, axis=0)
    assert index.radius_stream(
        many, 10 / 256, lambda *match: met.append(match), any=True, threads=2
    )
    assert sorted(match[0] for match in met) == list(range(40))
    met.clear()
    assert index.radius_stream(
        query, 1, lambda *match: met.append(match), filter=range(5), plan="scan"
    )
    assert sorted(match[1] for match in met) == [0, 1, 2, 3, 4]


def test_exceptions_of_the_sink_come_out(index):
    def fail(*unused):
        raise KeyError("of the sink")

    with pytest.raises(KeyError, match="of the sink"):
        index.radius_stream(index.vectors_given[7], 0.5, fail)
    gc.collect()
    with pytest.raises(TypeError):
        index.radius_stream(index.vectors_given[7], 0.5, None)


def test_keys_of_octets_in_a_stream(tmp_path):
    with ShardedNphdIndex128(path=tmp_path / "octets", max_dim=64) as index:
        keys = [number.to_bytes(16, "big") for number in (3, 1)]
        index.add(keys, [b"\x01\x02", b"\x01\x03"])
        met = []
        index.radius_stream(b"\x01\x02", 0.1, lambda *match: met.append(match))
        assert sorted(met) == [(0, keys[1], 1 / 16, 0), (0, keys[0], 0.0, 0)]
        assert index.radius(b"\x01\x02", 0.1)[0].key == keys[0]


def test_radius_of_bits():
    index = Index(ndim=16)
    index.add([1, 2], np.array([[0, 0], [0, 7]], dtype=np.uint8))
    assert index.radius(b"\0\0", 2).keys.tolist() == [1]
    assert index.radius(b"\0\0", 3).distances.tolist() == [0, 3]


def test_refused_radius_options(index):
    query = index.vectors_given[0]
    for radius, options in (
        (-0.1, {}),
        (float("nan"), {}),
        (0.1, {"variants": 0}),
        (0.1, {"variants": 9}),
        (0.1, {"variants": 2}),  # of one vector
        (0.1, {"plan": "mixed"}),
        (0.1, {"count": 0}),
    ):
        with pytest.raises(ValueError):
            index.radius(query, radius, **options)
    for radius, options in (
        (-1, {}),
        (0.1, {"variants": 2}),
        (0.1, {"plan": "graph"}),
        (0.1, {"threads": -1}),
    ):
        with pytest.raises(ValueError):
            index.radius_stream(query, radius, print, **options)
