"""What the reference cannot do, and what an extension module can get wrong: radius, filters, exact
answers, verification, renaming, logging, progress, signals, buffers."""

import gc
import logging
import signal
import sys
import threading
import time
import weakref

import numpy as np
import pytest
from conftest import SMALL, same

import nphd
from nphd import NphdIndex, ShardedNphdIndex


def u8(*octets):
    return np.array(octets, dtype=np.uint8)


@pytest.fixture(params=["single", "sharded"])
def index(request, tmp_path, rows):
    """300 random vectors of 256 bits under the keys 0 to 299."""
    if request.param == "single":
        made = NphdIndex()
    else:
        made = ShardedNphdIndex(path=tmp_path / "index", max_dim=256, shard_size=20_000)
    made.vectors_given = rows(300)
    made.add(range(300), made.vectors_given)
    yield made
    if request.param == "sharded":
        made.close()


# ---- searching ----


def test_answers_equal_a_sort(index):
    query = index.vectors_given[7]
    bits = np.unpackbits(index.vectors_given ^ query, axis=1).sum(axis=1)
    order = np.lexsort((np.arange(300), bits))
    matches = index.search(query, 300, exact=True)
    assert matches.exact and matches.keys.tolist() == order.tolist()
    assert matches.distances.tolist() == (bits[order] / 256).astype(np.float32).tolist()
    for radius in (0.0, 0.45, 1.0):
        found = index.search(query, 300, radius)
        assert len(found) == (bits / 256 <= np.float32(radius)).sum()


def test_w36_ties_go_by_key(index):
    index.upsert([900, 800, 1000], [u8(1, 2, 3)] * 3)
    assert [m.key for m in index.search(u8(1, 2, 3), 3)] == [800, 900, 1000]
    graph = index.search(u8(1, 2, 3), 3, approximate=True)
    assert not graph.exact and graph.distances.tolist() == [0, 0, 0]


def test_filters(index):
    query = index.vectors_given[7]
    even = index.search(query, 20, filter=lambda key: key % 2 == 0)
    assert len(even) == 20 and not (even.keys % 2).any()
    wanted = [m.key for m in index.search(query, 300, exact=True) if m.key % 2 == 0][:20]
    assert even.keys.tolist() == wanted
    assert index.search(query, 20, filter=[5, 7]).keys.tolist()[0] == 7
    assert index.search(query, 20, filter={5, 7}).keys.tolist() == [7, 5]
    assert len(index.search(query, 20, filter=np.array([5, 7], dtype=np.uint64))) == 2
    assert len(index.search(query, 20, filter=[])) == 0
    batch = index.search(index.vectors_given[:5], 3, filter=range(100, 200))
    assert ((batch.keys >= 100) & (batch.keys < 200)).all()


def test_exceptions_of_callbacks_come_out(index):
    def fail(*unused):
        raise KeyError("of the callback")

    with pytest.raises(KeyError, match="of the callback"):
        index.search(index.vectors_given[0], filter=fail)
    with pytest.raises(KeyError):
        index.add(range(1000, 9000), np.zeros((8000, 4), dtype=np.uint8), progress=fail)
    with pytest.raises(TypeError):
        index.search(index.vectors_given[0], progress=5)
    assert len(index.search(index.vectors_given[0])) == 10


def test_progress_stops(index):
    told = []

    def stop(done, total):
        told.append((done, total))
        return False

    with pytest.raises(nphd.CancelledError):
        index.add(range(1000, 9000), np.zeros((8000, 4), dtype=np.uint8), progress=stop)
    assert len(told) == 1 and len(index) == 300 + sum(index.contains(range(1000, 9000)))


def test_arguments_of_search(index):
    query = index.vectors_given[0]
    for options in (
        dict(radius=float("nan")),
        dict(breadth=-1),
        dict(threads=-1),
        dict(exact=True, approximate=True),
    ):
        with pytest.raises(ValueError):
            index.search(query, **options)
    assert len(index.search(query, breadth=500, approximate=True)) == 10
    assert len(index.search(np.concatenate([query, query]), 1)) == 1  # longer than the width


# ---- keys and vectors in all forms ----


