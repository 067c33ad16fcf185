"""NphdIndex: adding, lookups, search, copies and files."""

import numpy as np
import pytest
from conftest import same

from nphd import NphdIndex


def u8(*octets):
    return np.array(octets, dtype=np.uint8)


# ---- test_nphd.py: N1 to N8 are about padding, which nobody sees here but by its effect ----


@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_n1_n4_n6_n8_lengths_come_back(length):
    index = NphdIndex(max_dim=40)
    index.add(1, np.arange(1, length + 1, dtype=np.uint8))
    assert index.get(1).tolist() == list(range(1, length + 1))


def test_n2_n5_n8_batches_come_back(ragged, rows):
    index = NphdIndex()
    vectors = ragged(50)
    index.add(range(50), vectors)
    index.add(range(50, 60), rows(10, 7))
    assert all(same(got, vector) for got, vector in zip(index.get(range(50)), vectors))
    assert {len(vector) for vector in index.get(range(50, 60))} == {7}


def test_n3_w16_too_long_is_refused():
    index = NphdIndex(max_dim=32)
    with pytest.raises(ValueError):
        index.add(1, np.zeros(8, dtype=np.uint8))
    assert len(index) == 0


def test_n7_w16_empty_is_refused():
    index = NphdIndex()
    with pytest.raises(ValueError):
        index.add([1, 2], [u8(1), u8()])
    assert len(index) == 0


def test_n9_sizes():
    index = NphdIndex()
    assert (index.max_dim, index.max_bytes, index.ndim) == (256, 32, 264)
    index = NphdIndex(max_dim=128)
    assert (index.max_dim, index.max_bytes, index.ndim) == (128, 16, 136)
    for wrong in (0, -8, 12, 2048):
        with pytest.raises(ValueError):
            NphdIndex(max_dim=wrong)


@pytest.mark.parametrize("name", ["ndim", "metric", "dtype"])
def test_n10_what_follows_from_max_dim(name):
    with pytest.raises(TypeError, match=name):
        NphdIndex(**{name: 64})
    with pytest.raises(TypeError, match="unexpected"):
        NphdIndex(other=1)


def test_n11_nearest():
    index = NphdIndex(max_dim=32)
    vectors = [u8(0, 0, 0, 0), u8(255, 255, 255, 255), u8(0, 255, 0, 255)]
    index.add([1, 2, 3], vectors)
    for key, vector in zip([1, 2, 3], vectors):
        assert index.search(vector, 1).keys.tolist() == [key]


def test_n12_batch():
    index = NphdIndex()
    vectors = [u8(i, i + 1, i + 2) for i in range(5)]
    index.add(range(5), vectors)
    assert len(index) == 5
    assert index.search(vectors[0], 1).keys[0] == 0


def test_n13_prefixes():
    index = NphdIndex()
    index.add([1, 2, 3], [u8(1), u8(1, 2), u8(1, 2, 3)])
    matches = index.search(u8(1, 2), 10)
    assert 2 in matches.keys and not matches.distances.any()


# ---- test_nphd_add.py ----


def test_a1_a8_always_an_array():
    index = NphdIndex()
    for keys in (index.add(7, u8(1)), index.add([8], [u8(2)]), index.add(None, u8(3))):
        assert isinstance(keys, np.ndarray) and keys.dtype == np.uint64 and keys.shape == (1,)
    assert len(index) == 3


def test_a2_automatic_keys():
    assert NphdIndex().add(None, u8(1)).tolist() == [0]
    assert NphdIndex().add(None, [u8(1), u8(1, 2), u8(3)]).tolist() == [0, 1, 2]
    assert NphdIndex().add(None, np.eye(3, dtype=np.uint8)).tolist() == [0, 1, 2]


def test_a3_keys_in_order():
    index = NphdIndex()
    assert index.add([9, 4, 6], [u8(1), u8(1, 2), u8(3)]).tolist() == [9, 4, 6]
    assert index.add(np.array([3, 2, 1]), np.eye(3, dtype=np.uint8)).tolist() == [3, 2, 1]


def test_a4_present_keys_are_skipped():
    index = NphdIndex()
    index.add(1, u8(1))
    assert index.add([1, 2, 2], [u8(9), u8(2), u8(3)]).tolist() == [1, 2, 2]
    assert index.get([1, 2])[0].tolist() == [1] and index.get(2).tolist() == [2]
    assert len(index) == 2 and index.dirty == 2


