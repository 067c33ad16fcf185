"""What is refused because it could only be a mistake: radii that no distance has, and going through
an index as if it were a sequence, or while it changes."""

import math

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
