"""Ctrl-C and progress in every long call: the call ends, what it worked on is as it was, and it
goes through when it is made again."""

import logging
import os
import signal
import threading
import time

import numpy as np
import pytest
from conftest import SMALL, strays

import nphd
from nphd import CancelledError, NphdIndex, ShardedNphdIndex

COUNT = 300 if SMALL else 2000
JOURNALED = 2000 if SMALL else 12_000


@pytest.fixture(autouse=True)
def interruptible():
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, old)


def press(done, total):
    """Ctrl-C, while the library is at work."""
    signal.raise_signal(signal.SIGINT)
    return True


def refuse(done, total):
    return False


class Seen:
    """Goes on, and notes what it was told."""

    def __init__(self):
        self.told = []

    def __call__(self, done, total):
        assert 0 <= done <= total and total > 0
        self.told.append((done, total))

    def check(self):
        assert self.told and [done for done, _ in self.told] == sorted(d for d, _ in self.told)
        assert {total for _, total in self.told} == {1_000_000}


def build(path, rows):
    """Two shards with deletions, and a journal; as a process that was killed leaves it."""
    index = ShardedNphdIndex(path=path, max_dim=256, journal=True, expansion_add=8)
    index.add(np.arange(COUNT), rows(COUNT))
    index.rotate()
    index.remove(np.arange(10))
    index.save()
    index.add(np.arange(COUNT, 2 * COUNT), rows(COUNT))
    index.commit()
    keys = set(map(int, index.keys))
    index._core = None
    return keys


@pytest.fixture
def directory(tmp_path, rows):
    path = tmp_path / "index"
    return path, build(path, rows)


def expect(path, keys):
    with ShardedNphdIndex(path=path, read_only=True) as index:
        assert set(map(int, index.keys)) == keys
    assert strays(path) == []


ENDS = [(press, KeyboardInterrupt), (refuse, CancelledError)]
BOTH = pytest.mark.parametrize("progress, error", ENDS, ids=["ctrl-c", "False"])


@BOTH
@pytest.mark.parametrize("options", [{}, {"read_only": True}, {"journal": True}])
def test_opening(directory, progress, error, options):
    path, keys = directory
    with pytest.raises(error):
        ShardedNphdIndex(path=path, progress=progress, **options)
    expect(path, keys)
    seen = Seen()
    index = ShardedNphdIndex(path=path, progress=seen, **options)  # nobody has it open
    seen.check()
    told = len(seen.told)
    assert set(map(int, index.keys)) == keys
    index.close()
    assert len(seen.told) == told  # it is asked while opening alone


@BOTH
def test_refresh(directory, rows, progress, error):
    path, keys = directory
    with ShardedNphdIndex(path=path, read_only=True) as reader:
        with ShardedNphdIndex(path=path, journal=True) as writer:
            writer.add(np.arange(9000, 9100), rows(100))
            writer.commit()
            with pytest.raises(error):
                reader.refresh(progress=progress)
            assert set(map(int, reader.keys)) == keys
            seen = Seen()
            assert reader.refresh(progress=seen)
            seen.check()
            assert len(reader) == len(keys) + 100


@BOTH
def test_verify(directory, progress, error):
    path, _ = directory
    for what in (path, path / "shard_000.usearch"):
        with pytest.raises(error):
            nphd.verify(what, progress=progress)
        seen = Seen()
        assert nphd.verify(what, progress=seen)
        seen.check()


@BOTH
def test_salvage(directory, tmp_path, progress, error):
    path, keys = directory
    to = tmp_path / "new"
    with pytest.raises(error):
        nphd.salvage(path, to, progress=progress)
    assert not to.exists() or list(to.iterdir()) == []
    seen = Seen()
    assert nphd.salvage(path, to, progress=seen).vectors == len(keys)
    seen.check()
    expect(to, keys)


