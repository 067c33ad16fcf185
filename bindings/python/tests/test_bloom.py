"""ScalableBloomFilter, and the filter of sharded indexes."""

import pathlib

import numpy as np
import pytest

from nphd import ScalableBloomFilter

FIXTURES = pathlib.Path(__file__).resolve().parents[3] / "tests" / "fixtures"


def test_f1_new():
    bloom = ScalableBloomFilter(initial_capacity=500, fpr=0.02, growth_factor=3.0)
    assert (bloom.count, bloom.filter_count, bloom.current_capacity) == (0, 1, 500)
    assert (bloom.initial_capacity, bloom.fpr, bloom.growth_factor) == (500, 0.02, 3.0)
    bloom = ScalableBloomFilter()
    assert (bloom.initial_capacity, bloom.fpr, bloom.growth_factor) == (10_000_000, 0.01, 2.0)
    for wrong in ((0,), (10, 0), (10, 0.9), (10, 0.1, 0.5), (10, 0.1, 100), (2**32,)):
        with pytest.raises(ValueError):
            ScalableBloomFilter(*wrong)


def test_f2_f8_b15_keys():
    bloom = ScalableBloomFilter(1000)
    keys = [1, 2**63 - 1, 2**64 - 2, -5, b"", b"a", b"8 bytes!", b"x" * 16, b"long " * 9]
    for key in keys[:4]:
        bloom.add(key)
    bloom.add_batch(keys[4:])
    bloom.add_batch([])
    assert bloom.contains_batch([]) == [] and len(bloom) == bloom.count == len(keys)
    assert bloom.contains_batch(keys) == [True] * len(keys)
    assert all(type(answer) is bool for answer in bloom.contains_batch(keys))
    assert all(key in bloom and bloom.contains(key) is True for key in keys)
    assert 77 not in bloom and bloom.contains_batch([b"b", 78, b"y" * 16]) == [False] * 3
    for wrong in (1.5, "text", None, 2**64):
        with pytest.raises((TypeError, ValueError)):
            bloom.add(wrong)


def test_f2_arrays():
    bloom = ScalableBloomFilter(1000)
    bloom.add_batch(np.arange(100, dtype=np.uint64))
    bloom.add_batch(np.array([200, -1], dtype=np.int64))
    bloom.add_batch(np.array([b"z" * 16], dtype="V16"))
    assert all(bloom.contains_batch(range(100))) and 200 in bloom and -1 in bloom
    assert bloom.contains_batch(np.array([5, 500], dtype=np.uint64)) == [True, False]
    assert b"z" * 16 in bloom and bloom.count == 103


def test_f3_clear():
    bloom = ScalableBloomFilter(10)
    bloom.add_batch(range(100))
    bloom.clear()
    assert (bloom.count, bloom.filter_count, bloom.current_capacity) == (0, 1, 10)
    assert not any(bloom.contains_batch(range(100)))


def test_f4_growth():
    bloom = ScalableBloomFilter(initial_capacity=100)
    bloom.add_batch(range(100))
    assert bloom.filter_count == 1
    bloom.add_batch(range(100, 250))
    assert bloom.filter_count == 2 and bloom.current_capacity == 300
    assert all(bloom.contains_batch(range(250)))


def test_f5_save_and_load(tmp_path):
    bloom = ScalableBloomFilter(100, 0.05, 3.0)
    bloom.add_batch(range(500))
    bloom.save(tmp_path / "b.isbf")
    again = ScalableBloomFilter.load(tmp_path / "b.isbf")
    for name in "count filter_count initial_capacity fpr growth_factor current_capacity".split():
        assert getattr(again, name) == getattr(bloom, name)
    assert all(again.contains_batch(range(500)))
    again.add(5000)
    again.save(str(tmp_path / "b.isbf"))
    assert 5000 in ScalableBloomFilter.load(tmp_path / "b.isbf")
    assert [file.name for file in tmp_path.iterdir()] == ["b.isbf"]