def test_forms_of_vectors(index):
    matrix = index.vectors_given
    for number, vectors in enumerate(
        (
            matrix[::2],
            matrix[:, ::2],
            matrix.T[:32, :150].T,
            np.asfortranarray(matrix[:150]),
            list(matrix[:150]),
            [bytes(row) for row in matrix[:150]],
            [bytearray(row) for row in matrix[:150]],
            [memoryview(row) for row in matrix[:150]],
            [row[::3] for row in matrix[:150]],
            (row for row in matrix[:150]),
        )
    ):
        given = [np.array(row) for row in matrix[:150]] if number == 9 else vectors
        count = len(given)
        index.upsert(range(5000, 5000 + count), vectors)
        got = index.get(range(5000, 5000 + count))
        assert all(same(a, np.frombuffer(bytes(b), dtype=np.uint8)) for a, b in zip(got, given))
    with pytest.raises(ValueError):
        index.add([1, 2], np.zeros((2, 2, 2), dtype=np.uint8))


@pytest.mark.parametrize(
    "wrong",
    [
        np.array([1, 2, 3]),
        np.array([1.0]),
        np.array([True, False]),
        [1, 2, 3],
        "text",
        5,
        [np.array([1, 2])],
        memoryview(np.array([1, 2])),
        [["nested"]],
        None,
    ],
    ids=str,
)
def test_w16_other_types_are_refused(index, wrong):
    with pytest.raises((TypeError, ValueError)):
        index.add(7777, wrong)
    assert 7777 not in index and len(index) == 300


def test_forms_of_keys(index):
    for key in (5, np.uint64(5), np.int32(5), np.array(5), np.uint8(5)):
        assert index.contains(key) is True and len(index.get(key)) == 32
    for keys in ([5, 6], (5, 6), range(5, 7), np.array([5, 6], dtype=np.int16), {5: 0, 6: 0}):
        assert index.contains(keys).tolist() == [True, True]
    for wrong in ("text", 1.5, [1.5], np.array([1.5]), None, np.array(["a"])):
        with pytest.raises((TypeError, ValueError)):
            index.contains(wrong)
    for wrong in (-1, [1, -1], np.array([-1]), 2**64, [2**64]):
        with pytest.raises(ValueError):
            index.contains(wrong)
    with pytest.raises(ValueError):
        index.get(np.zeros((2, 2), dtype=np.uint64))


# ---- single index: rename, distances ----


def test_rename_and_distances():
    index = NphdIndex()
    index.add([1, 2, 3], [u8(0xFF), u8(0xFF, 0), u8(0)])
    assert index.rename(1, 10) is True and index.rename(1, 11) is False
    assert bytes(index.get(10)) == b"\xff"
    assert index.rename([2, 99], [20, 21]).tolist() == [True, False]
    with pytest.raises(ValueError):
        index.rename(10, 20)
    with pytest.raises(ValueError):
        index.rename(10, [1, 2])
    assert index.pairwise_distance(10, 20) == 0 and index.pairwise_distance(10, 3) == 1
    assert index.pairwise_distance([10, 20], [3, 3]).tolist() == [1, 1]
    with pytest.raises(KeyError):
        index.pairwise_distance(10, 99)
    assert nphd.distance(u8(0xFF, 0x80, 0x40), u8(0xFF, 0x81)) == 0.0625
    assert nphd.hamming([u8(1), u8(3)], [u8(0), u8(0)]).tolist() == [1, 2]


# ---- files ----


def test_verify(index, tmp_path):
    path = tmp_path / "index"
    index.save(path) if isinstance(index, NphdIndex) else index.save()
    report = nphd.verify(path)
    assert report and report.ok and not report.damage and report.counts["blocks"] > 0
    file = path if path.is_file() else path / "shard_000.usearch"
    data = bytearray(file.read_bytes())
    data[1000] ^= 1
    file.write_bytes(data)
    report = nphd.verify(path)
    assert not report and report.damage and report.counts["damaged_blocks"] == 1
    with pytest.raises(FileNotFoundError):
        nphd.verify(tmp_path / "none")


def test_errors_tell(tmp_path):
    with pytest.raises(OSError) as caught:
        NphdIndex().save(tmp_path / "no" / "such" / "folder")
    assert caught.value.errno and isinstance(caught.value, nphd.NphdError)
    with pytest.raises(nphd.CorruptError) as corrupt:
        NphdIndex().load(b"nothing of the kind" * 20)
    assert corrupt.value.status == "CORRUPT"
    with pytest.raises(ValueError, match="connectivity"):
        NphdIndex(connectivity=1)


