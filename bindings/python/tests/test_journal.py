"""Commits to a journal, readers beside a writer, snapshots, salvage."""

import subprocess
import sys
import textwrap
import threading

import pytest
from conftest import same, shard_files

import nphd


def killed(path, body):
    """Runs a program that is killed at its end, so that only what it committed is there."""
    program = textwrap.dedent("""
        import os, sys, nphd
        def vector(i):
            return i.to_bytes(8, "big")
    """) + textwrap.dedent(body) + "\nos.kill(os.getpid(), 9)\n"
    run = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=120,
        cwd=path,
    )  # fmt: skip
    assert run.returncode == -9, run.stderr


def expect(path, numbers):
    with nphd.ShardedNphdIndex(path=path, read_only=True) as index:
        assert sorted(index.keys) == sorted(numbers)
        for number in numbers:
            assert bytes(index.get(number)) == number.to_bytes(8, "big")


def test_commits_survive_a_kill(tmp_path):
    killed(tmp_path, """
        index = nphd.ShardedNphdIndex(path=sys.argv[1], max_dim=64, journal=True)
        index.add(1, vector(1)); index.save()
        index.add([2, 3], [vector(2), vector(3)]); index.remove(1); index.commit()
        index.add(4, vector(4))
    """)
    assert list(tmp_path.glob("journal*"))
    expect(tmp_path, [2, 3])
    with nphd.ShardedNphdIndex(path=tmp_path) as index:
        assert index.dirty == 3 and 1 not in index
    expect(tmp_path, [2, 3])


def test_commit_each_call(tmp_path):
    killed(tmp_path, """
        index = nphd.ShardedNphdIndex(path=sys.argv[1], max_dim=64, commit_each_call=True)
        for i in range(1, 20):
            index.add(i, vector(i))
        index.remove(range(1, 10))
        index.upsert(50, vector(50))
    """)
    expect(tmp_path, [*range(10, 20), 50])


def test_commit_interval(tmp_path):
    killed(tmp_path, """
        import time
        index = nphd.ShardedNphdIndex(path=sys.argv[1], max_dim=64, commit_interval_ms=10)
        index.add(7, vector(7))
        for i in range(1000):
            time.sleep(0.02)
            try:
                with nphd.ShardedNphdIndex(path=sys.argv[1], read_only=True) as reader:
                    if 7 in reader:
                        break
            except ValueError:
                pass
        else:
            sys.exit("never committed")
    """)
    expect(tmp_path, [7])


@pytest.mark.parametrize("interval", [-1, 2**32])
def test_interval_out_of_range(tmp_path, kind, interval):
    with pytest.raises(ValueError, match="commit_interval_ms"):
        kind.open(tmp_path / "x", commit_interval_ms=interval)


def test_commit_without_journal_is_a_save(tmp_path, kind, rows):
    with kind.open(tmp_path) as index:
        index.add(kind.key(1), rows(1)[0])
        index.commit()
        assert index.dirty == 0 and shard_files(tmp_path) and not list(tmp_path.glob("journal*"))
    with pytest.raises(RuntimeError, match="closed"):
        index.commit()
    with kind.open(tmp_path, read_only=True) as index, pytest.raises(RuntimeError):
        index.commit()


def test_threads_commit_at_once(tmp_path, kind, rows):
    vectors = rows(80)
    with kind.open(tmp_path, journal=True) as index:
        def work(first):
            for i in range(first, first + 20):
                index.add(kind.key(i), vectors[i])
                index.commit()

        threads = [threading.Thread(target=work, args=(first,)) for first in range(0, 80, 20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with kind.open(tmp_path, read_only=True) as reader:
            assert len(reader) == 80
            assert all(same(reader.get(kind.key(i)), vectors[i]) for i in range(80))


def test_refresh(tmp_path, kind, rows):
    vectors = rows(30)
    with kind.open(tmp_path, journal=True) as index:
        index.add(kind.keys(range(10)), vectors[:10])
        index.save()
        with kind.open(tmp_path, read_only=True) as reader:
            assert not reader.refresh() and len(reader) == 10
            index.add(kind.keys(range(10, 20)), vectors[10:20])
            assert not reader.refresh() and len(reader) == 10
            index.commit()
            assert reader.refresh() and len(reader) == 20
            index.rotate()
            index.remove(kind.key(3))
            index.save()
            assert reader.refresh() and len(reader) == 19 and kind.key(3) not in reader
            assert reader.search(vectors[15], 1).to_list() == [(kind.key(15), 0.0)]
        assert not index.refresh()


def test_snapshot(tmp_path, kind, rows):
    vectors = rows(60)
    with kind.open(tmp_path / "a", shard_size=3000, journal=True) as index:
        index.add(kind.keys(range(60)), vectors)
        index.remove(kind.keys(range(5)))
        index.commit()
        index.snapshot(tmp_path / "b")
        index.remove(kind.keys(range(50)))
        index.commit()
        with kind.open(tmp_path / "a", read_only=True) as reader:
            reader.snapshot(str(tmp_path / "c"))
        with pytest.raises(ValueError, match="already"):
            index.snapshot(tmp_path / "b")
    for name, first in (("b", 5), ("c", 50)):
        assert nphd.verify(tmp_path / name)
        with kind.open(tmp_path / name) as index:
            assert len(index) == 60 - first
            assert all(same(index.get(kind.key(i)), vectors[i]) for i in range(first, 60))


def test_salvage(tmp_path, kind, rows):
    vectors = rows(60)
    with kind.open(tmp_path / "a") as index:
        index.add(kind.keys(range(40)), vectors[:40])
        index.rotate()
        index.add(kind.keys(range(40, 60)), vectors[40:])
        index.remove(kind.key(45))
    whole = nphd.salvage(tmp_path / "a", tmp_path / "whole")
    assert (whole.vectors, whole.unreadable, whole.files, whole.damage) == (59, 0, 0, [])
    (tmp_path / "a" / shard_files(tmp_path / "a")[0]).write_bytes(b"x" * 10)
    report = nphd.salvage(tmp_path / "a", str(tmp_path / "b"))
    assert report.vectors == 19 and report.files >= 1 and report.damage
    assert nphd.verify(tmp_path / "b")
    with kind.open(tmp_path / "b") as index:
        assert len(index) == 19 and kind.key(45) not in index
        assert same(index.get(kind.key(50)), vectors[50])
    with pytest.raises(ValueError):
        nphd.salvage(tmp_path / "a", tmp_path / "b")
    with pytest.raises(FileNotFoundError):
        nphd.salvage(tmp_path / "none", tmp_path / "d")
    with kind.open(tmp_path / "whole", read_only=True) as index:
        assert same(index.get(kind.key(3)), vectors[3])
