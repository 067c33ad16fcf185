"""The lines that somebody who comes from the reference runs first."""

import pathlib

import numpy as np
import pytest

import nphd as iscc_usearch
from nphd import NphdIndex, ShardedNphdIndex


def test_readme(tmp_path, monkeypatch, capsys):
    """The programs of the README print what they say."""
    monkeypatch.chdir(tmp_path)
    text = (pathlib.Path(__file__).resolve().parents[1] / "README.md").read_text()
    programs = [block.split("```")[0] for block in text.split("```python\n")[1:]]
    assert len(programs) == 2
    for program in programs:
        exec(compile(program, "README.md", "exec"), {})
        said = [line.split("# ")[1] for line in program.splitlines() if line.strip()[:5] == "print"]
        assert capsys.readouterr().out.splitlines() == said


def test_names_of_the_reference():
    for name in (
        "NphdIndex ShardedIndex ShardedNphdIndex ShardedIndex128 ShardedNphdIndex128 "
        "ScalableBloomFilter MetricKind ScalarKind timer"
    ).split():
        assert hasattr(iscc_usearch, name)


def test_single_index_lines(tmp_path):
    path = tmp_path / "codes.usearch"
    index = NphdIndex(max_dim=256)
    assert index.dirty == 0
    index.add(1, np.array([255, 128, 64, 32], dtype=np.uint8))
    index.add([2, 3], np.zeros((2, 8), dtype=np.uint8))
    index.add([4, 5], [np.array([1, 2], dtype=np.uint8), np.array([1, 2, 3, 4, 5], dtype=np.uint8)])
    assert len(index) == 5 and index.dirty == 5
    index.save(path)
    assert index.dirty == 0

    loaded = NphdIndex(max_dim=256)
    loaded.load(path)
    assert sorted(loaded.keys) == [1, 2, 3, 4, 5]
    restored = NphdIndex.restore(path)
    restored.add(6, np.array([9], dtype=np.uint8))
    assert len(restored) == 6
    viewed = NphdIndex.restore(path, view=True)
    assert viewed.get(5).tolist() == [1, 2, 3, 4, 5]
    with pytest.raises(RuntimeError):
        viewed.add(6, np.array([9], dtype=np.uint8))
    index.view(path)
    with pytest.raises(RuntimeError):
        index.add(6, np.array([9], dtype=np.uint8))

    copied = restored.copy()
    copied.remove(1)
    assert 1 in restored and 1 not in copied
    assert restored.dirty == 1 and copied.dirty == 1


def test_sharded_lines(tmp_path, rows):
    vectors = rows(300)
    with ShardedNphdIndex(
        path=tmp_path / "index", max_dim=256, shard_size=8192, background_rotation=True
    ) as index:
        index.add(list(range(300)), vectors)
        index.drain_rotations()
        assert index.stats()["view_shards"] > 1
        assert index.search(vectors[17], count=1).keys[0] == 17
        del index[17]
        assert 17 not in index
        assert sorted(index.keys) == [key for key in range(300) if key != 17]
        assert len(list(index.vectors)) == 299
        index.close()
        index.close()
    with ShardedNphdIndex(path=tmp_path / "index") as index:
        assert len(index) == 299
