"""Objects in a child process made by fork: a directory is changed by its opener alone, closing in
the child writes nothing and waits for nobody, readers and indexes in memory go on."""

import multiprocessing
import os
import signal
import threading
import time
import warnings

import nphd
import numpy as np
import pytest

warnings.filterwarnings("ignore", message=".*use of fork.*", category=DeprecationWarning)

KINDS = {
    "plain": {},
    "journal": {"journal": True, "commit_each_call": True},
    "threads": {"background_rotation": True, "shard_size": 100_000, "commit_interval_ms": 5},
}


def in_child(work):
    """The exit status of a child that runs `work`; 14: it hung."""
    child = os.fork()
    if child == 0:
        status = 1
        signal.alarm(20)
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1]


def refused(call, *arguments):
    with pytest.raises(nphd.ForkedError, match="forked") as caught:
        call(*arguments)
    assert caught.value.status == "FORKED"
    assert isinstance(caught.value, RuntimeError)


@pytest.mark.parametrize("kind", KINDS)
def test_a_child_cannot_change_the_directory_of_its_parent(tmp_path, rows, kind):
    vectors = rows(2000)
    index = nphd.ShardedNphdIndex(path=tmp_path / "d", max_dim=256, **KINDS[kind])
    index.add(np.arange(2000), vectors)

    def work():
        refused(index.add, [7000], vectors[:1])
        refused(index.upsert, [0], vectors[:1])
        refused(index.add_once, [7000], vectors[:1])
        refused(index.remove, [0])
        refused(index.commit)
        refused(index.save)
        refused(index.reset)
        refused(index.snapshot, tmp_path / "copy")
        assert index.search(vectors[5], 1, exact=True).keys[0] == 5
        assert index.contains(1999) and index.get(3).tobytes() == vectors[3].tobytes()
        assert len(index) == 2000 and "2000" in repr(index)
        with index:
            pass
        assert index.closed

    assert in_child(work) == 0
    with pytest.raises(nphd.BusyError):  # the child has not let the lock go
        nphd.ShardedNphdIndex(path=tmp_path / "d", max_dim=256)
    index.add([2000], vectors[:1])
    index.close()
    assert len(nphd.ShardedNphdIndex(path=tmp_path / "d", read_only=True)) == 2001
    assert nphd.verify(tmp_path / "d").ok


@pytest.mark.parametrize("kind", KINDS)
def test_a_child_that_ends_or_forgets_an_index_does_not_hang(tmp_path, rows, kind):
    index = nphd.ShardedNphdIndex(path=tmp_path / "d", max_dim=256, **KINDS[kind])
    index.add(np.arange(2000), rows(2000))
    held = [index]

    def work():
        nonlocal index
        held.clear()
        del index

    assert in_child(work) == 0
    held[0].close()
    assert len(nphd.ShardedNphdIndex(path=tmp_path / "d", read_only=True)) == 2000


def _add_in_worker(number):
    try:
        _shared.add([10_000 + number], np.zeros((1, 32), np.uint8))
    except nphd.ForkedError:
        return "refused"
    return "done"


def test_workers_of_a_pool_are_refused(tmp_path, rows):
    global _shared
    _shared = nphd.ShardedNphdIndex(path=tmp_path / "d", max_dim=256)
    _shared.add(np.arange(10), rows(10))
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert set(pool.map(_add_in_worker, range(8))) == {"refused"}
    _shared.close()


def test_readers_and_indexes_in_memory_go_on_in_a_child(tmp_path, rows):
    vectors = rows(3000)
    single = nphd.NphdIndex()
    single.add(np.arange(3000), vectors)
    single.save(tmp_path / "i.usearch")
    view = nphd.NphdIndex.restore(tmp_path / "i.usearch", view=True)
    writer = nphd.ShardedNphdIndex(path=tmp_path / "d", max_dim=256)
    writer.add(np.arange(3000), vectors)
    writer.save()
    reader = nphd.ShardedNphdIndex(path=tmp_path / "d", read_only=True)
    writer.add([3000], vectors[:1])
    writer.save()

    def work():
        for index in (single, view, reader):
            found = index.search(vectors[:512], 1, exact=True, threads=2)
            assert (found.distances[:, 0] == 0).all()
        single.add([5000], vectors[:1])
        single.save(tmp_path / "child.usearch")
        assert len(single) == 3001
        assert reader.refresh() and len(reader) == 3001
        reader.close()

    assert in_child(work) == 0
    assert len(nphd.NphdIndex.restore(tmp_path / "child.usearch")) == 3001
    writer.close()


@pytest.mark.parametrize("busy", ["add", "search", "bloom"])
def test_a_fork_beside_busy_threads_never_hangs(rows, busy):
    vectors = rows(2000)
    index = nphd.NphdIndex()
    index.add(np.arange(2000), vectors)
    bloom = nphd.ScalableBloomFilter(1000)
    stop = threading.Event()

    def keep_busy():
        key = 10**6
        while not stop.is_set():
            if busy == "add":
                index.add(np.arange(key, key + 100), vectors[:100], threads=1)
            elif busy == "bloom":
                bloom.add(key)
            else:
                index.search(vectors[:32], 5, threads=1)
            key += 100

    def work():
        for call in (lambda: index.search(vectors[:4], 1), lambda: index.add([5], vectors[:1]),
                     lambda: bloom.contains(3)):
            try:
                call()
            except nphd.ForkedError:
                assert busy != "search"
        len(index)

    threads = [threading.Thread(target=keep_busy) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(25):
            assert in_child(work) == 0
            time.sleep(0.002)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
