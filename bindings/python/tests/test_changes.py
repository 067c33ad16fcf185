"""Upsert on one index, the dirty counter of all classes, add_once."""

import numpy as np
import pytest
from conftest import same

from nphd import Index, NphdIndex


def u8(*octets):
    return np.array(octets, dtype=np.uint8)


@pytest.fixture(params=[NphdIndex, Index])
def index(request):
    return request.param(16)


# ---- test_index.py ----


def test_u1_u2_arguments(index):
    with pytest.raises(ValueError, match="explicit keys"):
        index.upsert(None, u8(1, 2))
    with pytest.raises(ValueError, match="must match"):
        index.upsert([1, 2], [u8(1, 2)])


def test_u3_empty(index):
    keys = index.upsert([], [])
    assert keys.shape == (0,) and keys.dtype == np.uint64 and len(index) == 0


def test_u4_u5_u6_one_key(index):
    assert index.upsert(1, u8(1, 2)).tolist() == [1]
    dirty = index.dirty
    index.upsert(1, u8(1, 2))
    assert index.dirty == dirty and same(index.get(1), u8(1, 2))
    index.upsert(1, u8(3, 4))
    assert same(index.get(1), u8(3, 4)) and len(index) == 1


def test_u7_u8_u11_batches(index):
    index.upsert([1, 2], [u8(1, 1), u8(2, 2)])
    index.upsert([1, 3, 2, 4], [u8(9, 9), u8(3, 3), u8(2, 2), u8(4, 4)])
    got = [vector.tolist() for vector in index.get([1, 2, 3, 4])]
    assert got == [[9, 9], [2, 2], [3, 3], [4, 4]]


def test_u9_u10_last_wins(index):
    for _ in range(3):
        keys = index.upsert([1, 2, 1], [u8(1, 1), u8(2, 2), u8(3, 3)])
        assert keys.tolist() == [1, 2, 1]
        assert same(index.get(1), u8(3, 3)) and len(index) == 2


def test_w32_lengths_change():
    index = NphdIndex()
    index.upsert([1, 2], [u8(1), u8(1, 2, 3)])
    index.upsert([1, 2], [u8(1, 2, 3), u8(9)])
    assert same(index.get(1), u8(1, 2, 3)) and same(index.get(2), u8(9))


# ---- test_dirty.py ----


def test_d1_d2_d3_single(index):
    assert index.dirty == 0
    index.add(1, u8(1, 2))
    index.add([2, 3], [u8(1, 2), u8(1, 3)])
    assert index.dirty == 3
    index.remove(1)
    index.remove([2, 3, 99])
    assert index.dirty == 6


def test_d4_d5_d6_single(tmp_path, index):
    index.add(1, u8(1, 2))
    assert index.copy().dirty == 0 and index.dirty == 1
    index.upsert(1, u8(3, 4))
    assert index.dirty >= 2
    index.save(tmp_path / "a")
    assert index.dirty == 0
    for change in (
        lambda: index.load(tmp_path / "a"),
        lambda: index.view(tmp_path / "a"),
        index.reset,
    ):
        index.reset()
        index.add(7, u8(1, 2))
        assert index.dirty == 1
        change()
        assert index.dirty == 0


def test_d1_d2_d3_d7_d13_sharded(tmp_path, kind, rows):
    vectors = rows(10)
    index = kind.open(tmp_path)
    assert index.dirty == 0
    index.save()
    assert index.dirty == 0
    index.add(kind.key(1), vectors[0])
    index.add(kind.keys(range(2, 11)), vectors[1:])
    assert index.dirty == 10
    index.remove(kind.key(1))
    index.remove(kind.keys([2, 3, 2, 77]))
    assert index.dirty == 13  # W37: once for each key
    index.save()
    assert index.dirty == 0
    index.add(kind.key(1), vectors[0])
    index.reset()
    assert index.dirty == 0
    index.close()
    with kind.open(tmp_path) as index:
        assert index.dirty == 0


def test_d8_rotation_keeps_dirty(tmp_path, kind, rows):
    with kind.open(tmp_path, shard_size=4096) as index:
        for i, vector in enumerate(rows(100)):
            index.add(kind.key(i), vector)
        assert index.dirty == 100 and index.stats()["view_shards"] > 1


def test_d9_d10_d11(tmp_path, kind, rows):
    vectors = rows(12)
    with kind.open(tmp_path) as index:
        index.add(kind.key(1), vectors[0])
        index.upsert(kind.key(1), vectors[1])
        assert index.dirty == 3
        index.save()
        index.add_once(kind.key(1), vectors[2])
        assert index.dirty == 0
        index.add_once(kind.key(2), vectors[2])
        assert index.dirty == 1
        for i in range(3, 12):
            index.add(kind.key(i), vectors[i])
            if index.dirty >= 5:
                index.save()
                assert index.dirty == 0
        assert index.dirty == 0


def test_d12_read_only(tmp_path, kind, rows):
    with kind.open(tmp_path) as index:
        index.add(kind.key(1), rows(1)[0])
    with kind.open(tmp_path, read_only=True) as index:
        assert index.dirty == 0


# ---- test_add_once.py ----


def test_o1_single(tmp_path, kind, rows):
    a, b = rows(2)
    with kind.open(tmp_path) as index:
        stored = index.add_once(kind.key(1), a)
        assert stored.tolist() == kind.array([1]).tolist()
        assert index.add_once(kind.key(1), b) is None
        assert same(index.get(kind.key(1)), a) and len(index) == 1


def test_o2_o3_o4_o8_batches(tmp_path, kind, rows):
    vectors = rows(8)
    with kind.open(tmp_path) as index:
        index.add_once(kind.keys([1, 2]), vectors[:2])
        stored = index.add_once(kind.array([1, 2, 3, 4]), vectors[2:6])
        assert stored.dtype == kind.array([0]).dtype
        assert stored.tolist() == kind.array([3, 4]).tolist()
        none = index.add_once(kind.keys([1, 4]), vectors[:2])
        assert none.shape == (0,) and none.dtype == stored.dtype
        assert len(index.add_once(kind.keys([9, 9]), vectors[6:])) == 1
        assert same(index.get(kind.key(9)), vectors[6]) and len(index) == 5


def test_o5_arguments(tmp_path, kind, rows):
    with kind.open(tmp_path) as index:
        with pytest.raises(ValueError):
            index.add_once(None, rows(1)[0])
        with pytest.raises(ValueError, match="must match"):
            index.add_once(kind.keys([1, 2]), rows(1))


def test_o6_o7_mixed_lengths(tmp_path, mixed, rows, ragged):
    vectors = ragged(4)
    with mixed.open(tmp_path) as index:
        assert len(index.add_once(mixed.keys([1, 2, 3, 1]), vectors)) == 3
        assert same(index.get(mixed.key(1)), vectors[0])
        assert len(index.add_once(mixed.keys([5]), rows(1)[0])) == 1
        assert len(index.add_once(mixed.keys([1, 2]), rows(2, 5))) == 0


def test_o8_tombstoned_counts_as_absent(tmp_path, kind, rows):
    a, b = rows(2)
    with kind.open(tmp_path) as index:
        index.add(kind.key(1), a)
        index.rotate()
        index.remove(kind.key(1))
        assert index.add_once(kind.key(1), b) is not None
        assert same(index.get(kind.key(1)), b)
