"""Joins against a comparison of each vector with each."""

import threading

import numpy as np
import pytest

import nphd
from nphd import Index, NphdIndex, ShardedNphdIndex, join, join_iter


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


# ---- equal vectors: each is a pair with each ----


@pytest.fixture
def equal():
    """2000 equal vectors, 1,999,000 pairs."""
    index = NphdIndex(max_dim=64, connectivity=4, expansion_add=8)
    index.add(np.arange(2000), np.zeros((2000, 8), np.uint8))
    return index


def test_limit_of_equal_vectors(equal):
    whole = join(equal, radius=0)
    assert len(whole.distances) == 2000 * 1999 // 2 and not whole.more and len(whole) == 3
    for limit in (1, 1000, 70_000, len(whole.distances) - 1, len(whole.distances), 1 << 40):
        found = join(equal, radius=0, limit=limit)
        count = min(limit, len(whole.distances))
        assert found.more == (limit < len(whole.distances))
        assert found.left_keys.tolist() == whole.left_keys[:count].tolist()
        assert found.right_keys.tolist() == whole.right_keys[:count].tolist()


def test_pairs_that_take_too_much_memory_are_refused(equal):
    with pytest.raises(MemoryError, match="max_bytes.*join_iter"):
        join(equal, radius=0, max_bytes=20 * 1_998_999)
    assert len(join(equal, radius=0, max_bytes=20 * 1_999_000).distances) == 1_999_000
    assert len(join(equal, radius=0, max_bytes=20 * 1000, limit=1000).distances) == 1000
    assert len(join(equal, radius=0, max_bytes=None, limit=5).distances) == 5
    assert nphd.JOIN_MAX_BYTES == 1 << 30
    for options in ({"limit": 0}, {"limit": -1}, {"max_bytes": 0}, {"limit": 1 << 64}):
        with pytest.raises(ValueError, match=next(iter(options))):
            join(equal, radius=0, **options)
    with pytest.raises(TypeError):
        join(equal, radius=0, limit=1.5)


def chained(parts):
    return [triple for part in parts for triple in triples(part)]


@pytest.mark.parametrize("batch", [1, 7, 500, 65536])
def test_iterator_gives_the_same_pairs(near, tmp_path, batch):
    rows = near(90)
    single = NphdIndex(max_dim=256)
    single.add(range(90), rows)
    with ShardedNphdIndex(path=tmp_path / "d", max_dim=256, shard_size=4000) as sharded:
        sharded.add(range(90), rows)
        for sides in ((single,), (sharded,), (single, sharded)):
            whole = triples(join(*sides, radius=0.4))
            parts = list(join_iter(*sides, radius=0.4, batch=batch, threads=2))
            assert chained(parts) == whole
            assert all(len(part.distances) == batch for part in parts[:-1])
            limited = join_iter(*sides, radius=0.4, batch=batch, limit=20)
            assert chained(limited) == whole[:20] and limited.more
            assert next(limited, None) is None


def test_iterator_is_bounded_and_ends(equal):
    seen = 0
    with join_iter(equal, radius=0, batch=1000) as pairs:
        for part in pairs:
            assert len(part.distances) == 1000
            seen += 1
            if seen == 3:
                break
    assert next(pairs, None) is None
    pairs.close()
    del equal
    assert list(join_iter(NphdIndex(max_dim=64), radius=1)) == []


def test_iterator_holds_its_indexes():
    index = NphdIndex(max_dim=64)
    index.add(range(5), np.zeros((5, 8), np.uint8))
    pairs = join_iter(index, radius=0, batch=3)
    del index
    assert sum(len(part.distances) for part in pairs) == 10


def test_iterator_refuses(tmp_path, equal):
    with pytest.raises(TypeError):
        join_iter([1], radius=0)
    with pytest.raises(TypeError):
        join_iter(equal, 7, radius=0)
    with pytest.raises(ValueError, match="radius"):
        join_iter(equal, radius=-1)
    with pytest.raises(ValueError, match="batch"):
        join_iter(equal, radius=0, batch=0)
    sharded = ShardedNphdIndex(path=tmp_path / "d", max_dim=64)
    sharded.add(range(5), np.zeros((5, 8), np.uint8))
    pairs = join_iter(sharded, radius=0, batch=3)
    next(pairs)
    sharded.close()
    with pytest.raises(RuntimeError, match="closed"):
        next(pairs)
    with pytest.raises(RuntimeError, match="closed"):
        join_iter(sharded, radius=0)


def test_iterator_progress(rows):
    index = NphdIndex(max_dim=256)
    index.add(range(9000), rows(9000, 8))
    seen = []
    list(join_iter(index, radius=0, progress=lambda done, total: seen.append((done, total))))
    assert seen == sorted(seen) and seen[-1] == (9000, 9000)
    pairs = join_iter(index, radius=0, progress=lambda done, total: False)
    with pytest.raises(nphd.CancelledError):
        next(pairs)
    with pytest.raises(ValueError, match="ended with an error"):
        next(pairs)


def test_iterator_of_two_threads(equal):
    pairs = join_iter(equal, radius=0, batch=50_000)
    problems, counts = [], []

    def read():
        try:
            for part in pairs:
                counts.append(len(part.distances))
        except RuntimeError as problem:
            problems.append(str(problem))

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 1_999_000
    assert all("another thread" in problem or "closed" in problem for problem in problems)


@pytest.mark.parametrize("sharded", [False, True])
def test_types_of_codes(tmp_path, sharded):
    text, image = nphd.NphdIndex(), nphd.NphdIndex()
    if sharded:
        image = nphd.ShardedNphdIndex(path=tmp_path, max_dim=256)
    text.add(1, "ISCC:EAARMJLTQCUWAND2")
    image.add(1, "ISCC:EEARMJLTQCUWAND2")
    for call in (nphd.join, nphd.join_iter):
        with pytest.raises(nphd.MismatchError, match="content-text.*content-image"):
            call(text, image, radius=0.1)
    assert len(nphd.join(text, image, radius=0.1, mix_units=True).distances) == 1
    (pairs,) = nphd.join_iter(image, text, radius=0.1, mix_units=True)
    assert pairs.left_keys.tolist() == pairs.right_keys.tolist() == [1]
    image.set_unit("mixed", mix=True)
    assert len(nphd.join(text, image, radius=0.1).distances) == 1
