"""Keys of 16 bytes."""

import struct

import numpy as np
import pytest
from conftest import same

import nphd


@pytest.fixture
def index(tmp_path, kind128):
    with kind128.open(tmp_path, 64) as index:
        yield index


VECTOR = np.arange(8, dtype=np.uint8)


def test_b1_b2_types(index, kind128, rows):
    assert index.add(b"a" * 16, VECTOR).dtype == np.dtype("V16")
    keys = [b"b" * 16, b"c" * 16]
    assert [bytes(key) for key in index.add(keys, rows(2, 8))] == keys
    matches = index.search(VECTOR, 3)
    assert matches.keys.dtype == np.dtype("V16") and matches[0].key == b"a" * 16
    assert index.search(rows(2, 8), 3).keys.dtype == np.dtype("V16")


def test_b3_lookups(index):
    index.add([b"a" * 16, b"b" * 16], [VECTOR, VECTOR])
    asked = [b"b" * 16, b"z" * 16]
    assert index.contains(asked).tolist() == [True, False]
    assert index.count(asked).tolist() == [1, 0] and same(index.get(asked)[0], VECTOR)
    assert index.get([]) == [] and len(index.contains([])) == 0 == len(index.count([]))
    assert b"a" * 16 in index and np.void(b"a" * 16) in index


WRONG = [
    (b"short", "16"),
    (np.zeros(2, dtype=np.uint64), "dtype 'V16'"),
    ([b"a" * 16, b"short"], "bytes of length 16"),
    ([1, 2], "bytes of length 16"),
    (7, r"must be bytes\(16\) or iterable"),
]


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("name", "add add_once upsert remove get contains count".split())
@pytest.mark.parametrize("wrong,text", WRONG)
def test_b4_o9_l14_validation(index, name, wrong, text, closed):
    if closed:
        index.close()
    arguments = (np.stack([VECTOR, VECTOR]),) if name in ("add", "add_once", "upsert") else ()
    with pytest.raises(ValueError, match=text):
        getattr(index, name)(wrong, *arguments)


@pytest.mark.parametrize("name", ["add", "add_once", "upsert"])
def test_b4_no_automatic_keys(index, name):
    with pytest.raises(ValueError, match="Auto-key generation not supported"):
        getattr(index, name)(None, VECTOR)


@pytest.mark.parametrize("name", ["remove", "get", "contains", "count"])
def test_b4_none(index, name):
    with pytest.raises(ValueError, match="must be bytes"):
        getattr(index, name)(None)


def test_b6_reopen(tmp_path, kind128, rows):
    vectors = rows(20, 8)
    with kind128.open(tmp_path / "a", 64) as index:
        index.add(kind128.keys(range(20)), vectors)
    with kind128.open(tmp_path / "a", None) as index:
        assert sorted(index.keys) == kind128.keys(range(20)) and index.bloom_filter
        assert all(same(index.get(kind128.key(i)), vectors[i]) for i in range(20))


def test_b7_keys_of_another_width(tmp_path, kind128):
    other = {"ShardedIndex128": nphd.ShardedIndex, "ShardedNphdIndex128": nphd.ShardedNphdIndex}
    options = {} if kind128.nphd else {"metric": "hamming"}
    width = "max_dim" if kind128.nphd else "ndim"
    with other[kind128.cls.__name__](path=tmp_path / "a", **{width: 64}, **options) as index:
        index.add(1, VECTOR)
    with pytest.raises(ValueError, match="key"):
        kind128.open(tmp_path / "a", None)


def test_b9_w34_extreme_keys(index):
    index.add(b"\0" * 16, VECTOR)
    index.rotate()
    assert same(index.get(b"\0" * 16), VECTOR)
    with pytest.raises(ValueError):
        index.add(b"\xff" * 16, VECTOR)


def test_b10_composite_keys(index):
    key = struct.pack(">QQ", 123456789, 2**63 + 5)
    index.add(key, VECTOR)
    assert struct.unpack(">QQ", index.search(VECTOR, 1)[0].key) == (123456789, 2**63 + 5)


def test_b11_rebuild(index, kind128, rows):
    index.add(kind128.keys(range(30)), rows(30, 8))
    assert index.rebuild_bloom() == 30
    assert index.contains(kind128.keys(range(100, 130))).sum() == 0


def test_b13_key_kind_is_ignored(tmp_path, kind128):
    kind128.open(tmp_path / "a", 64, key_kind="u64").close()


def test_order_is_bytewise(index):
    keys = [b"\x01" + b"\0" * 15, b"\0" * 15 + b"\x01", b"\x80" + b"\0" * 15]
    index.add(keys, [VECTOR] * 3)
    assert [match.key for match in index.search(VECTOR, 3)] == sorted(keys)


def test_single_index():
    index = nphd.NphdIndex(key_bits=128)
    index.upsert([b"a" * 16, b"b" * 16], [b"x", b"yz"])
    index.rename(b"a" * 16, b"c" * 16)
    assert bytes(index.get(b"c" * 16)) == b"x" and index.search(b"y", 1)[0].key == b"b" * 16
    again = nphd.NphdIndex.restore(index.save())
    assert sorted(again.keys) == [b"b" * 16, b"c" * 16]
    with pytest.raises(ValueError):
        nphd.NphdIndex().load(index.save())
