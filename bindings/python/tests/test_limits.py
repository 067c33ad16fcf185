"""What is refused or told because it could only be a mistake: radii that no distance has, going
through an index as if it were a sequence, masks, numbers for bits, changes that are forgotten; and
that an index goes through pickle and takes any kind of path."""

import copy
import gc
import math
import os
import pathlib
import pickle
import warnings

import nphd
import numpy as np
import pytest


@pytest.fixture(params=["index", "view", "directory", "reader"])
def filled(request, tmp_path, rows):
    vectors = rows(300)
    if request.param in ("index", "view"):
        index = nphd.NphdIndex()
        index.add(np.arange(300), vectors)
        if request.param == "index":
            return index
        index.save(tmp_path / "i.usearch")
        return nphd.NphdIndex.restore(tmp_path / "i.usearch", view=True)
    index = nphd.ShardedNphdIndex(path=tmp_path / "d", max_dim=256, shard_size=10_000)
    index.add(np.arange(300), vectors)
    if request.param == "directory":
        return index
    index.close()
    return nphd.ShardedNphdIndex(path=tmp_path / "d", read_only=True)


@pytest.mark.parametrize("radius", [31, 1.5, 256, -0.5, -math.inf, math.nan])
def test_radius_out_of_range_is_refused(filled, radius):
    query = np.zeros(32, np.uint8)
    for call in (
        lambda: filled.radius(query, radius),
        lambda: filled.search(query, 3, radius),
        lambda: filled.search(query, 3, radius, exact=True),
        lambda: filled.search(query, 3, radius, approximate=True),
        lambda: filled.search(np.zeros((3, 32), np.uint8), 3, radius),
        lambda: filled.radius_stream(query, radius, lambda *found: True),
        lambda: nphd.join(filled, radius=radius),
    ):
        with pytest.raises(ValueError, match="radius"):
            call()


def test_radius_within_range_and_without_limit(filled):
    query = np.zeros(32, np.uint8)
    for radius in (1, 1.0, math.inf):
        assert len(filled.search(query, 300, radius, exact=True)) == 300
        assert len(filled.radius(query, radius, 300)) == 300
    assert len(filled.radius(query, 0)) == 0


def test_radius_of_bits_is_a_number_of_bits(rows):
    index = nphd.Index(ndim=64, metric="hamming")
    index.add(np.arange(10), rows(10, 8))
    assert len(index.radius(np.zeros(8, np.uint8), 64, 10)) == 10
    assert len(index.radius(np.zeros(8, np.uint8), math.inf, 10)) == 10
    with pytest.raises(ValueError, match="radius"):
        index.radius(np.zeros(8, np.uint8), -1)


def test_an_index_is_not_iterable(filled):
    for go in (iter, list, tuple, reversed, lambda x: [v for v in x], lambda x: dict.fromkeys(x)):
        with pytest.raises(TypeError):
            go(filled)
    assert 5 in filled
    assert sorted(filled.keys) == list(range(300))


@pytest.mark.parametrize("form", ["keys", "vectors"])
@pytest.mark.parametrize("size", [3, 3000])
def test_going_through_an_index_that_changes_is_an_error(tmp_path, rows, form, size):
    single = nphd.NphdIndex()
    directory = nphd.ShardedNphdIndex(path=tmp_path / "d", max_dim=256)
    for index in (single, directory):
        index.add(np.arange(size), rows(size))
        with pytest.raises(RuntimeError, match="changed size during iteration"):
            for number, _ in enumerate(getattr(index, form)):
                index.add([10**6 + number], rows(1))
        assert len(index) == size + 1
        with pytest.raises(RuntimeError, match="changed size during iteration"):
            for _ in getattr(index, form):
                index.remove([0])
        for key in list(index.keys):  # as with a dict, a copy is fine
            index.remove([key])
        assert len(index) == 0