def test_a5_w6_automatic_keys_pass_over_those_in_use():
    index = NphdIndex()
    assert index.add(None, u8(1)).tolist() == [0]
    index.add(1, u8(2))
    index.add(100, u8(2))
    assert index.add(None, [u8(3), u8(4)]).tolist() == [2, 3]
    index.remove(3)
    assert index.add(None, u8(5)).tolist() == [4]


def test_a6_shortest_and_longest(rows):
    index = NphdIndex()
    index.add([1, 2], [u8(1), rows(1)[0]])
    assert [len(vector) for vector in index.get([1, 2])] == [1, 32]


def test_a7_counts_up():
    index = NphdIndex()
    for i in range(5):
        index.add(i, u8(i))
        assert len(index) == i + 1 == index.size


def test_count_mismatch():
    index = NphdIndex()
    with pytest.raises(ValueError, match="must match"):
        index.add([1, 2], [u8(1)])
    with pytest.raises(ValueError, match="must match"):
        index.add([1, 2], u8(1, 2))


# ---- test_nphd_get.py ----


def test_g1_g4_get():
    index = NphdIndex()
    index.add([1, 2], [u8(1, 2, 3), u8(4)])
    assert index.get(1).ndim == 1 and index.get(1).tolist() == [1, 2, 3]
    assert index.get(3) is None
    got = index.get([2, 3, 1])
    assert isinstance(got, list) and got[0].tolist() == [4] and got[1] is None and len(got[2]) == 3
    assert index.get([8, 9]) == [None, None]
    assert index.get([]) == []
    mine = index.get(1)
    mine[0] = 99  # a copy of the caller's own
    for key in (1, np.uint64(1), np.int8(1), np.array(1)):
        assert index.get(key).tolist() == [1, 2, 3] and index.contains(key) and index.count(key) == 1
    for wrong in (-1, 2**64, 2**70):
        for call in (index.get, index.contains, index.count):
            with pytest.raises(ValueError, match=r"0 to 2\*\*64"):
                call(wrong)


def test_g5_multi():
    index = NphdIndex(multi=True)
    index.add([1, 1, 2], [u8(1), u8(1, 2), u8(3)])
    assert sorted(vector.tolist() for vector in index.get(1)) == [[1], [1, 2]]
    assert [vector.tolist() for vector in index.get(2)] == [[3]]
    assert index.get(9) is None
    some = index.get([2, 9])
    assert some[0][0].tolist() == [3] and some[1] is None


# ---- test_nphd_search.py ----


@pytest.fixture
def three():
    index = NphdIndex()
    index.add([1, 2, 3], [u8(255, 0, 255, 0), u8(255, 0, 255, 1), u8(0, 255, 0, 255)])
    return index


def test_s1_s3_s4_one_query(three):
    matches = three.search(u8(255, 0, 255, 0))
    assert matches.keys.tolist() == [1, 2, 3] and matches.distances.dtype == np.float32
    assert matches.distances[0] == 0 and matches.distances[1] == np.float32(1 / 32)
    assert (np.diff(matches.distances) > 0).all()
    assert matches.computed_distances >= 3 and matches.visited_members >= 0


def test_s2_two_queries(three):
    batch = three.search([u8(255, 0, 255, 0), u8(0, 255)], count=2)
    assert len(batch) == 2 and batch.keys.shape == batch.distances.shape == (2, 2)
    assert batch.counts.tolist() == [2, 2] and batch[1].keys[0] == 3
    assert [len(matches) for matches in batch] == [2, 2]


def test_s5_lengths():
    index = NphdIndex()
    index.add([1, 2, 3], [u8(1, 2, 3, 4, 5, 6, 7, 9), u8(1, 2, 3, 4), u8(9, 9)])
    matches = index.search(u8(1, 2, 3, 4), 3)
    assert matches.distances[0] == 0 and 2 in matches.keys[:2] and matches.keys[2] == 3


def test_s6_s7_count(three):
    assert len(three.search(u8(255), 2)) == 2
    assert len(three.search(u8(255), 1000)) == 3
    assert len(NphdIndex().search(u8(255))) == 0
    batch = NphdIndex().search([u8(1), u8(2)], 4)
    assert batch.counts.tolist() == [0, 0] and np.isnan(batch.distances).all()


def test_s8_s9_exact_and_threads(three):
    query = u8(255, 0, 255, 1)
    exact = three.search(query, exact=True)
    assert exact.exact
    assert exact.to_list() == three.search(query, approximate=True).to_list()
    assert exact.to_list() == three.search(query, threads=2).to_list()


@pytest.mark.parametrize("count", [0, -1])
def test_s10_count_out_of_range(three, count):
    with pytest.raises(ValueError):
        three.search(u8(1), count)


