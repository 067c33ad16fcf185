"""Sharded indexes: opening, adding, rotation, lookups, search, views and properties."""

import numpy as np
import pytest
from conftest import same, shard_files, strays

import nphd


def u8(*octets):
    return np.array(octets, dtype=np.uint8)


@pytest.fixture
def filled(tmp_path, kind, rows):
    """An index of 60 vectors in several shards, the last of them active, and the vectors."""
    vectors = rows(60)
    index = kind.open(tmp_path / "filled", shard_size=4000)
    for i in range(0, 60, 10):
        index.add(kind.keys(range(i, i + 10)), vectors[i : i + 10])
    assert index.stats()["view_shards"] >= 2
    yield index, vectors
    index.close()


# ---- test_sharded_init.py, test_sharded_load.py, test_sharded_metadata.py ----


def test_si1_new(tmp_path, kind):
    path = tmp_path / "a" / "b"
    with kind.open(path) as index:
        assert path.is_dir() and len(index) == 0
        assert index.stats()["view_shards"] == 0 and index.shard_count == 0


def test_si2_si6_existing(tmp_path, kind, filled):
    index, _ = filled
    index.close()
    with kind.open(index.path) as again:
        assert len(again) == 60 and again.shard_count == len(shard_files(index.path)) > 2


def test_si3_configuration(tmp_path, kind):
    options = dict(connectivity=32, expansion_add=256, expansion_search=128, multi=True)
    with kind.open(tmp_path, 128, **options) as index:
        for name, value in options.items():
            assert getattr(index, name) == value
        assert index.ndim == 128 + 8 * kind.nphd


def test_si4_default_size(tmp_path, kind):
    with kind.open(tmp_path) as index:
        assert index.shard_size == 1024**3 == index.stats()["shard_size"]


def test_si5_h5_width_is_required_or_detected(tmp_path, kind, rows):
    with pytest.raises(ValueError, match="is required"):
        kind.open(tmp_path, None)
    with kind.open(tmp_path, 192) as index:
        index.add(kind.key(1), rows(1, 24)[0])
    with kind.open(tmp_path, None) as index:
        assert index.max_dim == 192 and len(index) == 1


def test_w28_contradictions(tmp_path, kind, rows):
    with kind.open(tmp_path, 192, expansion_add=99) as index:
        index.add(kind.key(1), rows(1, 24)[0])
    with pytest.raises(ValueError):
        kind.open(tmp_path, 128)
    with kind.open(tmp_path, None, connectivity=8) as index:  # the files' counts
        assert index.connectivity == 16
    with kind.open(tmp_path, None) as index:
        assert index.expansion_add == 99


def test_connectivity_of_the_files_counts(tmp_path, kind, rows, caplog):
    with kind.open(tmp_path, 192, connectivity=8) as index:
        index.add(kind.key(1), rows(1, 24)[0])
    with caplog.at_level("WARNING"), kind.open(tmp_path, None, connectivity=4) as index:
        assert index.connectivity == 8 and len(index) == 1
    assert "connectivity is 8, and stays so, although 4 was asked for" in caplog.text


def test_busy_says_what_helps(tmp_path, kind, rows):
    with kind.open(tmp_path, 192) as index:
        index.add(kind.key(1), rows(1, 24)[0])
        index.save()
        with pytest.raises(nphd.BusyError, match="read_only=True"):
            kind.open(tmp_path, None)
        with kind.open(tmp_path, None, read_only=True) as reader:
            assert len(reader) == 1


def test_si7_metadata(tmp_path, kind, rows):
    with kind.open(tmp_path / "a", 64) as index:
        index.add(kind.key(1), rows(1, 8)[0])
    assert kind.cls.metadata(tmp_path / "a")["dimensions"] == 64 + 8 * kind.nphd
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_bytes(b"x")
    for name in ("none", "empty", "file"):
        assert kind.cls.metadata(tmp_path / name) is None