def test_masked_arrays_are_refused(tmp_path, rows):
    single = nphd.NphdIndex()
    directory = nphd.ShardedNphdIndex(path=tmp_path / "d", max_dim=256)
    for index in (single, directory):
        index.add(np.arange(1, 65), rows(64, 8))
        row = np.ma.masked_array(np.arange(8, dtype=np.uint8), mask=[0, 1] * 4)
        keys = np.ma.masked_array(np.arange(1, 4), mask=[0, 1, 0])
        for call in (
            lambda: index.add(100, row),
            lambda: index.add([100], [row]),
            lambda: index.add([100], row.reshape(1, 8)),
            lambda: index.upsert([1], row.reshape(1, 8)),
            lambda: index.search(row, 1),
            lambda: index.radius(row, 0.5),
            lambda: index.add(keys, rows(3, 8)),
            lambda: index.get(keys),
            lambda: index.contains(keys),
            lambda: index.remove(keys),
            lambda: index.contains(keys[1]),
        ):
            with pytest.raises(TypeError, match="masked|integer"):
                call()
        assert len(index) == 64
    directory.close()


def test_vectors_of_64_bits_in_numbers_are_told_how(rows):
    numbers = np.array([0x0102030405060708, 1], dtype=np.uint64)
    index = nphd.NphdIndex()
    with pytest.raises(TypeError, match=r"astype\('>u8'\)") as caught:
        index.add([1, 2], numbers)
    told = eval(str(caught.value).split(": ")[1].replace("numpy", "np"))
    index.add([1, 2], told)
    assert index.get(1).tobytes() == bytes(range(1, 9))


def test_a_vector_that_is_kept_does_not_keep_a_batch(rows):
    index = nphd.NphdIndex()
    index.add(np.arange(100), rows(100))
    assert all(vector.base is None for vector in index.get(np.arange(100)))


def test_pickle_of_an_index(tmp_path, rows):
    for index in (nphd.NphdIndex(), nphd.NphdIndex(key_bits=128), nphd.Index(ndim=256, metric="hamming"),
                  nphd.NphdIndex(multi=True)):
        vectors = rows(50)
        wide = index._keys.bits == 128
        keys = [k.to_bytes(16, "big") for k in range(50)] if wide else np.arange(50)
        for empty in (True, False):
            if not empty:
                index.add(keys, vectors)
            for again in (pickle.loads(pickle.dumps(index)), copy.deepcopy(index)):
                assert type(again) is type(index) and len(again) == len(index)
                assert again.multi == index.multi and again._keys is index._keys
                if not empty:
                    assert again.search(vectors[7], 1).to_list() == index.search(vectors[7], 1).to_list()
                    again.add(keys[:1], vectors[:1])


def test_any_kind_of_path(tmp_path, rows):
    for form in (str, pathlib.Path, os.fsencode):
        name = form.__name__
        single = nphd.NphdIndex(path=form(str(tmp_path / name)))
        single.add([1], rows(1))
        single.save()
        assert len(nphd.NphdIndex(path=form(str(tmp_path / name)))) == 1
        folder = form(str(tmp_path / (name + ".d")))
        with nphd.ShardedNphdIndex(path=folder, max_dim=256) as index:
            index.add([1], rows(1))
            index.save()
            index.snapshot(form(str(tmp_path / (name + ".s"))))
        assert nphd.verify(folder).ok
        bloom = nphd.ScalableBloomFilter(100)
        bloom.save(form(str(tmp_path / (name + ".b"))))
        nphd.ScalableBloomFilter.load(form(str(tmp_path / (name + ".b"))))


def test_changes_that_are_forgotten_are_told(tmp_path, rows):
    def forgotten(make, save):
        index = make()
        index.add([1], rows(1))
        if save:
            index.save()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del index
            gc.collect()
        return [str(w.message) for w in caught if w.category is ResourceWarning]

    for number, save in enumerate((True, False)):
        for kind in ("single", "directory"):
            path = tmp_path / f"{kind}{number}"
            told = forgotten(
                (lambda: nphd.NphdIndex(path=path)) if kind == "single"
                else (lambda: nphd.ShardedNphdIndex(path=path, max_dim=256)), save)  # fmt: skip
            assert told == [] if save else str(path) in told[0] and "1 unsaved" in told[0]
    assert forgotten(nphd.NphdIndex, False) == []  # in memory nothing was to be kept


