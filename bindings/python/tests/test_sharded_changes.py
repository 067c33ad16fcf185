"""Sharded indexes: removing, replacing, compacting, resetting, read-only."""

import numpy as np
import pytest
from conftest import same, shard_files


@pytest.fixture
def two(tmp_path, kind, rows):
    """Keys 0 to 9 in a view shard, 10 to 19 in the active one, and their vectors."""
    vectors = rows(20)
    index = kind.open(tmp_path)
    index.add(kind.keys(range(10)), vectors[:10])
    index.rotate()
    index.add(kind.keys(range(10, 20)), vectors[10:])
    yield index, vectors
    index.close()


def absent(index, kind, number, vector):
    key = kind.key(number)
    return (
        key not in index
        and index.get(key) is None
        and index.count(key) == 0
        and key not in list(index.keys)
        and key not in [match.key for match in index.search(vector, 100)]
    )


# ---- test_sharded_remove.py ----


def test_rm1_rm9_active(kind, two):
    index, vectors = two
    assert index.remove(kind.key(12)) is None
    assert absent(index, kind, 12, vectors[12])
    assert index.tombstone_count == 0 and len(index) == 19


@pytest.mark.parametrize("bloom", [False, True])
def test_rm2_rm7_rm10_l10_view(kind, two, bloom):
    index, vectors = two
    index.close()
    with kind.open(index.path, bloom_filter=bloom) as again:
        again.rotate()
        again.remove(kind.key(3))
        assert absent(again, kind, 3, vectors[3])
        assert again.tombstone_count == 1 and len(again) == 19
        again.remove(kind.keys([4, 77]))
    with kind.open(index.path) as again:
        assert absent(again, kind, 3, vectors[3]) and absent(again, kind, 4, vectors[4])
        assert again.tombstone_count == 2 and len(again) == 18


def test_w1_deletions_reach_the_last_shard(tmp_path, kind, rows):
    vectors = rows(10)
    with kind.open(tmp_path) as index:
        index.add(kind.keys(range(10)), vectors)
        index.rotate()
        index.remove(kind.key(3))
    with kind.open(tmp_path) as index:
        assert absent(index, kind, 3, vectors[3]) and len(index) == 9
        index.add(kind.key(50), vectors[0])
        assert absent(index, kind, 3, vectors[3]) and len(index) == 10


def test_rm3_rm4_rm6_batches(kind, two):
    index, vectors = two
    index.remove(kind.keys([1, 11]))
    del index[kind.key(2)]
    index.remove(kind.key(777))
    index.remove([])
    for number in (1, 2, 11):
        assert absent(index, kind, number, vectors[number])
    assert len(index) == 17


def test_rm8_l11_add_again(kind, two, rows):
    index, vectors = two
    new = rows(1)[0]
    index.remove(kind.keys([3, 4]))
    index.add(kind.key(3), new)
    assert same(index.get(kind.key(3)), new) and index.tombstone_count == 1
    assert absent(index, kind, 4, vectors[4]) and len(index) == 19


def test_w2_add_again_then_rotate(kind, two, rows):
    index, _ = two
    new = rows(1)[0]
    index.remove(kind.key(3))
    index.add(kind.key(3), new)
    for _ in range(2):
        index.rotate()
        index.add(kind.key(100 + index.stats()["view_shards"]), rows(1)[0])
        assert same(index.get(kind.key(3)), new)
    index.compact()
    assert same(index.get(kind.key(3)), new)


def test_rm11_tombstone_file(kind, two, rows):
    index, _ = two
    file = index.path / "tombstones.npy"
    index.remove(kind.key(3))
    index.save()
    assert file.exists()
    index.add(kind.key(3), rows(1)[0])
    index.save()
    assert file.exists()
    index.compact()
    assert not file.exists()


@pytest.mark.parametrize("count", [1, 5, 100])
def test_rm12_l4_search_with_tombstones(kind, two, count):
    index, vectors = two
    index.remove(kind.keys(range(5)))
    assert len(index.search(vectors[0], count)) == min(count, 15)  # W42: never too few
    batch = index.search(vectors[:3], count)
    for row in range(3):
        finite = np.isfinite(batch.distances[row])
        assert finite.sum() == batch.counts[row] == min(count, 15)
        shown = {key.tobytes() for key in batch.keys[row][finite]}
        assert not shown & {key.tobytes() for key in kind.array(range(5))}