def test_other_metrics_are_refused(tmp_path):
    for options in (
        dict(metric=nphd.MetricKind.Cos),
        dict(metric="l2sq"),
        dict(metric="hamming", dtype=nphd.ScalarKind.F32),
        dict(),
    ):
        with pytest.raises(NotImplementedError):
            nphd.ShardedIndex(path=tmp_path, ndim=64, **options)
    with pytest.raises(ValueError):
        nphd.ShardedIndex(path=tmp_path, ndim=64, metric="no such metric")


@pytest.mark.parametrize("bits", [0, 12, 4096])
def test_w45_widths(tmp_path, kind, bits):
    with pytest.raises(ValueError):
        kind.open(tmp_path, bits)


def test_w20_one_writer(tmp_path, kind, rows):
    with kind.open(tmp_path) as index:
        index.add(kind.key(1), rows(1)[0])
        index.save()
        with pytest.raises(nphd.BusyError):
            kind.open(tmp_path)
        with kind.open(tmp_path, read_only=True) as reader:
            assert len(reader) == 1


# ---- test_sharded_add.py, test_sharded_rotation.py, test_sharded_save.py ----


def test_r1_add(tmp_path, kind, rows):
    with kind.open(tmp_path) as index:
        assert index.add(kind.key(7), rows(1)[0]).tolist() == kind.array([7]).tolist()
        assert len(index.add(kind.keys(range(100, 200)), rows(100))) == 100
        assert len(index) == 101


def test_r2_r4_h3_rotations(tmp_path, kind, rows):
    vectors = rows(100)
    with kind.open(tmp_path, shard_size=100) as index:
        for i, vector in enumerate(vectors):
            index.add(kind.key(i), vector)
        assert index.stats()["view_shards"] >= 2 and index.shard_count >= 2
        for i, vector in enumerate(vectors):
            assert index.search(vector, 1).to_list() == [(kind.key(i), 0.0)]


def test_r3_r5_r7_after_a_rotation(tmp_path, kind, rows):
    with kind.open(tmp_path) as index:
        index.rotate()
        assert index.shard_count == 0
        index.add(kind.key(1), rows(1)[0])
        index.rotate()
        assert shard_files(tmp_path) == ["shard_000.usearch"]
        index.add(kind.key(2), rows(1)[0])
        assert len(index) == 2


def test_r8_r9_save_and_reopen(tmp_path, kind, rows):
    with kind.open(tmp_path) as index:
        index.save()
        assert shard_files(tmp_path) == []
        index.add(kind.key(1), rows(1)[0])
        index.save()
        index.save()
    with kind.open(tmp_path) as index:
        assert len(index) == 1
        index.add(kind.key(2), rows(1)[0])
        index.rotate()
        assert shard_files(tmp_path) == ["shard_000.usearch"] and len(index) == 2


def test_r10_save_takes_no_path(tmp_path, kind):
    with kind.open(tmp_path) as index, pytest.raises(TypeError):
        index.save(tmp_path / "other")


def test_r11_j6_temporary_files(tmp_path, kind, rows, caplog):
    with kind.open(tmp_path, shard_size=100) as index:
        index.add(kind.keys(range(30)), rows(30))
        index.save()
        assert strays(tmp_path) == []
    for name in ("shard_000.usearch.tmp", "bloom.isbf.tmp", "tombstones.npy.tmp"):
        (tmp_path / name).write_bytes(b"left over")
    with kind.open(tmp_path) as index:
        assert strays(tmp_path) == [] and len(index) == 30
    assert "tmp" in caplog.text


def test_w5_a_present_key_keeps_its_vector(tmp_path, kind, rows):
    a, b = rows(2)
    with kind.open(tmp_path) as index:
        index.add(kind.key(1), a)
        index.rotate()
        assert index.add(kind.key(1), b).tolist() == kind.array([1]).tolist()
        assert same(index.get(kind.key(1)), a) and len(index) == 1 and index.count(kind.key(1)) == 1


def test_w6_automatic_keys_go_on(tmp_path, kind64, rows):
    with kind64.open(tmp_path, shard_size=100) as index:
        assert index.add(None, rows(3)).tolist() == [0, 1, 2]
        index.rotate()
        assert index.add(None, rows(2)).tolist() == [3, 4]
    with kind64.open(tmp_path) as index:
        assert index.add(None, rows(1)).tolist() == [5]