@BOTH
def test_salvage_late(directory, tmp_path, progress, error):
    path, _ = directory
    to = tmp_path / "new"
    with pytest.raises(error):
        nphd.salvage(
            path, to, progress=lambda done, total: done < total * 0.8 or progress(done, total)
        )
    assert list(to.iterdir()) == []


def do_save(index, to, progress):
    index.save(progress=progress)


def do_compact(index, to, progress):
    index.compact(progress=progress)


def do_snapshot(index, to, progress):
    index.snapshot(to, progress=progress)


def do_rebuild(index, to, progress):
    index.rebuild_bloom(log_progress=False, progress=progress)


@BOTH
@pytest.mark.parametrize("call", [do_save, do_compact, do_snapshot, do_rebuild])
def test_changes_of_a_directory(directory, tmp_path, rows, call, progress, error):
    path, keys = directory
    to = tmp_path / "copy"
    index = ShardedNphdIndex(path=path, journal=True)
    index.add([9999], rows(1))
    keys = keys | {9999}
    with pytest.raises(error):
        call(index, to, progress)
    assert set(map(int, index.keys)) == keys
    assert not to.exists() or list(to.iterdir()) == []
    call(index, to, None)
    assert set(map(int, index.keys)) == keys
    index.close()
    expect(path, keys)
    if call is do_snapshot:
        expect(to, keys)


@BOTH
def test_prepare(rows, progress, error):
    index = NphdIndex(connectivity=2, expansion_add=1)
    index.add(None, rows(17_000))
    with pytest.raises(error):
        index.prepare(progress=progress)
    seen = Seen()
    index.prepare(progress=seen)
    seen.check()


@BOTH
def test_files(tmp_path, rows, progress, error):
    path = tmp_path / "one.usearch"
    index = NphdIndex(expansion_add=8)
    index.add(None, rows(COUNT))
    with pytest.raises(error):
        index.save(path, progress=progress)
    assert list(tmp_path.iterdir()) == []
    index.save(path)
    with pytest.raises(error):
        NphdIndex.restore(path, progress=progress)
    other = NphdIndex()
    other.add([7], rows(1))
    with pytest.raises(error):
        other.load(path, progress=progress)
    with pytest.raises(error):
        other.view(path, progress=progress, verify=True)
    assert list(other.keys) == [7]
    assert len(NphdIndex.restore(path, progress=Seen())) == COUNT


def test_ctrl_c_without_progress(tmp_path, rows, caplog):
    """It is not kept until the journal is applied: that the work was done is in the log."""
    path = tmp_path / "index"
    index = ShardedNphdIndex(path=path, max_dim=256, journal=True)
    index.add([1], rows(1))
    index.save()
    index.add(np.arange(10, 10 + JOURNALED), rows(JOURNALED))
    index.commit()
    index._core = None

    def interrupt(number, frame):
        if frame is not None and frame.f_code.co_name == "_open":  # within the call
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    ended = threading.Event()

    def send():
        while not ended.is_set():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)

    thread = threading.Thread(target=send)
    with caplog.at_level(logging.DEBUG, logger="nphd"):
        thread.start()
        try:
            with pytest.raises(KeyboardInterrupt):
                ShardedNphdIndex(path=path, read_only=True)
        finally:
            ended.set()
            thread.join()
            signal.signal(signal.SIGINT, signal.default_int_handler)
        assert not [text for text in caplog.messages if "applied" in text]
        caplog.clear()
        with ShardedNphdIndex(path=path, read_only=True) as index:
            assert len(index) == 1 + JOURNALED
        assert [text for text in caplog.messages if "applied" in text]


def test_rotations_are_waited_for_in_slices(tmp_path, rows):
    index = ShardedNphdIndex(
        path=tmp_path / "index", max_dim=256, background_rotation=True, expansion_add=8
    )
    index.add(None, rows(COUNT))
    index.rotate()
    index.drain_rotations(timeout=60)
    index.drain_rotations()
    assert index.shard_count == 1
    index.close()
