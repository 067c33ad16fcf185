"""Directories: what one side writes the other opens, changes and writes again."""

import os

import numpy as np
import pytest
from sides import (
    KINDS,
    OURS,
    REFERENCE,
    breaks_reference,
    check_exact,
    contents,
    difference,
    recall,
)

import nphd

SEED = 20240611
SHARD_BYTES = 40000  # some 150 vectors
BATCH = 50  # the reference looks at the size of a shard between batches only
PAIRS = [(OURS, REFERENCE), (REFERENCE, OURS)]
NOISE = 0.03  # of recall over the queries used here


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request):
    return request.param


@pytest.fixture(params=PAIRS, ids=lambda pair: f"{pair[0].name}-writes")
def pair(request):
    return request.param


@pytest.fixture(params=[True, False], ids=["bloom", "no-bloom"])
def bloom(request):
    return request.param


class Life:
    """A directory that both sides change in turn, and what it must contain."""

    def __init__(self, kind, path, seed=SEED):
        self.kind = kind
        self.path = path
        self.rng = np.random.default_rng(seed)
        self.model = {}
        self.following = 1
        self.by_reference = False
        self.removed = False
        self.replaced = False
        print(f"seed {seed}")

    def open(self, side, **options):
        new = not self.path.exists() or not any(self.path.glob("*.usearch"))
        options.setdefault("shard_size", SHARD_BYTES)
        return side.open(self.kind, self.path, new=new, **options)

    def pick(self, count):
        """Keys that are there, as integers or bytes."""
        present = sorted(self.model)
        return [present[i] for i in self.rng.choice(len(present), count, replace=False)]

    def array(self, plain):
        numbers = (int.from_bytes(k, "big") if self.kind.octets else k for k in plain)
        return self.kind.keys(numbers)

    def add(self, index, count):
        vectors = self.kind.vectors(self.rng, count)
        keys = self.kind.keys(range(self.following, self.following + count))
        self.following += count
        for first in range(0, count, BATCH):
            part = slice(first, first + BATCH)
            index.add(keys[part], self.kind.batch(vectors[part]), threads=1)
        self.learn(keys, vectors)

    def learn(self, keys, vectors):
        for key, vector in zip(keys, vectors, strict=True):
            self.model[self.kind.plain(key)] = bytes(vector)

    def remove(self, index, count):
        self.removed = True
        for key in self.pick(count):
            index.remove(key)
            del self.model[key]

    def upsert(self, side, index, count):
        if side is REFERENCE and self.kind.octets and self.removed:
            return  # alone, too, it ends the process or stores another vector
        self.replaced = True
        keys = self.array(self.pick(count))
        vectors = self.kind.vectors(self.rng, count)
        side.upsert(self.kind, index, keys, vectors)
        self.learn(keys, vectors)

    def settle(self, writer):
        """What the reference deleted in a shard that is the last one at the next opening is there
        again then (W1): its own next opening says what a directory of it contains."""
        if breaks_reference(self.path):
            pytest.xfail("the reference cannot load this: see test_reference_loads_what_it_wrote")
        self.by_reference = writer is REFERENCE
        if self.by_reference and self.removed and any(self.path.glob("*.usearch")):
            index = self.open(REFERENCE)
            seen = contents(self.kind, index)
            revived = seen.keys() - self.model.keys()
            if revived:
                print(f"{len(revived)} keys came back at the next opening by the reference")
            assert difference({k: v for k, v in seen.items() if k not in revived}, self.model) == ""
            self.model = seen

    def check(self, side, **options):
        """Everything is there when the directory is opened by the side."""
        if side is REFERENCE and self.by_reference:
            options["read_only"] = False  # a reader of the reference applies more deletions (W1)
        with self.open(side, **options) as index:
            assert difference(contents(self.kind, index), self.model) == "", side.name
            absent = self.kind.keys([10**9])
            assert not np.any(index.contains(absent))
            # The reference, in directories of its own as well: where keys were deleted it finds
            # fewer than there are (W42); where they were replaced it counts old copies and finds
            # them too (W4).
            whole = side is OURS or not (self.removed or self.replaced)
            if whole:
                assert len(index) == len(self.model)
            if side is OURS or not self.replaced:
                queries = self.kind.vectors(self.rng, 5)
                check_exact(self.kind, index, self.model, queries, 10, side is OURS, whole)


@pytest.mark.parametrize("changes", ["add", "remove", "upsert", "remove and upsert"])
def test_contents_and_answers(tmp_path, kind, pair, bloom, changes):
    writer, reader = pair
    life = Life(kind, tmp_path / "x")
    with life.open(writer, bloom_filter=bloom) as index:
        life.add(index, 700)
        if "remove" in changes:
            life.remove(index, 60)
        if "upsert" in changes:
            life.upsert(writer, index, 50)
    life.settle(writer)
    assert len(list(life.path.glob("*.usearch"))) >= 3
    for side in (writer, reader):
        life.check(side, read_only=True, bloom_filter=bloom)
    life.check(reader, bloom_filter=not bloom)
    life.check(writer, bloom_filter=bloom)