# ---- test_sharded_get.py, test_sharded_contains.py, test_sharded_count.py ----


@pytest.mark.parametrize("reopened", [False, True])
def test_k1_k2_k4_k6_lookups(kind, filled, reopened):
    index, vectors = filled
    if reopened:
        index.close()
        index = kind.open(index.path)
    for i in (0, 25, 59):
        key = kind.key(i)
        assert same(index.get(key), vectors[i]) and index.count(key) == 1
        assert index.contains(key) is True and key in index
    absent = kind.key(1000)
    assert index.get(absent) is None and index.contains(absent) is False
    assert index.count(absent) == 0 and absent not in index
    keys = kind.keys([59, 1000, 0, 30])
    got = index.get(keys)
    assert got[1] is None and same(got[0], vectors[59]) and same(got[2], vectors[0])
    assert index.contains(keys).tolist() == [True, False, True, True]
    counts = index.count(keys)
    assert counts.tolist() == [1, 0, 1, 1] and counts.dtype == np.uint64
    if reopened:
        index.close()


def test_k3_empty_batches(kind, filled):
    index, _ = filled
    assert index.get([]) == []
    assert index.contains([]).shape == (0,) and index.contains([]).dtype == np.bool_
    assert index.count([]).shape == (0,)


def test_w35_keys_of_arrays(kind, filled):
    index, vectors = filled
    key = index.search(vectors[5], 1).keys[0]
    assert same(index.get(key), vectors[5]) and key in index and index.count(key) == 1
    index.remove(key)
    assert key not in index


# ---- test_sharded_search.py, test_sharded_merge.py, test_sharded_single_row_batch.py ----


def test_m1_m4_m7_m8_search(kind, filled):
    index, vectors = filled
    matches = index.search(vectors[3], 5)
    assert len(matches) == 5 and matches[0].key == kind.key(3) and matches[0].distance == 0
    batch = index.search(vectors[:3], 5, exact=True)
    assert len(batch) == 3 and [row[0].key for row in batch] == kind.keys([0, 1, 2])
    everything = index.search(vectors[3], 1000, exact=True)
    assert len(everything) == 60 and (np.diff(everything.distances) >= 0).all()
    assert everything.to_list()[:5] == index.search(vectors[3], 5, exact=True).to_list()


def test_m2_b2_empty(tmp_path, kind, rows):
    with kind.open(tmp_path) as index:
        matches = index.search(rows(1)[0])
        assert len(matches) == 0 and matches.keys.dtype == kind.array([0]).dtype
        batch = index.search(rows(3))
        assert len(batch) == 3 and [len(row) for row in batch] == [0, 0, 0]
        assert np.isinf(batch.distances).all()


def test_m3_count(kind, filled):
    index, vectors = filled
    for count in (0, -1):
        with pytest.raises(ValueError):
            index.search(vectors[0], count)


@pytest.mark.parametrize("batch", [False, True])
def test_m5_m6_w8_radius(kind, filled, batch):
    index, vectors = filled
    radius = 0.4 if kind.nphd else 100
    wide = index.search(vectors[0], 60, exact=True)
    expected = int((wide.distances <= radius).sum())
    assert 0 < expected < 60
    if batch:
        found = index.search(vectors[:2], 60, radius, exact=True)
        assert found.counts[0] == expected and np.isinf(found.distances[0, expected:]).all()
        assert (found[0].distances <= radius).all()
    else:
        assert len(index.search(vectors[0], 60, radius, exact=True)) == expected
        assert index.search(vectors[9], 60, 1e-6).to_list() == [(kind.key(9), 0.0)]


def test_m9_one_row(kind, filled):
    index, vectors = filled
    matches = index.search(vectors[7:8], 3)
    assert isinstance(matches, nphd.Matches) and matches[0].key == kind.key(7)


def test_w7_count_above_the_size(kind, filled):
    index, vectors = filled
    batch = index.search(vectors[:4], 200)
    assert batch.counts.tolist() == [60] * 4
    for row in batch:
        assert sorted(match.key for match in row) == sorted(kind.keys(range(60)))


# ---- test_sharded_keys.py, test_sharded_vectors.py ----


