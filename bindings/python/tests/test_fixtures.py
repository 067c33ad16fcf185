"""Files of the reference, opened from Python: content and exact answers."""

import pathlib
import shutil

import numpy as np
import pytest

import nphd

FIXTURES = pathlib.Path(__file__).resolve().parents[3] / "tests" / "fixtures"
NAMES = """nphd256_n0 nphd256_n1 nphd256_n1000 nphd256_removed nphd256_reused nphd256_edgekeys
    nphd256_m32 nphd256_allremoved hamming256_n1000 uuid_nphd256_n200
    uuid_nphd256_removed""".split()


def told(name):
    """What the text beside a file says: settings, items by key, exact answers by query."""
    facts, items, queries, tops = {}, {}, {}, {}
    for line in (FIXTURES / "usearch" / f"{name}.txt").read_text().splitlines():
        word, *rest = line.split()
        if word == "item":
            items[rest[1]] = bytes.fromhex(rest[2])
        elif word == "query":
            queries[rest[0]] = bytes.fromhex(rest[1])
        elif word == "top":
            tops.setdefault(rest[0], []).append((rest[2], float(rest[3])))
        elif word in ("key_bytes", "connectivity", "metric", "live"):
            facts[word] = rest[0]
    keys = {key: bytes.fromhex(key) if facts["key_bytes"] == "16" else int(key) for key in
            [*items, *(key for top in tops.values() for key, _ in top)]}  # fmt: skip
    return facts, {keys[k]: v for k, v in items.items()}, [
        (queries[q], [(keys[k], np.float32(d)) for k, d in tops.get(q, [])]) for q in queries
    ]  # fmt: skip


def check(index, facts, items, queries):
    assert len(index) == len(items) == int(facts["live"])
    assert sorted(index.keys) == sorted(items)
    assert all(bytes(vector) == items[key] for key, vector in zip(index.keys, index.vectors))
    for query, top in queries:
        found = index.search(query, max(len(top), 1), exact=True).to_list()
        assert [(key, np.float32(distance)) for key, distance in found] == top[: len(found)]
        assert len(found) == len(top)


@pytest.mark.parametrize("view", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_single_files(name, view):
    facts, items, queries = told(name)
    cls = nphd.Index if facts["metric"] == "hamming" else nphd.NphdIndex
    index = cls.restore(FIXTURES / "usearch" / f"{name}.usearch", view=view)
    check(index, facts, items, queries)
    check(cls.restore(index.save(), view=view), facts, items, queries)


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("name", ["nphd256_n1000", "hamming256_n1000", "uuid_nphd256_n200"])
def test_directories(tmp_path, name, read_only):
    """A directory as the reference leaves it: a shard and nothing else of ours."""
    facts, items, queries = told(name)
    cls = getattr(
        nphd,
        "Sharded"
        + ("" if facts["metric"] == "hamming" else "Nphd")
        + "Index"
        + ("128" if facts["key_bytes"] == "16" else ""),
    )
    shutil.copy(FIXTURES / "usearch" / f"{name}.usearch", tmp_path / "shard_000.usearch")
    with cls(path=tmp_path, read_only=read_only) as index:
        assert index.connectivity == int(facts["connectivity"])
        check(index, facts, items, queries)
        if not read_only:
            index.remove(list(items)[0])
    with cls(path=tmp_path) as index:
        assert len(index) == len(items) - (not read_only)


def test_tombstones_of_the_reference(tmp_path):
    """They touch every shard but the last, which was the active one."""
    _, old, _ = told("nphd256_n1000")
    _, new, _ = told("nphd256_removed")
    shutil.copy(FIXTURES / "usearch" / "nphd256_n1000.usearch", tmp_path / "shard_000.usearch")
    shutil.copy(FIXTURES / "usearch" / "nphd256_removed.usearch", tmp_path / "shard_001.usearch")
    gone = np.array(sorted(set(old) - set(new))[:3], dtype="<u8")
    np.save(tmp_path / "tombstones.npy", gone)
    for read_only in (True, False):
        with nphd.ShardedNphdIndex(path=tmp_path, read_only=read_only) as index:
            assert not index.contains(gone).any() and index.tombstone_count == 3
            assert sorted(index.keys) == sorted((set(old) | set(new)) - set(gone.tolist()))


@pytest.mark.parametrize("name", ["cos16_f32_n200", "nphd256_novectors_n40"])
def test_what_is_not_implemented(name):
    path = FIXTURES / "usearch" / f"{name}.usearch"
    assert nphd.NphdIndex.metadata(path) is not None
    with pytest.raises((NotImplementedError, ValueError)):
        nphd.NphdIndex.restore(path)


def test_w39_old_nphd_files():
    path = FIXTURES / "usearch" / "nphd256_legacy_kind_b.usearch"
    with pytest.raises(ValueError):
        nphd.NphdIndex.restore(path)
    index = nphd.NphdIndex()
    index.load(path, legacy_nphd=True)
    facts, items, queries = told("nphd256_legacy_kind_b")
    check(index, facts, items, queries)
