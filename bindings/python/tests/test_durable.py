"""Sharded indexes: files, faults, background rotation, closing."""

import resource
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from conftest import same, shard_files, strays

import nphd


@pytest.fixture
def limited():
    """limited(bytes): files cannot grow beyond; None lifts it. Stands for a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda limit: resource.setrlimit(
        resource.RLIMIT_FSIZE, (before[0] if limit is None else limit, before[1])
    )
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def fill(index, kind, rows, count=40, first=0):
    vectors = rows(count)
    index.add(kind.keys(range(first, first + count)), vectors)
    return vectors


# ---- test_sharded_durable.py, test_atomic_write.py ----


def test_j1_r11_no_temporary_files(tmp_path, kind, rows):
    with kind.open(tmp_path, shard_size=3000) as index:
        fill(index, kind, rows)
        index.remove(kind.keys(range(5)))
        index.save()
        index.compact()
        assert strays(tmp_path) == []
    assert nphd.verify(tmp_path)


def test_j2_w29_failing_write_keeps_the_file(tmp_path, kind, rows, limited):
    index = kind.open(tmp_path)
    vectors = fill(index, kind, rows)
    index.save()
    (name,) = shard_files(tmp_path)
    before = (tmp_path / name).read_bytes()
    more = fill(index, kind, rows, 4000, 1000)
    limited(len(before) + 4096)
    with pytest.raises(OSError):
        index.save()
    assert (tmp_path / name).read_bytes() == before and index.dirty == 4000
    assert same(index.get(kind.key(1000)), more[0])
    with pytest.raises(OSError):
        index.close()
    assert not index.closed and len(index) == 4040
    limited(None)
    index.close()
    with kind.open(tmp_path) as again:
        assert len(again) == 4040 and same(again.get(kind.key(7)), vectors[7])


@pytest.mark.parametrize("content", [b"", b"ISBF broken", b"\0" * 1000])
def test_j4_f12_damaged_filter_is_made_anew(tmp_path, kind, rows, caplog, content):
    with kind.open(tmp_path) as index:
        vectors = fill(index, kind, rows)
    (tmp_path / "bloom.isbf").write_bytes(content)
    with kind.open(tmp_path) as index:
        assert index.bloom_filter and index.stats()["bloom_keys"] == 40
        assert all(same(index.get(kind.key(i)), vectors[i]) for i in range(40))
        assert index.contains(kind.keys(range(100, 140))).sum() == 0
    assert "made anew" in caplog.text


def test_f12_j8_missing_filter(tmp_path, kind, rows):
    with kind.open(tmp_path) as index:
        fill(index, kind, rows)
    (tmp_path / "bloom.isbf").unlink()
    with kind.open(tmp_path, bloom_filter=False) as index:
        assert not (tmp_path / "bloom.isbf").exists() and kind.key(3) in index
    with kind.open(tmp_path) as index:
        assert kind.key(3) in index and kind.key(300) not in index


def test_j5_w3_missing_tombstones_bring_nothing_back(tmp_path, kind, rows):
    with kind.open(tmp_path) as index:
        fill(index, kind, rows)
        index.rotate()
        fill(index, kind, rows, 3, 100)
        index.remove(kind.key(3))
    (tmp_path / "tombstones.npy").unlink()
    try:
        with kind.open(tmp_path) as index:
            assert kind.key(3) not in index
    except nphd.NphdError as error:
        assert "tombstones.npy" in str(error)


def test_j9_failing_save_after_adding_again(tmp_path, kind, rows, limited):
    index = kind.open(tmp_path)
    fill(index, kind, rows)
    index.rotate()
    index.remove(kind.key(3))
    index.save()
    index.add(kind.key(3), rows(1)[0])
    fill(index, kind, rows, 3000, 1000)
    limited(120_000)
    with pytest.raises(OSError):
        index.save()
    reader = kind.open(tmp_path, read_only=True)
    assert kind.key(3) not in reader
    reader.close()
    limited(None)
    index.close()
    with kind.open(tmp_path) as index:
        assert kind.key(3) in index


def test_j7_progress(tmp_path, kind, rows):
    told = []
    with kind.open(tmp_path) as index:
        fill(index, kind, rows)
        index.save(progress=lambda done, total: told.append((done, total)))
    assert told and all(done <= total for done, total in told)


# ---- test_corrupted_shards.py (side branch): opening tells, salvage opens the rest ----


@pytest.mark.parametrize("content", [b"", b"x" * 10, None])
@pytest.mark.parametrize("which", [0, -1])
def test_cs1_cs2_cs3_damaged_shards(tmp_path, kind, rows, caplog, content, which):
    with kind.open(tmp_path) as index:
        fill(index, kind, rows)
        index.rotate()
        fill(index, kind, rows, 20, 100)
    path = tmp_path / shard_files(tmp_path)[which]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    assert not nphd.verify(tmp_path)
    with pytest.raises(RuntimeError, match=path.name) as caught:
        kind.open(tmp_path)
    assert isinstance(caught.value, nphd.CorruptError) and caught.value.status == "CORRUPT"
    for read_only in (True, False):
        with kind.open(tmp_path, salvage=True, read_only=read_only) as index:
            assert len(index) == (20 if which == 0 else 40)
            assert kind.key(100 if which == 0 else 3) in index
    assert path.name in caplog.text


# ---- test_sharded_background_rotation.py ----


def test_bg1_synchronous(tmp_path, kind, rows):
    with kind.open(tmp_path, shard_size=2000) as index:
        fill(index, kind, rows)
        stats = index.stats()
        assert stats["pending_rotations"] == 0 and stats["shard_files"] == stats["view_shards"] > 1


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_bg2_bg3_bg8_bg9_w26_background(tmp_path, kind, rows, limit):
    vectors = rows(200)
    options = dict(shard_size=3000, background_rotation=True, max_pending_rotations=limit)
    with kind.open(tmp_path, **options) as index:
        for i in range(200):
            index.add(kind.key(i), vectors[i])
            assert len(index) == i + 1 and kind.key(i) in index and kind.key(i // 2) in index
            assert index.stats()["pending_rotations"] <= limit
        assert index.search(vectors[5], 1).to_list() == [(kind.key(5), 0.0)]
        index.drain_rotations()
        assert index.stats()["pending_rotations"] == 0
        assert index.contains(kind.keys(range(200))).all()
    files = shard_files(tmp_path)
    assert files == [f"shard_{i:03}.usearch" for i in range(len(files))]


def test_bg4_drain(tmp_path, kind, rows):
    with kind.open(tmp_path, background_rotation=True, shard_size=2000) as index:
        index.drain_rotations()
        index.drain_rotations(timeout=0)
        fill(index, kind, rows)
        index.drain_rotations(timeout=60)
        assert index.stats()["pending_rotations"] == 0


def test_bg4_drain_in_vain(tmp_path, kind, rows):
    with kind.open(tmp_path, background_rotation=True) as index:
        for i in range(50):  # until a rotation is slower than we are
            fill(index, kind, rows, 200, i * 1000)
            index.rotate()
            try:
                index.drain_rotations(timeout=0)
            except TimeoutError as error:
                assert "1 rotation" in str(error) and isinstance(error, nphd.NphdError)
                break
        else:
            pytest.skip("every rotation was done at once")


def test_bg5_bg7_save_and_close(tmp_path, kind, rows):
    with kind.open(tmp_path / "a", background_rotation=True, shard_size=2000) as index:
        fill(index, kind, rows)
        index.save()
        assert index.stats()["pending_rotations"] == 0
    with pytest.raises(KeyError):
        with kind.open(tmp_path / "b", background_rotation=True, shard_size=2000) as index:
            fill(index, kind, rows)
            raise KeyError("of the block")
    for name in "ab":
        with kind.open(tmp_path / name) as index:
            assert index.contains(kind.keys(range(40))).all()


def test_bg6_w27_closed(tmp_path, kind, rows):
    index = kind.open(tmp_path)
    fill(index, kind, rows)
    keys = index.keys
    index.close()
    index.close()
    vector = rows(1)[0]
    for call in (
        lambda: index.add(kind.key(1), vector),
        index.save,
        lambda: index.remove(kind.key(1)),
        lambda: index.upsert(kind.key(1), vector),
        lambda: index.add_once(kind.key(1), vector),
        lambda: index.get(kind.key(1)),
        lambda: index.get(kind.keys([1])),
        lambda: kind.key(1) in index,
        lambda: index.count(kind.key(1)),
        lambda: index.search(vector),
        lambda: len(index),
        lambda: list(keys),
        index.stats,
        index.shards,
        index.rotate,
        index.drain_rotations,
        index.compact,
        index.reset,
        lambda: index.dirty,
    ):
        with pytest.raises(RuntimeError, match="index is closed"):
            call()
    assert "closed" in repr(index) and index.closed


def test_bg10_bg21_bg23_remove_while_pending(tmp_path, kind, rows):
    with kind.open(tmp_path, background_rotation=True, max_pending_rotations=8) as index:
        vectors = fill(index, kind, rows, 200)
        index.save()
        index.rotate()
        index.remove(kind.keys([3, 3]))
        assert kind.key(3) not in index and len(index) == 199 and index.dirty == 1
        index.remove(kind.key(3))
        assert index.dirty == 1
        index.upsert(kind.key(4), vectors[0])
        assert index.add_once(kind.key(5), vectors[0]) is None
        index.drain_rotations()
        assert kind.key(3) not in index and same(index.get(kind.key(4)), vectors[0])
    with kind.open(tmp_path) as index:
        assert kind.key(3) not in index and len(index) == 199


def test_bg11_bg12_bg13_failed_rotation(tmp_path, kind, rows, limited, caplog):
    index = kind.open(tmp_path, background_rotation=True)
    vectors = fill(index, kind, rows, 4000)
    limited(100_000)
    index.rotate()
    deadline = time.monotonic() + 60
    with pytest.raises(OSError):
        while time.monotonic() < deadline:
            index.add(kind.key(9000), vectors[0])
            index.remove(kind.key(9000))
    index.remove(kind.key(9000))  # the call that was told did nothing
    assert kind.key(5) in index and same(index.get(kind.key(5)), vectors[5])
    with pytest.raises(OSError):
        index.drain_rotations()
    limited(None)
    index.drain_rotations()
    index.close()
    with kind.open(tmp_path) as index:
        assert len(index) == 4000 and same(index.get(kind.key(5)), vectors[5])
    assert any(record.levelname == "ERROR" for record in caplog.records)


def test_bg14_read_only_close(tmp_path, kind, rows):
    with kind.open(tmp_path) as index:
        fill(index, kind, rows)
    before = {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    kind.open(tmp_path, read_only=True).close()
    assert {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == before


@pytest.mark.parametrize("save", [False, True])
def test_bg16_emptied_active_shard(tmp_path, kind, rows, save):
    with kind.open(tmp_path) as index:
        index.add(kind.key(1), rows(1)[0])
    with kind.open(tmp_path) as index:
        index.remove(kind.key(1))
        if save:
            index.save()
    with kind.open(tmp_path) as index:
        assert len(index) == 0 and kind.key(1) not in index


def test_bg18_bg19_deletions_between_rotations(tmp_path, kind, rows):
    new = rows(1)[0]
    with kind.open(tmp_path, background_rotation=True) as index:
        fill(index, kind, rows)
        index.rotate()
        index.remove(kind.keys([1, 2]))
        fill(index, kind, rows, 40, 100)
        index.rotate()
        index.remove(kind.keys([3, 101]))
        index.add(kind.key(1), new)
        index.rotate()
    with kind.open(tmp_path) as index:
        assert index.contains(kind.keys([2, 3, 101])).sum() == 0 and len(index) == 77
        assert same(index.get(kind.key(1)), new)


PROGRAM = """
    import sys, nphd, numpy as np
    index = nphd.ShardedNphdIndex(path=sys.argv[1], max_dim=256, background_rotation=True)
    index.add(range(5000), np.random.default_rng(1).integers(0, 256, (5000, 32), dtype=np.uint8))
    index.rotate()
    index.add(9999, b"never saved")
    {end}