def test_rm13_l9_upsert_then_remove(kind, two, rows):
    index, vectors = two
    new = rows(1)[0]
    index.upsert(kind.key(3), new)
    index.rotate()
    index.remove(kind.key(3))
    assert absent(index, kind, 3, vectors[3]) and absent(index, kind, 3, new)
    index.close()
    with kind.open(index.path) as again:
        assert absent(again, kind, 3, vectors[3]) and absent(again, kind, 3, new)


# ---- test_sharded_upsert.py ----


def test_us1_us2_upsert(kind, two, rows):
    index, _ = two
    new = rows(4)
    keys = index.upsert(kind.keys([3, 13, 100, 3]), new)
    assert keys.tolist() == kind.array([3, 13, 100, 3]).tolist()
    for number, vector in ((3, new[3]), (13, new[1]), (100, new[2])):
        assert same(index.get(kind.key(number)), vector)
        assert index.count(kind.key(number)) == 1
    assert index.tombstone_count == 0 and len(index) == 21


def test_us3_latest_version(kind, two, rows):
    index, _ = two
    for vector in rows(3):
        index.upsert(kind.key(3), vector)
        index.rotate()
    assert same(index.get(kind.key(3)), vector) and len(index) == 20
    assert len(list(index.keys)) == 20


def test_us4_arguments(kind, two, rows):
    index, _ = two
    with pytest.raises(ValueError):
        index.upsert(None, rows(1)[0])
    with pytest.raises(ValueError, match="must match"):
        index.upsert(kind.keys([1, 2]), rows(1))


def test_us5_us6_us7_w4_versions_in_search(kind, two, rows):
    index, vectors = two
    new = rows(1)[0]
    index.upsert(kind.keys([3]), new)
    assert index.search(new, 1).to_list() == [(kind.key(3), 0.0)]
    old = index.search(vectors[3], 100)
    assert [match.key for match in old].count(kind.key(3)) == 1 and len(old) == 20
    assert old[0].key != kind.key(3) or old[0].distance > 0
    assert index.search(vectors[3], 1)[0].distance > 0


# ---- test_sharded_compact.py, test_sharded_crud_coverage.py ----


def test_c1_c2_c3_c4_c5_compact(kind, two, rows):
    index, vectors = two
    assert index.compact() == 0
    new = rows(1)[0]
    index.rotate()
    index.remove(kind.keys([1, 2]))
    index.upsert(kind.key(3), new)
    assert index.compact() == 3
    assert index.tombstone_count == 0 and index.bloom_filter and len(index) == 18
    assert same(index.get(kind.key(3)), new) and absent(index, kind, 1, vectors[1])
    for number in range(4, 20):
        assert same(index.get(kind.key(number)), vectors[number])
    index.close()
    with kind.open(index.path) as again:
        assert len(again) == 18 and same(again.get(kind.key(3)), new)


def test_c6_l6_dead_shards_go(kind, two):
    index, vectors = two
    index.rotate()
    before = index.shard_count
    index.remove(kind.keys(range(10)))
    index.save()
    assert index.compact() == 10
    assert index.shard_count < before + 1 and len(index) == 10
    assert all(same(index.get(kind.key(i)), vectors[i]) for i in range(10, 20))


def test_w49_filter_stays_off(kind, two):
    index, _ = two
    index.close()
    with kind.open(index.path, bloom_filter=False) as again:
        again.remove(kind.key(1))
        again.compact()
        with pytest.raises(ValueError, match="bloom_filter=False"):
            again.rebuild_bloom()
        assert not again.bloom_filter
        again.save()
        assert not (index.path / "bloom.isbf").exists()


@pytest.mark.parametrize("read_only", [False, True])
def test_l1_l2_l3_l8_l13_q5_filtered(kind, two, rows, read_only):
    index, vectors = two
    index.upsert(kind.key(5), rows(1)[0])
    index.remove(kind.keys([0, 15]))
    index.close()
    with kind.open(index.path, read_only=read_only) as again:
        keys = list(again.keys)
        assert len(keys) == len(set(keys)) == len(again) == 18
        assert again.keys[0] == keys[0] and again.keys[-1] == keys[-1]
        for place in (18, -19):
            with pytest.raises(IndexError):
                again.keys[place]
        assert np.asarray(again.keys).tolist() == keys and len(again.vectors[0:18]) == 18
        assert all(same(again.get(k), v) for k, v in zip(again.keys, again.vectors))
        asked = kind.keys([0, 5, 15])
        assert again.contains(asked).tolist() == [False, True, False]
        assert again.count(asked).tolist() == [0, 1, 0]
        assert again.get(kind.keys([0, 15])) == [None, None]