def test_v1_b5_empty(tmp_path, kind):
    with kind.open(tmp_path, 32) as index:
        assert len(index.keys) == len(index.vectors) == 0 and list(index.keys) == []
        assert np.asarray(index.keys).dtype == kind.array([0]).dtype
        assert np.asarray(index.vectors).shape == ((0,) if kind.nphd else (0, 4))


@pytest.mark.parametrize("read_only", [None, False, True])
def test_v2_v3_v5_v6_b5_all(kind, filled, read_only):
    index, vectors = filled
    if read_only is not None:
        index.close()
        index = kind.open(index.path, read_only=read_only)
    keys = list(index.keys)
    assert sorted(keys) == sorted(kind.keys(range(60))) and list(index.keys) == keys
    for key, vector in zip(index.keys, index.vectors):
        assert same(index.get(key), vector)
    assert index.keys[10:13].tolist() == keys[10:13] and len(index.keys[10:13]) == 3
    array = np.asarray(index.keys)
    assert array.tolist() == keys and array.dtype == kind.array([0]).dtype
    matrix = np.asarray(index.vectors)
    assert matrix.shape == (60, 32) and np.asarray(index.vectors, dtype=np.float32).sum() > 0
    part = index.vectors[1:4]
    assert len(part) == 3 and isinstance(part, list if kind.nphd else np.ndarray)
    empty = index.vectors[5:5]
    assert len(empty) == 0 and (kind.nphd or empty.shape == (0, 32))
    index.close()


def test_v4_places(kind, filled):
    index, _ = filled
    keys = list(index.keys)
    assert index.keys[0] == keys[0] and index.keys[-1] == keys[-1] and index.keys[-60] == keys[0]
    assert same(index.vectors[-1], index.get(keys[-1]))
    for view in (index.keys, index.vectors):
        for place in (60, -61):
            with pytest.raises(IndexError):
                view[place]


def test_v7_v8_v9_live(kind, filled, rows):
    index, _ = filled
    keys = index.keys
    index.add(kind.key(500), rows(1)[0])
    assert len(keys) == 61 and kind.key(500) in list(keys) and kind.key(500) in keys
    assert next(iter(keys)) == keys[0]
    assert "61" in repr(keys) and "IndexedKeys" in repr(keys)


@pytest.mark.parametrize("bloom", [False, True])
def test_v10_w13_extreme_keys(tmp_path, kind64, rows, bloom):
    vectors = rows(4)
    extreme = [0, 2**63 - 1, 2**63, 2**64 - 2]
    with kind64.open(tmp_path, bloom_filter=bloom) as index:
        index.add(extreme, vectors)
        index.rotate()
        assert all(same(index.get(key), vectors[i]) for i, key in enumerate(extreme))
        assert sorted(index.keys) == extreme
        for wrong in (2**64 - 1, 2**64, -1):
            with pytest.raises(ValueError):
                index.add(wrong, vectors[0])
        index.remove(extreme[2])
        assert sorted(index.keys) == extreme[:2] + extreme[3:]


# ---- test_sharded_properties.py, test_sharded_edge_cases.py ----

FOURTEEN = """total_vectors dimensions metric dtype connectivity view_shards active_shard_vectors
    shard_size dirty tombstones bloom_filter memory_usage path read_only""".split()


def test_e1_e3_e4_e8_properties(kind, filled):
    index, _ = filled
    assert index.size == len(index) == 60
    assert index.dtype == nphd.ScalarKind.B1 and index.metric == index.metric_kind
    assert index.metric_kind == (nphd.MetricKind.NPHD if kind.nphd else nphd.MetricKind.Hamming)
    assert index.connectivity == 16 and index.multi is False and index.path
    assert index.memory_usage > 0 and index.capacity > 0 and index.serialized_length > 0
    stats = index.stats()
    assert set(FOURTEEN) <= set(stats)
    assert stats["total_vectors"] == 60 and stats["dirty"] == 60 and stats["read_only"] is False
    assert stats["view_shards"] == sum(not shard["active"] for shard in index.shards())
    assert sum(shard["vectors"] for shard in index.shards()) == 60
    assert stats["dimensions"] == index.ndim and str(index.path) == stats["path"]
    text = repr(index)
    assert kind.cls.__name__ in text and "60" in text and str(index.ndim) in text