def test_one_row_is_one_query(three):
    assert three.search(np.array([[255, 0]], dtype=np.uint8), 1).keys.tolist() == [1]


# ---- copy, load, view, restore ----


def test_p1_p2_copy(ragged):
    index = NphdIndex(max_dim=256, connectivity=8, expansion_add=33, expansion_search=44)
    index.add(range(20), ragged(20))
    other = index.copy()
    assert isinstance(other, NphdIndex)
    for name in "max_dim max_bytes connectivity expansion_add expansion_search size".split():
        assert getattr(other, name) == getattr(index, name)
    assert all(same(a, b) for a, b in zip(other.get(range(20)), index.get(range(20))))
    other.remove(1)
    other.add(99, u8(1))
    assert 1 in index and 99 not in index


@pytest.mark.parametrize("view", [False, True])
@pytest.mark.parametrize("memory", [False, True])
def test_p3_p5_p6_p7_p8_files(tmp_path, ragged, view, memory):
    index = NphdIndex()
    vectors = ragged(100)
    index.add(range(100), vectors)
    before = index.search(vectors[3], 20)
    path = tmp_path / "a.usearch"
    source = index.save() if memory else path
    if memory:
        assert len(source) == index.serialized_length and index.dirty == 100
    else:
        assert index.save(path) is None and index.dirty == 0
    other = NphdIndex()
    (other.view if view else other.load)(source)
    restored = NphdIndex.restore(source, view=view)
    for copy in (other, restored):
        assert isinstance(copy, NphdIndex) and copy.dirty == 0 and copy.is_view == view
        assert all(same(copy.get(i), vector) for i, vector in enumerate(vectors))
        assert copy.search(vectors[3], 20).to_list() == before.to_list()
        if view:
            with pytest.raises(RuntimeError):
                copy.add(500, u8(1))
        else:
            copy.add(500, u8(1))
            assert len(copy) == 101


