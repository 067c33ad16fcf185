"""ISCC-IDs as keys: the same ones as those of the program, in and out."""

import numpy as np
import pytest

import nphd

KEYS = [0, 1, 42, 1 << 52, (1 << 64) - 2]
IDS = [nphd.iscc_id(key) for key in KEYS]


def test_values():
    assert nphd.iscc_id(0x0123456789ABCDEF) == "ISCC:MEIACI2FM6E2XTPP"  # as `nphd get` prints it
    assert [nphd.iscc_id_key(text) for text in IDS] == KEYS
    assert nphd.iscc_id_key(IDS[2].lower()) == 42
    assert nphd.iscc_id(np.array(KEYS, dtype=np.uint64)) == IDS == nphd.iscc_id(KEYS)
    assert nphd.iscc_id(np.uint64(42)) == nphd.iscc_id(np.array(42)) == IDS[2]
    other = nphd.iscc_id(42, realm=0)
    assert other != IDS[2] and nphd.iscc_id_key(other, realm=0) == 42
    unit = nphd.decode_iscc(IDS[1])
    assert (unit.main_type, unit.sub_type, unit.version) == (6, 1, 1)


@pytest.mark.parametrize(
    "text, why",
    [
        ("42", "an ISCC-ID with its prefix"),
        ("", "an ISCC-ID with its prefix"),
        ("ISCC:EAARMJLTQCUWAND2", "no ISCC-ID"),
        (nphd.iscc_id(42, realm=0), "of realm 0, not 1"),
        (IDS[1][:-1], "ISCC"),
    ],
)
def test_refused(text, why, rows):
    index = nphd.NphdIndex()
    for call in (lambda: nphd.iscc_id_key(text), lambda: index.add(text, rows(1)),
                 lambda: index.add([text], rows(1)), lambda: text in index):
        with pytest.raises(ValueError, match=why):
            call()
    assert len(index) == 0
    with pytest.raises(ValueError):
        nphd.iscc_id(-1)
    with pytest.raises(ValueError):
        nphd.iscc_id(1, realm=256)


@pytest.mark.parametrize("sharded", [False, True])
def test_as_keys(tmp_path, rows, sharded):
    index = nphd.ShardedNphdIndex(path=tmp_path, max_dim=256) if sharded else nphd.NphdIndex()
    vectors = rows(6)
    assert index.add(IDS[:3], vectors[:3]).tolist() == KEYS[:3]
    assert index.add(np.array(IDS[3:]), vectors[3:5]).tolist() == KEYS[3:]
    assert list(index.keys) == KEYS if not sharded else sorted(index.keys) == sorted(KEYS)
    assert IDS[0] in index and index.count(IDS[1]) == 1
    assert index.contains(IDS).tolist() == [True] * 5
    assert (index.get(IDS[2]) == vectors[2]).all() and (index[IDS[2]] == index[42]).all()
    index.upsert(IDS[2], vectors[5])
    assert nphd.iscc_id(index.search(vectors[5], count=1).keys) == [IDS[2]]
    index.remove(IDS[0])
    del index[IDS[1]]
    assert sorted(index.keys) == sorted(KEYS[2:])
    with pytest.raises((TypeError, ValueError)):
        index.add([IDS[0], None], vectors[:2])