def test_view_of_memory_keeps_it(rows):
    index = NphdIndex()
    vectors = rows(50)
    index.add(range(50), vectors)
    data = index.save()
    holder = np.frombuffer(data, dtype=np.uint8).copy()
    gone = weakref.ref(holder)
    view = NphdIndex.restore(holder, view=True)
    del holder
    gc.collect()
    assert gone() is not None and same(view.get(7), vectors[7])
    copied = view.copy()
    view.reset()
    gc.collect()
    assert gone() is None and same(copied.get(7), vectors[7])
    view.view(data)
    count = sys.getrefcount(data)
    del view
    assert sys.getrefcount(data) == count - 1


# ---- references ----


def test_references_do_not_grow(index):
    key, vector, keys = 10**6, u8(1, 2, 3), np.arange(10, dtype=np.uint64)

    def work(progress, accept):
        index.upsert(keys, [vector] * 10, progress=progress)
        index.get(keys), index.contains(keys), index.search([vector] * 3, 5, filter=accept)
        list(index.keys), list(index.vectors)
        index.dirty, index.stats
        for call in (lambda: index.add(2**64 - 1, vector), lambda: index.add([1, 2], vector)):
            with pytest.raises(ValueError):
                call()

    def progress(done, total):
        return True

    def accept(key):
        return True

    work(progress, accept)
    before = [sys.getrefcount(thing) for thing in (key, vector, keys, progress, accept, index)]
    blocks = sys.getallocatedblocks()
    for _ in range(20):
        work(progress, accept)
    gc.collect()
    after = [sys.getrefcount(thing) for thing in (key, vector, keys, progress, accept, index)]
    assert after == before
    assert sys.getallocatedblocks() - blocks < 200


def test_cursor_outlives_the_index(rows):
    index = NphdIndex()
    index.add(range(2000), rows(2000, 4))
    keys = iter(index.keys)
    assert next(keys) == 0
    del index
    gc.collect()
    assert sum(1 for _ in keys) == 1999


# ---- logging, timer, signals ----


def test_log_of_rotations_and_recovery(tmp_path, rows, caplog):
    (tmp_path / "shard_000.usearch.tmp").write_bytes(b"x")
    with caplog.at_level(logging.DEBUG, logger="nphd"):
        with ShardedNphdIndex(path=tmp_path, max_dim=256) as index:
            index.add(range(10), rows(10), log=True)
            index.save(log="saving it")
    warned = [record for record in caplog.records if record.levelname == "WARNING"]
    assert warned and warned[0].name == "nphd" and "shard_000.usearch.tmp" in warned[0].message
    assert any("saving it - completed" in record.message for record in caplog.records)


def test_handlers_may_use_the_index(tmp_path, rows):
    """Also the index that the message is about, whose locks are held when it is written."""
    seen = []

    class Handler(logging.Handler):
        def emit(self, record):
            seen.append((record.getMessage(), len(index), index.stats()["dirty"]))

    (tmp_path / "a").mkdir()
    index = ShardedNphdIndex(path=tmp_path / "a", max_dim=256, background_rotation=True)
    handler = Handler()
    logging.getLogger("nphd").addHandler(handler)
    try:
        index.add(range(500), rows(500))
        index.rotate()
        (tmp_path / "a" / "bloom.isbf").unlink(missing_ok=True)
        with nphd.timer("a block", level="WARNING"):
            index.drain_rotations()
        index.save()
    finally:
        logging.getLogger("nphd").removeHandler(handler)
        index.close()
    assert seen and all(size == 500 for _, size, _ in seen)


def test_j13_timer(caplog):
    with caplog.at_level(logging.DEBUG, logger="nphd"):
        with nphd.timer("quiet") as timed:
            time.sleep(0.01)
        assert timed.elapsed >= 0.01
        timer = nphd.timer("loud", log_start=True, level="INFO")
        with timer:
            pass
        with pytest.raises(KeyError), nphd.timer("failing"):
            raise KeyError
    texts = [record.getMessage() for record in caplog.records]
    assert len(texts) == 4 and "quiet" in texts[0] and "seconds" in texts[0]
    assert "started" in texts[1] and "failing" in texts[3]


def test_interrupts_end_a_long_call(rows):
    index = NphdIndex()
    vectors = rows(4000 if SMALL else 60_000)
    old = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(KeyboardInterrupt):
            for _ in range(100):
                index.add(range(len(vectors)), vectors, threads=1)
                index.clear()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def test_calls_let_other_threads_run(rows):
    index = NphdIndex()
    vectors = rows(2000 if SMALL else 30_000)
    ticks = []
    ended = threading.Event()

    def tick():
        while not ended.is_set():
            ticks.append(time.monotonic())
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    begin = time.monotonic()
    index.add(range(len(vectors)), vectors, threads=1)
    end = time.monotonic()
    ended.set()
    thread.join()
    during = [moment for moment in ticks if begin < moment < end]
    assert len(during) > (end - begin) / 0.1