"""


@pytest.mark.parametrize("end", ["", "del index", "sys.exit(3)"])
def test_end_of_the_interpreter(tmp_path, end):
    """No hanging; what was rotated is there unless the object went before."""
    program = textwrap.dedent(PROGRAM).format(end=end)
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=120,
        cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == (3 if "exit" in end else 0), run.stderr
    if end != "del index":
        with nphd.ShardedNphdIndex(path=tmp_path) as index:
            assert len(index) == 5000 and 9999 not in index


def test_end_of_a_child(tmp_path):
    """A forked process ends although the rotation thread is not in it, and writes nothing."""
    end = """
    index.drain_rotations()
    import os
    child = os.fork()
    if child == 0:
        del index
        sys.exit(5)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
    index.close()"""
    program = textwrap.dedent(PROGRAM.format(end=end))
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=120,
        cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    with nphd.ShardedNphdIndex(path=tmp_path) as index:
        assert len(index) == 5001


def test_killed(tmp_path):
    """A process that is killed leaves what it saved."""
    end = "index.save(); index.add(77777, b'x'); import os, signal; os.kill(os.getpid(), 9)"
    program = textwrap.dedent(PROGRAM).format(end=end)
    run = subprocess.run([sys.executable, "-c", program, str(tmp_path)], timeout=120, cwd=tmp_path)
    assert run.returncode == -9
    with nphd.ShardedNphdIndex(path=tmp_path) as index:
        assert len(index) == 5001 and bytes(index.get(9999)) == b"never saved"
        assert np.array_equal(index.contains([0, 4999, 77777]), [True, True, False])


def test_a_save_over_somebody_elses_file_is_refused(tmp_path, monkeypatch):
    """Two handles of one file, and a relative path from another folder."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    first = nphd.NphdIndex(max_dim=64, path="a.usearch")
    first.add(1, np.zeros(8, np.uint8))
    first.save()
    second = nphd.NphdIndex(max_dim=64, path="a.usearch")
    second.add(2, np.ones(8, np.uint8))
    monkeypatch.chdir(tmp_path / "elsewhere")
    second.save()
    first.add(3, np.ones(8, np.uint8))
    with pytest.raises(nphd.ChangedError, match="another file is there"):
        first.save()
    assert len(nphd.NphdIndex.restore(tmp_path / "a.usearch")) == 2
    first.save(overwrite=True)
    assert sorted(nphd.NphdIndex.restore(tmp_path / "a.usearch").keys) == [1, 3]
    assert list((tmp_path / "elsewhere").iterdir()) == []