def test_reset_then_close_keeps_the_files(tmp_path, rows):
    path = tmp_path / "d"
    with nphd.ShardedNphdIndex(path=path, max_dim=256, shard_size=10_000) as index:
        index.add(np.arange(300), rows(300))
        index.save()
        before = {file.name: file.read_bytes() for file in path.iterdir()}
        index.reset()
        assert index.dirty == 0 and len(index) == 0
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before
    with nphd.ShardedNphdIndex(path=path) as index:
        assert len(index) == 300
        index.reset()
        index.add([7], rows(1))  # something that is to be kept: now the reset counts
    with nphd.ShardedNphdIndex(path=path) as index:
        assert list(index.keys) == [7]
        index.reset()
        index.save()
    with nphd.ShardedNphdIndex(path=path) as index:
        assert len(index) == 0


def test_reset_lends_the_directory(tmp_path, rows):
    path = tmp_path / "d"
    index = nphd.ShardedNphdIndex(path=path, max_dim=256)
    index.add([1], rows(1))
    index.save()
    index.reset()
    with nphd.ShardedNphdIndex(path=path) as other:  # in one process, as with the reference
        assert list(other.keys) == [1]
        with pytest.raises(nphd.BusyError):
            index.add([2], rows(1))
        other.add([3], rows(1))
    with pytest.raises(nphd.ChangedError, match="open it anew"):
        index.add([2], rows(1))
    index.close()


def test_serialized_length_is_that_of_the_file(tmp_path, rows):
    with nphd.ShardedNphdIndex(path=tmp_path, max_dim=256) as index:
        index.add([1], rows(1))
        told = index.serialized_length
        index.save()
        assert told == index.serialized_length == index.stats()["active_bytes"]
        assert told == (tmp_path / "shard_000.usearch").stat().st_size


def test_filter_of_keys_of_any_length(tmp_path):
    # positions by the hash that the reference uses for them: XXH3 of the bytes, seeds 0 and 32
    keys = [b"", b"abc", b"x" * 7, b"y" * 8, b"z" * 15, b"w" * 16, b"v" * 17, b"u" * 32, b"t" * 300]
    bloom = nphd.ScalableBloomFilter(1000)
    bloom.add_batch(keys)
    bloom.save(tmp_path / "f")
    again = nphd.ScalableBloomFilter.load(tmp_path / "f")
    assert all(again.contains(key) for key in keys) and all(again.contains_batch(keys))
    assert sum(again.contains(key + b"?") for key in keys) == 0
    assert not again.contains(b"abc" + bytes(13))  # a shorter key was one padded with zeros


def test_rebuild_bloom_without_a_filter_is_refused(tmp_path, rows):
    with nphd.ShardedNphdIndex(path=tmp_path / "d", max_dim=256, bloom_filter=False) as index:
        index.add([1], rows(1))
        with pytest.raises(ValueError, match="bloom_filter=False"):
            index.rebuild_bloom()


@pytest.mark.parametrize("order", "<>")
def test_numbers_where_vectors_have_64_bits(tmp_path, order):
    numbers = np.array([0x0102030405060708, 1, 2**64 - 1], dtype=order + "u8")
    octets = numbers.astype(">u8").view(np.uint8).reshape(-1, 8)
    for index in (
        nphd.NphdIndex(max_dim=64), nphd.Index(ndim=64),
        nphd.ShardedNphdIndex(path=tmp_path / order, max_dim=64),
    ):
        index.add([1, 2, 3], numbers)
        assert [index.get(key).tolist() for key in (1, 2, 3)] == octets.tolist()
        index.upsert([2], numbers[:1])
        assert index.search(numbers, count=1, exact=True).keys.shape == (3, 1)
        assert index.search(numbers[2], count=1, exact=True).keys.tolist() == [3]  # a single one
        assert index.search(np.array(numbers[2]), count=1).keys.tolist() == [3]
        assert len(index.radius(numbers[0], 0).keys) == 2
        with pytest.raises(TypeError):
            index.add([4], np.ma.masked_array(numbers[:1], mask=[True]))
        with pytest.raises((TypeError, ValueError)):
            index.add([4], numbers.reshape(1, 3))  # two dimensions: bytes are meant
        with pytest.raises(TypeError):
            index.add([4], numbers[:1].astype(np.int64))
    wide = nphd.NphdIndex(max_dim=128)
    with pytest.raises(TypeError, match="vectors of 64 bits in one number"):
        wide.add([1, 2, 3], numbers)