def test_f6_wrong_files(tmp_path):
    path = tmp_path / "b.isbf"
    ScalableBloomFilter(100).save(path)
    data = path.read_bytes()
    path.write_bytes(b"XXXX" + data[4:])
    with pytest.raises(ValueError, match="Invalid bloom filter file"):
        ScalableBloomFilter.load(path)
    path.write_bytes(data[:4] + b"\x09" + data[5:])
    with pytest.raises(ValueError, match="Unsupported bloom filter version"):
        ScalableBloomFilter.load(path)
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        with pytest.raises((ValueError, RuntimeError)):
            ScalableBloomFilter.load(path)
    with pytest.raises(FileNotFoundError):
        ScalableBloomFilter.load(tmp_path / "none")


def test_f7_rate(rng):
    bloom = ScalableBloomFilter(initial_capacity=10_000, fpr=0.01)
    keys = rng.choice(2**62, 20_000, replace=False)
    bloom.add_batch(keys[:10_000])
    assert all(bloom.contains_batch(keys[:10_000]))
    assert sum(bloom.contains_batch(keys[10_000:])) < 300


@pytest.mark.parametrize("name", ["u64_350", "u64_full100", "uuid_150", "u64_empty"])
def test_files_of_the_reference(tmp_path, name):
    text = (FIXTURES / "bloom" / f"{name}.txt").read_text()
    keys = [line.split()[1] for line in text.splitlines() if line.startswith("key ")]
    keys = [bytes.fromhex(key) if "uuid" in name else int(key) for key in keys]
    original = FIXTURES / "bloom" / f"{name}.isbf"
    bloom = ScalableBloomFilter.load(original)
    assert bloom.count == len(keys) and all(bloom.contains_batch(keys))
    bloom.save(tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == original.read_bytes()
    # the same keys give the same bits
    fresh = ScalableBloomFilter(bloom.initial_capacity, bloom.fpr, bloom.growth_factor)
    fresh.add_batch(keys)
    fresh.save(tmp_path / "fresh")
    assert (tmp_path / "fresh").read_bytes() == original.read_bytes()


# ---- test_sharded_bloom.py ----


@pytest.mark.parametrize("bloom", [False, True])
def test_f9_f10_lookups(tmp_path, kind, rows, bloom):
    with kind.open(tmp_path, bloom_filter=bloom) as index:
        index.add(kind.keys(range(50)), rows(50))
        index.rotate()
        index.add(kind.key(60), rows(1)[0])
        assert index.stats()["bloom_keys"] == (51 if bloom else 0)
        asked = kind.keys([0, 49, 60, 70])
        assert index.contains(asked).tolist() == [True, True, True, False]
        assert index.get(kind.keys([70, 71])) == [None, None]


def test_f9_automatic_keys(tmp_path, kind64, rows):
    with kind64.open(tmp_path) as index:
        keys = index.add(None, rows(20))
        index.rotate()
        assert index.contains(keys).all()


def test_f11_file(tmp_path, kind, rows):
    with kind.open(tmp_path) as index:
        index.add(kind.keys(range(50)), rows(50))
        index.save()
        loaded = ScalableBloomFilter.load(tmp_path / "bloom.isbf")
        assert loaded.count == 50 and all(loaded.contains_batch(kind.keys(range(50))))
    with kind.open(tmp_path) as index:
        assert index.stats()["bloom_keys"] == 50


def test_f13_rebuild(tmp_path, kind, rows):
    with kind.open(tmp_path) as index:
        assert index.rebuild_bloom() == 0
        index.add(kind.keys(range(50)), rows(50))
        index.rotate()
        index.add(kind.keys(range(50, 60)), rows(10))
        index.remove(kind.key(3))
        assert index.rebuild_bloom(log_progress=True) == 59 == index.stats()["bloom_keys"]
    with kind.open(tmp_path) as index:
        assert index.contains(kind.keys(range(60))).sum() == 59


def test_f14_off_and_on_again(tmp_path, kind, rows):
    with kind.open(tmp_path) as index:
        index.add(kind.keys(range(10)), rows(10))
    with kind.open(tmp_path, bloom_filter=False) as index:
        index.add(kind.keys(range(10, 20)), rows(10))
    with kind.open(tmp_path) as index:
        assert index.contains(kind.keys(range(20))).all()