def test_e2_breadths(kind, filled):
    index, _ = filled
    index.expansion_add, index.expansion_search = 300, 400
    assert (index.expansion_add, index.expansion_search) == (300, 400)
    stats = index.stats()
    assert stats["connectivity"] == 16


@pytest.mark.parametrize("bloom", [False, True])
def test_e5_e6_b12_all_in_views(tmp_path, kind, rows, bloom):
    vectors = rows(20)
    with kind.open(tmp_path, bloom_filter=bloom) as index:
        index.add(kind.keys(range(20)), vectors)
        index.rotate()
        assert index.stats()["active_shard_vectors"] == 0 and len(index) == 20
        assert same(index.get(kind.key(3)), vectors[3])
        assert index.contains(kind.keys([3, 30])).tolist() == [True, False]
        assert index.count(kind.keys([3, 30])).tolist() == [1, 0]
        assert list(index.keys) == kind.keys(range(20)) and index.keys[19] == kind.key(19)
        index.expansion_add = 77
        assert index.expansion_add == 77 and index.memory_usage > 0


def test_e7_f9_filter_is_on(tmp_path, kind):
    with kind.open(tmp_path / "a") as index:
        assert index.bloom_filter and index.stats()["bloom_filter"]
    with kind.open(tmp_path / "b", bloom_filter=False) as index:
        assert not index.bloom_filter


@pytest.mark.parametrize(
    "name", ["rename", "join", "cluster", "pairwise_distance", "copy", "clear"]
)
def test_x1_unsupported(kind, filled, name):
    with pytest.raises(NotImplementedError):
        getattr(filled[0], name)()


# ---- test_sharded_nphd.py, test_sharded_nphd_vectors.py, B14 ----


def test_h1_new(tmp_path, mixed):
    with mixed.open(tmp_path / "a") as index:
        assert (len(index), index.max_dim, index.max_bytes, index.shard_count) == (0, 256, 32, 0)
    with mixed.open(tmp_path / "b", 192) as index:
        assert index.ndim == 200


def test_h2_h4_q3_ragged(tmp_path, mixed, ragged):
    vectors = [u8(1, 2), u8(1, 3, 4, 5), u8(9, 9, 9)]
    with mixed.open(tmp_path) as index:
        index.add(mixed.keys([1, 2, 3]), vectors)
        before = index.search(u8(1, 2), 3).to_list()
        assert before[0] == (mixed.key(1), 0.0)
    with mixed.open(tmp_path, None) as index:
        assert index.max_dim == 256 and index.search(u8(1, 2), 3).to_list() == before


def test_h6_h7_vectors(tmp_path, mixed, ragged):
    vectors = ragged(30)
    with mixed.open(tmp_path) as index:
        index.add(mixed.keys(range(15)), vectors[:15])
        index.rotate()
        index.add(mixed.keys(range(15, 30)), vectors[15:])
        assert all(same(got, vector) for got, vector in zip(index.vectors, vectors))
        assert isinstance(index.vectors[3:6], list) and same(index.vectors[-1], vectors[-1])
        with pytest.raises(ValueError, match="different lengths"):
            np.asarray(index.vectors)
        index.remove(mixed.key(3))
        assert same(index.vectors[3], vectors[4])
        with pytest.raises(IndexError):
            index.vectors[29]


# ---- several vectors under a key ----


def test_multi(tmp_path, kind, rows):
    vectors = rows(4)
    with kind.open(tmp_path, multi=True) as index:
        index.add(kind.keys([1, 1, 2]), vectors[:3])
        index.rotate()
        index.add(kind.key(1), vectors[3])
        assert len(index) == 4 and index.count(kind.key(1)) == 3
        assert len(index.get(kind.key(1))) == 3
        assert index.get([kind.key(2), kind.key(9)])[1] is None
        for change in (index.remove, lambda key: index.upsert(key, vectors[0])):
            with pytest.raises(ValueError, match="multi=False"):
                change(kind.key(1))