@pytest.mark.parametrize("count", [100, 300], ids=["one-shard", "two-shards"])
def test_empty(tmp_path, kind, pair, bloom, count):
    """A directory whose vectors were all removed."""
    writer, reader = pair
    life = Life(kind, tmp_path / "x")
    with life.open(writer, bloom_filter=bloom) as index:
        life.add(index, count)
    with life.open(writer, bloom_filter=bloom) as index:
        life.remove(index, count)
        assert contents(kind, index) == {} and len(index) == 0
    life.settle(writer)
    with life.open(reader, bloom_filter=bloom) as index:
        assert difference(contents(kind, index), life.model) == ""
        life.add(index, 20)
    life.settle(reader)
    life.check(writer)
    life.check(reader)


@pytest.mark.parametrize("journal", [False, True], ids=["saves", "journal"])
@pytest.mark.parametrize("first", [OURS, REFERENCE], ids=["nphd-first", "reference-first"])
def test_to_and_fro(tmp_path, kind, bloom, journal, first):
    """Each side in turn opens the directory, adds, removes, upserts, and saves."""
    life = Life(kind, tmp_path / "x")
    sides = (OURS, REFERENCE) if first is OURS else (REFERENCE, OURS)
    for turn in range(8):
        side = sides[turn % 2]
        with life.open(side, bloom_filter=bloom, journal=journal) as index:
            assert difference(contents(kind, index), life.model) == "", f"turn {turn}"
            if turn:
                life.remove(index, 25)
                life.upsert(side, index, 15)
            if side is OURS and journal:
                index.commit()
            # last, so that room of removed vectors is used again (breaks_reference)
            life.add(index, 130)
            if side is OURS and journal:
                index.commit()
        life.settle(side)
        for other in sides:
            life.check(other, read_only=True, bloom_filter=bloom)
    assert nphd.verify(life.path)


def test_journal_is_ignored_by_the_reference(tmp_path, kind):
    """What is committed and not saved is in the journal alone: the reference sees the last save,
    and once it has written there the journal no longer belongs to the files."""
    life = Life(kind, tmp_path / "x")
    index = life.open(OURS, journal=True)
    life.add(index, 100)
    index.save()
    saved = dict(life.model)
    life.add(index, 50)
    index.commit()
    assert list(life.path.glob("journal*"))
    with life.open(REFERENCE, read_only=True) as other:
        assert difference(contents(kind, other), saved) == ""
    life.check(OURS, read_only=True)


def committed_and_dropped(life, added):
    """A writer of ours that ends without a save after its last commit."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            index = life.open(OURS, journal=True)
            life.add(index, added)
            index.save()
            life.add(index, 60)
            index.commit()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert list(life.path.glob("journal*"))


@pytest.mark.parametrize("added", [100, 500], ids=["one-shard", "shards"])
def test_reference_writes_beside_a_journal(tmp_path, kind, added):
    """Once the reference has written, the journal no longer belongs to the files: what it holds is
    in none of our later states, whatever generations these have."""
    life = Life(kind, tmp_path / "x")
    committed_and_dropped(life, added)
    with life.open(REFERENCE) as index:
        life.model = contents(kind, index)
        assert len(life.model) >= added
        life.following = 10000
        life.add(index, 70)
    life.by_reference = True
    life.check(OURS, read_only=True)
    life.by_reference = False
    for turn in range(4):
        with life.open(OURS, journal=turn % 2 == 0) as index:
            assert difference(contents(kind, index), life.model) == "", f"turn {turn}"
            life.add(index, 20)
            index.commit()
            life.add(index, 10)
            index.save()
        life.check(OURS, read_only=True)
        life.check(REFERENCE, read_only=True)
    assert nphd.verify(life.path)


def test_compact(tmp_path, kind, pair):
    writer, reader = pair
    life = Life(kind, tmp_path / "x")
    with life.open(writer) as index:
        life.add(index, 400)
        life.remove(index, 100)
        life.add(index, 100)
    life.settle(writer)
    with life.open(reader) as index:
        life.upsert(reader, index, 40)
        index.compact()
        index.save()
    life.settle(reader)
    for side in (writer, reader):
        life.check(side, read_only=True)
    with life.open(writer) as index:
        index.compact()
        life.add(index, 30)
    life.settle(writer)
    for side in (writer, reader):
        life.check(side)


@pytest.mark.parametrize("large", [KINDS[0], KINDS[3]], ids=lambda kind: kind.name)
def test_large(tmp_path, large, pair, capsys):
    """20,000 vectors in several shards: the graphs are as good under the search of the other."""
    writer, reader = pair
    life = Life(large, tmp_path / "x")
    with life.open(writer, shard_size=900_000) as index:
        life.add(index, 20000)
        life.remove(index, 300)
        life.add(index, 50)
    life.settle(writer)
    queries = large.vectors(np.random.default_rng(11), 100)
    recalls = []
    for side in (writer, reader):
        with life.open(side, shard_size=900_000, read_only=True) as index:
            recalls.append(recall(large, side, index, life.model, queries))
    with capsys.disabled():
        print(f"\n  shards of {writer.name}, {large.name}: recall@10 {recalls[0]:.3f}, "
              f"searched by {reader.name} {recalls[1]:.3f}")  # fmt: skip
    assert recalls[1] >= recalls[0] - NOISE
    life.check(reader, shard_size=900_000, read_only=True)
