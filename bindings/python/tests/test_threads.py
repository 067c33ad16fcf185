"""Several Python threads on one index."""

import threading

import numpy as np
import pytest
from conftest import SMALL, Kind

import nphd

ROUNDS = 5 if SMALL else 25


def run(*works):
    """Runs functions at once; their exceptions come out."""
    failures = []

    def guarded(work):
        try:
            work()
        except BaseException as error:  # noqa: B902 - told to the test
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=300)
        assert not thread.is_alive(), "a thread hangs"
    if failures:
        raise failures[0]


@pytest.fixture(params=["NphdIndex", "ShardedNphdIndex", "ShardedNphdIndex128"])
def shared(request, tmp_path):
    if request.param == "NphdIndex":
        kind = Kind(nphd.ShardedNphdIndex)
        yield nphd.NphdIndex(), kind
    else:
        kind = Kind(getattr(nphd, request.param))
        options = dict(shard_size=30_000, background_rotation=True)
        with kind.open(tmp_path, **options) as index:
            yield index, kind


def test_search_beside_add_and_remove(shared, rows):
    index, kind = shared
    fixed = rows(100)
    index.add(kind.keys(range(100)), fixed)
    done = threading.Event()

    def add(first):
        def work():
            for i in range(ROUNDS):
                keys = kind.keys(range(first + 50 * i, first + 50 * i + 50))
                index.add(keys, np.full((50, 32), i, dtype=np.uint8))
                index.remove(keys[:10])

        return work

    def search():
        while not done.is_set():
            batch = index.search(fixed[:4], 1, exact=True)
            assert [row[0].key for row in batch] == kind.keys(range(4))
            assert index.contains(kind.keys(range(100))).all()
            assert np.array_equal(index.get(kind.key(5)), fixed[5])
            assert set(kind.keys(range(100))) <= set(np.asarray(index.keys).tolist())

    searches = [threading.Thread(target=search) for _ in range(2)]
    for thread in searches:
        thread.start()
    try:
        run(add(10_000), add(50_000))
    finally:
        done.set()
        for thread in searches:
            thread.join()
    assert len(index) == 100 + 2 * ROUNDS * 40


def test_callbacks_beside_short_calls(shared, rows):
    """A progress function waits for the interpreter's lock while other threads ask the index: none
    of them may wait for a lock of the library with it."""
    index, kind = shared
    vectors = rows(3000)
    told = []

    def add():
        for i in range(3):
            index.add(
                kind.keys(range(10_000 * i, 10_000 * i + 3000)), vectors, threads=2,
                progress=lambda done, total: told.append(done),
            )  # fmt: skip

    def ask():
        for i in range(ROUNDS * 20):
            len(index), kind.key(i) in index, index.dirty, index.max_bytes, index.stats

    def search():
        for _ in range(ROUNDS):
            index.search(vectors[0], 5, filter=lambda key: True)

    run(add, ask, search, ask)
    assert told and len(index) == 9000


def test_save_beside_everything(shared, tmp_path, rows):
    index, kind = shared

    def save():
        for i in range(ROUNDS):
            if isinstance(index, nphd.NphdIndex):
                index.save(tmp_path / "single")
            else:
                index.save()

    def change():
        for i in range(ROUNDS):
            index.upsert(kind.keys(range(i, i + 20)), rows(20))

    run(save, change, save)
    assert len(index) == ROUNDS + 19


def test_load_beside_lookups(tmp_path, rows):
    """Files of different widths come and go under threads that copy vectors out."""
    sources = []
    for width in (4, 32, 128):
        made = nphd.NphdIndex(max_dim=width * 8)
        made.add(range(200), rows(200, width))
        sources.append(made.save())
    index = nphd.NphdIndex.restore(sources[0])
    done = threading.Event()

    def switch():
        for i in range(ROUNDS * 4):
            (index.view if i % 2 else index.load)(sources[i % 3])
        done.set()

    def look():
        while not done.is_set():
            try:
                assert {len(vector) for vector in index.get(range(200))} <= {4, 32, 128}
                list(index.vectors)
            except ValueError as error:
                assert "wider" in str(error)

    run(switch, look, look)


def test_close_beside_calls(tmp_path, rows):
    index = nphd.ShardedNphdIndex(path=tmp_path, max_dim=256, background_rotation=True)
    index.add(range(500), rows(500))
    begun = threading.Barrier(3)

    def use():
        begun.wait()
        with pytest.raises(nphd.ClosedError):
            while True:
                index.search(rows_once, 5)
                index.upsert(range(10), ten)
                index.rotate()

    rows_once, ten = rows(1)[0], rows(10)

    def close():
        begun.wait()
        index.close()

    run(use, use, close)
    with nphd.ShardedNphdIndex(path=tmp_path) as again:
        assert len(again) == 500


def test_one_cursor_in_two_threads(rows):
    index = nphd.NphdIndex()
    index.add(range(5000), rows(5000, 8))
    cursor = index._core.cursor()
    seen = []

    def read():
        keys = np.empty(64, dtype=np.uint64)
        while count := cursor.read(64, keys, None, None):
            seen.extend(keys[:count].tolist())

    run(read, read)
    assert set(seen) == set(range(5000))


def test_messages_from_the_rotation_thread(tmp_path, caplog):
    """The thread writes a message while every other thread waits for the rotation."""
    import resource
    import signal

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    index = nphd.ShardedNphdIndex(path=tmp_path, max_dim=256, background_rotation=True)
    index.add(range(3000), np.zeros((3000, 32), dtype=np.uint8))
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
        index.rotate()
        run(*[lambda: pytest.raises(OSError, index.drain_rotations)] * 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    index.close()
    assert any("rotation of shard_000" in record.message for record in caplog.records)