def test_l5_l12_all_gone(kind, two):
    index, vectors = two
    index.remove(kind.keys(range(19)))
    batch = index.search(vectors[18:20], 3)
    assert batch.counts.tolist() == [1, 1] and batch[1].to_list() == [(kind.key(19), 0.0)]
    index.remove(kind.key(19))
    assert len(index) == 0 and len(np.asarray(index.keys)) == len(np.asarray(index.vectors)) == 0
    assert index.search(vectors[:2], 3).counts.tolist() == [0, 0]


def test_l14_q6_keys_are_checked(kind128, tmp_path, rows):
    with kind128.open(tmp_path) as index:
        index.add(kind128.key(1), rows(1)[0])
        for change in (index.remove, lambda keys: index.upsert(keys, rows(1)[0])):
            for wrong in (b"short", np.zeros(1, dtype=np.uint64), [b"short"], 5):
                with pytest.raises(ValueError):
                    change(wrong)
        index.remove(kind128.array([1]))
        assert len(index) == 0


def test_q2_q4_lengths(tmp_path, mixed, ragged):
    vectors = ragged(40)
    with mixed.open(tmp_path) as index:
        index.add(mixed.keys(range(20)), vectors[:20])
        index.rotate()
        index.upsert(mixed.keys(range(10)), vectors[20:30])
        index.remove(mixed.key(15))
        index.compact()
        for i in range(10):
            assert same(index.get(mixed.key(i)), vectors[20 + i])
        for i in (10, 14, 19):
            assert same(index.get(mixed.key(i)), vectors[i])


# ---- test_sharded_read_only.py ----


def test_y1_y2_y5_y7_read_only(kind, two):
    index, vectors = two
    index.close()
    files = {file.name: file.read_bytes() for file in index.path.iterdir()}
    with kind.open(index.path, None, read_only=True) as reader:
        assert reader.read_only and "read_only" in repr(reader) and len(reader) == 20
        assert reader.stats()["view_shards"] == 2 and reader.stats()["active_shard_vectors"] == 0
        assert reader.serialized_length == reader.capacity == 0 < reader.memory_usage
        assert reader.search(vectors[3], 1).keys[0] == kind.array([3])[0]
        assert reader.search(vectors[:4], 2).counts.tolist() == [2] * 4
        assert same(reader.get(kind.key(3)), vectors[3]) and kind.key(15) in reader
        assert len(list(reader.keys)) == len(list(reader.vectors)) == 20
    assert {file.name: file.read_bytes() for file in index.path.iterdir()} == files  # W21


def test_y3_c7_rm5_changes_are_refused(kind, two, rows):
    index, _ = two
    index.close()
    key, vector = kind.key(99), rows(1)[0]
    with kind.open(index.path, read_only=True) as reader:
        for change in (
            lambda: reader.add(key, vector),
            lambda: reader.add_once(key, vector),
            lambda: reader.upsert(key, vector),
            lambda: reader.remove(key),
            reader.save,
            reader.compact,
            reader.rebuild_bloom,
            reader.reset,
            lambda: setattr(reader, "expansion_add", 5),
        ):
            with pytest.raises(RuntimeError, match="read-only"):
                change()
        reader.expansion_search = 99  # Y6
        assert reader.expansion_search == 99


def test_y4_no_shards(tmp_path, kind):
    with pytest.raises(ValueError, match="read_only=True requires existing shards"):
        kind.open(tmp_path, read_only=True)
    with pytest.raises(ValueError):
        kind.open(tmp_path / "none", None, read_only=True)
    assert not (tmp_path / "none").exists()


# ---- test_sharded_reset.py ----


def test_z1_z5_z6_reset(tmp_path, kind, rows):
    options = dict(connectivity=8, expansion_add=50, bloom_filter=False)
    with kind.open(tmp_path, 128, **options) as index:
        index.reset()
        index.add(kind.key(1), rows(1, 16)[0])
        index.reset()
        assert len(index) == 0 and index.max_dim == 128
        assert (index.connectivity, index.expansion_add) == (8, 50) and not index.bloom_filter


def test_z2_z3_z7_w9_reset(kind, two, rows):
    index, vectors = two
    index.save()
    index.reset()
    assert len(index) == 0
    assert absent(index, kind, 3, vectors[3]) and absent(index, kind, 13, vectors[13])
    new = rows(1)[0]
    index.add(kind.key(500), new)
    assert index.search(new, 5).to_list() == [(kind.key(500), 0.0)]
    index.save()
    index.close()
    assert len(shard_files(index.path)) == 1
    with kind.open(index.path) as again:
        assert list(again.keys) == [kind.key(500)] and absent(again, kind, 3, vectors[3])
