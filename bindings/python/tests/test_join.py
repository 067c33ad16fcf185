"""Joins against a comparison of each vector with each."""

import threading

import numpy as np
import pytest

import nphd
from nphd import Index, NphdIndex, ShardedNphdIndex, join


def distance(a, b):
    shared = min(len(a), len(b))
    return np.float32(np.unpackbits(a[:shared] ^ b[:shared]).sum() / np.float32(8 * shared))


def expected(left, right, radius, inside=False):
    """left, right: dicts of vectors. Pairs in the order of `left`."""
    pairs = []
    for i, a in left.items():
        found = [(distance(a, b), j) for j, b in right.items() if not inside or i < j]
        pairs += [(i, j, d) for d, j in sorted(found) if d <= np.float32(radius)]
    return pairs


def triples(pairs):
    assert pairs.distances.dtype == np.float32
    keys = [k.tobytes() if k.dtype.kind == "V" else int(k) for k in pairs.left_keys]
    others = [k.tobytes() if k.dtype.kind == "V" else int(k) for k in pairs.right_keys]
    return list(zip(keys, others, pairs.distances))


@pytest.fixture
def near(ragged, rng):
    """near(n): vectors of which many are near to others."""

    def make(count):
        rows = ragged(count)
        for i in range(1, count, 2):
            rows[i] = rows[int(rng.integers(0, i))].copy()
            rows[i][int(rng.integers(0, 8))] ^= 1 << int(rng.integers(0, 8))
        return rows

    return make


@pytest.mark.parametrize("radius", [0, 0.02, 0.4, 1])
def test_inside_and_between(near, tmp_path, radius):
    rows = near(120)
    left = dict(enumerate(rows[:70]))
    right = {1000 - i: row for i, row in enumerate(rows[50:])}
    single = NphdIndex(max_dim=256)
    single.add(list(left), list(left.values()))
    with ShardedNphdIndex(path=tmp_path / "d", max_dim=256, shard_size=4000) as sharded:
        sharded.add(list(right), list(right.values()))
        assert triples(join(single, radius=radius)) == expected(left, left, radius, inside=True)
        for threads in (0, 1, 3):
            assert triples(join(sharded, radius=radius, threads=threads)) == expected(
                right, right, radius, inside=True
            )
            assert triples(join(single, sharded, radius=radius, threads=threads)) == expected(
                left, right, radius
            )
        assert triples(join(sharded, single, radius=radius)) == expected(right, left, radius)
        assert triples(join(single, single, radius=radius)) == expected(left, left, radius)


def test_keys_of_octets(mixed, tmp_path, rows):
    data = rows(20, 8)
    data[10:] = data[:10]
    with mixed.open(tmp_path / "d", bits=64) as index:
        index.add(mixed.array(range(20)), data)
        pairs = join(index, radius=0)
        assert pairs.left_keys.dtype == pairs.right_keys.dtype == mixed.array([]).dtype
        assert triples(pairs) == [(mixed.key(i), mixed.key(i + 10), 0) for i in range(10)]


def test_bits_and_several_of_a_key():
    index = Index(ndim=16, metric=nphd.MetricKind.Hamming, multi=True)
    for octets in (b"\x00\xff", b"\x00\xfe", b"\x00\xfe"):
        index.add(1, octets)
    index.add(2, b"\x00\xf0")
    assert triples(join(index, radius=3)) == [
        (1, 1, 1), (1, 1, 1), (1, 1, 0), (1, 2, 3), (1, 2, 3),
    ]  # fmt: skip


def test_arrays_are_the_callers():
    index = NphdIndex(max_dim=64)
    assert [len(array) for array in join(index, radius=1)] == [0, 0, 0]
    index.add([1, 2], [b"\x01", b"\x01"])
    pairs = join(index, radius=0)
    pairs.left_keys[0] = 7
    assert pairs.left_keys.tolist() == [7] and join(index, radius=0).left_keys.tolist() == [1]


def test_refused(tmp_path):
    index = NphdIndex(max_dim=64)
    with pytest.raises(TypeError):
        join([1], radius=0)
    with pytest.raises(TypeError):
        join(index, 7, radius=0)
    with pytest.raises(TypeError):
        join(index)
    for radius in (-0.5, float("nan")):
        with pytest.raises(ValueError, match="radius"):
            join(index, radius=radius)
    with pytest.raises(ValueError, match="threads"):
        join(index, radius=0, threads=-1)
    with pytest.raises(ValueError, match="128"):
        join(index, NphdIndex(max_dim=128), radius=0)
    closed = ShardedNphdIndex(path=tmp_path / "d", max_dim=64)
    closed.close()
    for sides in ((closed,), (index, closed)):
        with pytest.raises(RuntimeError, match="closed"):
            join(*sides, radius=0)


def test_progress(rows):
    index = NphdIndex(max_dim=256)
    index.add(range(9000), rows(9000, 8))
    seen = []
    join(index, radius=0, progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen) and seen[-1] == (9000, 9000)
    with pytest.raises(nphd.CancelledError):
        join(index, radius=0, progress=lambda done, total: False)

    def fail(done, total):
        raise KeyError("of the callback")

    with pytest.raises(KeyError, match="of the callback"):
        join(index, radius=0, progress=fail)


def test_joins_side_by_side(rows):
    a, b = NphdIndex(max_dim=64), NphdIndex(max_dim=64)
    data = rows(500, 8)
    a.add(range(500), data)
    b.add(range(500), data)
    sizes = []
    threads = [
        threading.Thread(target=lambda s=s: sizes.append(len(join(*s, radius=0).distances)))
        for s in [(a, b), (b, a)] * 4
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sizes == [500] * 8