@pytest.mark.parametrize("bits", [64, 128, 192, 256])
def test_p4_width_of_the_file(tmp_path, rows, bits):
    index = NphdIndex(max_dim=bits)
    index.add(1, rows(1, bits // 8)[0])
    index.save(tmp_path / "a")
    for name in ("load", "view"):
        other = NphdIndex(max_dim=248)
        getattr(other, name)(tmp_path / "a")
        assert other.max_dim == bits and len(other.get(1)) == bits // 8


def test_p9_missing(tmp_path):
    assert NphdIndex.restore(tmp_path / "none") is None
    assert NphdIndex.metadata(tmp_path / "none") is None
    for name in ("load", "view"):
        with pytest.raises(FileNotFoundError):
            getattr(NphdIndex(), name)(tmp_path / "none")


def test_path_of_the_constructor(tmp_path):
    path = tmp_path / "a.usearch"
    index = NphdIndex(path=path)
    index.add(1, u8(1))
    assert index.save() is None and path.exists()
    assert len(NphdIndex(path=path)) == 1
    assert NphdIndex(path=path, view=True).is_view
    index.add(2, u8(2))
    index.load()
    assert len(index) == 1


def test_j12_another_path_than_the_bound_one(tmp_path):
    index = NphdIndex(path=tmp_path / "a")
    index.add(1, u8(1))
    index.save(tmp_path / "b")
    assert (tmp_path / "b").exists() and not (tmp_path / "a").exists()


# ---- test_usearch_*.py ----


def test_ue2_ue3_multi():
    index = NphdIndex(multi=True)
    index.add([1, 1, 1, 2], [u8(1), u8(1), u8(7), u8(9)])
    assert len(index) == 4 and index.count(1) == 3
    assert index.search(u8(7), 1).keys.tolist() == [1]
    assert index.remove([1]) == 3 and index.remove(2) is True
    with pytest.raises(ValueError, match="multi=False"):
        index.upsert(1, u8(1))


def test_ue4_remove(ragged):
    index = NphdIndex()
    index.add(range(10), ragged(10))
    assert index.remove(1) is True and index.remove(1) is False
    assert index.remove([]) == 0
    assert index.remove([2, 3, 3, 99], compact=True) == 2
    index.add(1, u8(5))
    assert index.get(1).tolist() == [5] and len(index) == 8


def test_ue5_batch_equals_loop(ragged):
    index = NphdIndex()
    keys = [0, 5, 2**63 - 1, 2**63, 2**64 - 2]
    index.add(keys, ragged(5))
    asked = [*keys, 1, 7]
    assert index.contains(asked).tolist() == [index.contains(key) for key in asked]
    assert index.count(asked).tolist() == [index.count(key) for key in asked] == [1] * 5 + [0] * 2
    assert type(index.contains(0)) is bool and type(index.count(0)) is int
    assert index.contains([]).shape == (0,) and index.count([]).dtype == np.uint64


def test_ue6_lookups_off():
    index = NphdIndex(enable_key_lookups=False)
    index.add([1, 2], [u8(1), u8(2)])
    assert not index.contains(1) and index.get(1) is None and index.count(1) == 0
    assert not index.contains([1, 2]).any() and index.get([1, 2]) == [None, None]
    assert len(index) == 2 and index.search(u8(2), 1).keys[0] == 2


def test_ue7_search_details(rows):
    index = NphdIndex()
    vectors = rows(30)
    index.add(range(30), vectors)
    assert len(index.search(vectors[0])) == 10
    pairs = index.search(vectors[0], 3).to_list()
    assert pairs[0] == (0, 0.0) and all(isinstance(key, int) for key, _ in pairs)
    batch = index.search(vectors[:3], 100)
    assert batch.counts.tolist() == [30] * 3 and batch.keys.shape == (3, 100)
    assert batch.keys[0, 30:].tolist() == [0] * 70 and len(batch.to_list()[1]) == 30


def test_ue9_saving(tmp_path):
    index = NphdIndex(max_dim=64)
    index.save(tmp_path / "a")
    assert len(NphdIndex.restore(tmp_path / "a")) == 0
    told = []
    index.add(range(100), np.zeros((100, 8), dtype=np.uint8))
    index.save(tmp_path / "a", progress=lambda done, total: told.append((done, total)))
    assert told and all(done <= total for done, total in told)
    assert len(NphdIndex.restore(tmp_path / "a")) == 100


def test_ue10_loaded_and_viewed(tmp_path, rows):
    index = NphdIndex()
    vectors = rows(20)
    index.add(range(20), vectors)
    index.save(tmp_path / "a")
    index.load(tmp_path / "a")
    index.remove(3)
    assert index.search(vectors[3], 1, exact=True).keys[0] != 3
    index.view(tmp_path / "a")
    assert index.search(vectors[3], 1, exact=True).keys[0] == 3
    index.reset()
    index.add(1, vectors[1])
    assert len(index) == 1


def test_ue12_metadata(tmp_path):
    index = NphdIndex(max_dim=128)
    index.save(tmp_path / "a")
    for source in (tmp_path / "a", index.save()):
        record = NphdIndex.metadata(source)
        assert record["dimensions"] == 136 and record["max_dim"] == 128
        assert record["kind_metric"].name == "NPHD" and record["count_present"] == 0
    with pytest.raises(RuntimeError):
        NphdIndex.metadata(b"no index file at all" * 10)


def test_ue13_keys(tmp_path, ragged):
    index = NphdIndex()
    index.add(range(50), ragged(50))
    index.remove([3, 7])
    expected = sorted(set(range(50)) - {3, 7})
    index.save(tmp_path / "a")
    for other in (
        index,
        NphdIndex(path=tmp_path / "a"),
        NphdIndex(path=tmp_path / "a", view=True),
        NphdIndex.restore(tmp_path / "a"),
    ):
        assert sorted(other.keys) == expected and list(other.keys) == list(other.keys)
        assert len(other.keys) == 48 and np.asarray(other.keys).dtype == np.uint64
        assert all(same(other.get(k), v) for k, v in zip(other.keys, other.vectors))
    assert index.keys[0] in expected and index.keys[-1] == list(index.keys)[-1]
    assert index.keys[2:5].tolist() == list(index.keys)[2:5]
    for place in (48, -49):
        with pytest.raises(IndexError):
            index.keys[place]


def test_state(ragged):
    index = NphdIndex(connectivity=8)
    assert index.connectivity == 8 and index.max_level == -1
    index.add(range(10), ragged(10))
    assert index.capacity >= 10 and index.memory_usage > 0 and index.serialized_length > 0
    assert index.nlevels == index.max_level + 1 and index.stats.nodes == 10
    assert index.stats.max_edges >= index.stats.edges > 0
    index.expansion_add, index.expansion_search = 77, 88
    assert (index.expansion_add, index.expansion_search) == (77, 88)
    assert index.hardware_acceleration in index.specs.values()
    index.clear()
    assert len(index) == 0
    for name in ("join", "cluster"):
        with pytest.raises(NotImplementedError):
            getattr(index, name)()