def test_iscc():
    unit = nphd.decode_iscc("ISCC:EAD4JKA3JF3ASUHCTWQ2CB5MXHZUJKMGUMMWXSIFE6BHKDVBXVOU66A")
    assert unit.bits.dtype == np.uint8 and len(unit.bits) == 32
    with pytest.raises(ValueError):
        nphd.decode_iscc("ISCC:!")
    assert (unit.text[:12], unit.unit) == ("ISCC:EAD4JKA", "content-text")


def test_iscc_decompose():
    """A composite code comes apart into units that decode_iscc() reads."""
    code = "ISCC:KACYPXW445FTYNJ3CYSXHAFJMA2HUWULUNRFE3BLHRSCXYH2M5AEGQY"
    units = nphd.decompose(code)
    assert [unit.unit for unit in units] == ["meta", "content-text", "data", "instance"]
    assert units[0].text == "ISCC:AAAYPXW445FTYNJ3"
    for unit in units:
        assert len(unit.bits) == 8
        assert (nphd.decode_iscc(unit.text).bits == unit.bits).all()
        assert [one.text for one in nphd.decompose(unit.text)] == [unit.text]
    with pytest.raises(NotImplementedError):
        nphd.decode_iscc(code)
    with pytest.raises(ValueError):
        nphd.decompose(code[:-1])
    with pytest.raises(TypeError):
        nphd.decompose(7)


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_iscc_unit_is_kept(tmp_path, kind):
    """ISCC strings are vectors of a type, which the index keeps and checks."""
    path = tmp_path / ("a.usearch" if kind == "file" else "a")
    text, image = "ISCC:EAAUCCS7GNJKRZDP", "ISCC:EEA4GQZQTY6J5DTH"
    key = "ISCC:MEIGAAAAAAAAAAAB"

    def made():
        return nphd.NphdIndex() if kind == "file" else nphd.ShardedNphdIndex(max_dim=256, path=path)

    index = made()
    index.add(1, np.zeros(8, np.uint8))
    assert index.unit is None
    index.add([2, 3], [text, nphd.decode_iscc("ISCC:EAARMJLTQCUWAND2")])
    assert index.unit == "content-text"
    for call in (
        lambda: index.add(4, image), lambda: index.upsert([4], [image]),
        lambda: index.search(image), lambda: index.add([5, 6], [text, image]),
        lambda: index.set_unit("content-image"),
    ):
        with pytest.raises(nphd.MismatchError, match="content-text.*content-image"):
            call()
    with pytest.raises(ValueError, match="is a key"):
        index.add(4, key)
    assert len(index) == 3 and index.search(text, 1).keys[0] == 2
    if kind == "file":
        index.save(path)
        index = nphd.NphdIndex.restore(path)
        assert nphd.NphdIndex.restore(path, view=True).unit == index.copy().unit == "content-text"
    else:
        index.save()
        index.close()
        index = made()
    assert index.unit == "content-text"
    index.set_unit("mixed")
    index.add(4, image)
    assert index.unit == "mixed" and index.search(image, 1).keys[0] == 4
    index.reset()
    assert index.unit is None


def test_types_are_told():
    """Every public method has a docstring, and the package says that it is typed."""
    import pathlib

    folder = pathlib.Path(nphd.__file__).parent
    assert (folder / "py.typed").exists() and (folder / "_core.pyi").exists()
    for name in nphd.__all__:
        thing = getattr(nphd, name)
        assert thing.__doc__, name
        for member in ("add", "search", "get", "save", "remove", "upsert", "compact", "close"):
            method = getattr(thing, member, None)
            assert method is None or member == "get" or method.__doc__, f"{name}.{member}"


def test_stubs_name_what_is_there():
    """Each name of _core.pyi is in the module, and the other way round."""
    import ast
    import pathlib

    from nphd import _core

    tree = ast.parse((pathlib.Path(nphd.__file__).parent / "_core.pyi").read_text())
    for item in tree.body:
        if isinstance(item, ast.FunctionDef):
            assert callable(getattr(_core, item.name))
        if isinstance(item, ast.ClassDef):
            told = {part.name for part in item.body} - {"__new__"}
            there = {name for name in vars(getattr(_core, item.name)) if name[0] != "_"}
            assert told == there, item.name


