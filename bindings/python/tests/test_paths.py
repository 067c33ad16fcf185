"""Everything that takes a path takes text, bytes and os.PathLike. Of what takes a path or the bytes
of a file (load, view, restore, metadata of a single index), bytes are those of the file."""

import os
import pathlib

import pytest

import nphd

NAME = "a name with ü and \udcff"  # the last is a byte that is no UTF-8


class OfBytes:
    """A path whose __fspath__ gives bytes."""

    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return os.fsencode(self.path)


FORMS = {"str": str, "bytes": os.fsencode, "Path": pathlib.Path, "PathLike": OfBytes}


@pytest.fixture(params=FORMS)
def form(request):
    return FORMS[request.param]


def test_single(tmp_path, rows, form):
    place = tmp_path / NAME
    path = form(str(place))
    index = nphd.NphdIndex()
    index.add(range(5), rows(5))
    index.save(path)
    assert place.is_file() and nphd.verify(path).ok
    if not isinstance(path, bytes):
        assert nphd.NphdIndex.metadata(path)["key_bits"] == 64
        assert len(nphd.NphdIndex.restore(path)) == len(nphd.NphdIndex.restore(path, view=True)) == 5
        for call in ("load", "view"):
            other = nphd.NphdIndex()
            getattr(other, call)(path)
            assert len(other) == 5
    given = nphd.NphdIndex(path=path)
    assert len(given) == 5
    given.add(9, rows(1))
    given.save()
    assert len(nphd.NphdIndex.restore(place)) == 6


def test_sharded(tmp_path, rows, form):
    place = tmp_path / NAME
    path = form(str(place))
    with nphd.ShardedNphdIndex(path=path, max_dim=256) as index:
        index.add(range(5), rows(5))
        assert index.path == place
        index.snapshot(form(str(place) + " copy"))
    assert nphd.ShardedNphdIndex.metadata(path)["key_bits"] == 64
    assert nphd.verify(path).ok and nphd.verify(form(str(place) + " copy")).ok
    assert nphd.salvage(path, form(str(place) + " new")).vectors == 5
    with nphd.ShardedNphdIndex(path=form(str(place) + " new"), read_only=True) as index:
        assert len(index) == 5


def test_filter(tmp_path, form):
    path = form(str(tmp_path / NAME))
    bloom = nphd.ScalableBloomFilter(1000)
    bloom.add(b"key")
    bloom.save(path)
    assert nphd.ScalableBloomFilter.load(path).contains(b"key")
