"""The reference and our package behind one face, vectors for both, and the answers they must give.

Keys are arrays: uint64, or items of 16 bytes (V16). A model is a dictionary from keys, as integers
or bytes, to the bytes of vectors."""

import importlib.metadata
import pathlib

import iscc_usearch
import numpy as np
import usearch.index
from usearch.index import ScalarKind

import nphd

ROOT = pathlib.Path(__file__).resolve().parents[2]
DATA = ROOT / "bench/data/kernel-simprints-200k.bin"
ROW_BYTES = 32


def versions():
    names = ("iscc-usearch", "usearch-iscc", "fastbloom_rs", "numpy")
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


def _splitmix64(number):
    z = (number + 1) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return z ^ z >> np.uint64(31)


def fingerprints():
    """All rows of the data as a matrix, and the bytes of each after cutting (bench_index.c)."""
    rows = np.fromfile(DATA, dtype=np.uint8).reshape(-1, ROW_BYTES)
    lengths = 8 * (1 + (_splitmix64(np.arange(len(rows), dtype=np.uint64)) % np.uint64(4)))
    return rows, lengths.astype(int)


class Kind:
    """A kind of index: the metric and the width of keys."""

    def __init__(self, mixed, octets):
        self.mixed = mixed
        self.octets = octets
        self.name = f"{'nphd' if mixed else 'hamming'}-{128 if octets else 64}"

    def keys(self, numbers):
        if not self.octets:
            return np.array(list(numbers), dtype=np.uint64)
        octets = b"".join(int(number).to_bytes(16, "big") for number in numbers)
        return np.frombuffer(octets, dtype="V16")

    def plain(self, key):
        return bytes(key) if self.octets else int(key)

    def vectors(self, rng, count):
        """`count` fingerprints, the same for the same generator; mixed lengths where possible."""
        rows, lengths = fingerprints()
        chosen = rng.choice(len(rows), count, replace=False)
        if not self.mixed:
            return list(rows[chosen])
        return [rows[i, : lengths[i]] for i in chosen]

    def batch(self, vectors):
        return vectors if self.mixed else np.vstack(vectors)

    def distance(self, query, stored):
        """From one vector to many, as both sides define it: 32-bit floats."""
        width = ROW_BYTES
        table = np.zeros((len(stored), width), dtype=np.uint8)
        lengths = np.array([len(vector) for vector in stored])
        for i, vector in enumerate(stored):
            table[i, : len(vector)] = vector
        shared = np.minimum(lengths, len(query))
        padded = np.zeros(width, dtype=np.uint8)
        padded[: len(query)] = query
        differing = np.bitwise_count(table ^ padded)
        differing[np.arange(width) >= shared[:, None]] = 0
        bits = differing.sum(axis=1, dtype=np.uint32)
        if not self.mixed:
            return bits.astype(np.float32)
        return bits.astype(np.float32) / (8 * shared).astype(np.float32)


KINDS = [Kind(mixed, octets) for mixed in (True, False) for octets in (False, True)]


class Reference:
    name = "reference"

    def single(self, kind):
        options = {"key_kind": ScalarKind.UUID} if kind.octets else {}
        if kind.mixed:
            return iscc_usearch.NphdIndex(max_dim=256, **options)
        return self._index(ndim=256, metric=usearch.index.MetricKind.Hamming, dtype="b1", **options)

    @staticmethod
    def _index(**options):
        from iscc_usearch.index import Index

        return Index(**options)

    def open(self, kind, path, new=False, journal=False, **options):
        width = "128" if kind.octets else ""
        if kind.mixed:
            cls = getattr(iscc_usearch, f"ShardedNphdIndex{width}")
            return cls(path=path, **({"max_dim": 256} if new else {}), **options)
        cls = getattr(iscc_usearch, f"ShardedIndex{width}")
        if new:
            options |= {"ndim": 256, "dtype": "b1"}
        return cls(path=path, metric=usearch.index.MetricKind.Hamming, **options)

    def graph(self, index, queries, count):
        return index.search(queries, count)

    def upsert(self, kind, index, keys, vectors):
        # it takes no mixed lengths in one batch
        for length in sorted({len(vector) for vector in vectors}):
            places = [i for i, vector in enumerate(vectors) if len(vector) == length]
            index.upsert(keys[places], np.vstack([vectors[i] for i in places]))


class Ours:
    name = "nphd"

    def single(self, kind):
        bits = 128 if kind.octets else 64
        if kind.mixed:
            return nphd.NphdIndex(max_dim=256, key_bits=bits)
        return nphd.Index(ndim=256, key_bits=bits)

    def open(self, kind, path, new=False, journal=False, **options):
        width = "128" if kind.octets else ""
        options["journal"] = journal
        if kind.mixed:
            cls = getattr(nphd, f"ShardedNphdIndex{width}")
            return cls(path=path, **({"max_dim": 256} if new else {}), **options)
        cls = getattr(nphd, f"ShardedIndex{width}")
        if new:
            options["ndim"] = 256
        return cls(path=path, metric=nphd.MetricKind.Hamming, **options)

    def graph(self, index, queries, count):
        return index.search(queries, count, approximate=True)

    def upsert(self, kind, index, keys, vectors):
        index.upsert(keys, kind.batch(vectors))


REFERENCE, OURS = Reference(), Ours()


def breaks_reference(path):
    """Does the reference write past its memory when it loads this file, or this directory's last
    shard? It sizes its table of keys for all slots and then again for the live ones alone, in
    powers of two. Views are not affected."""
    files = sorted(path.glob("shard_*.usearch")) if path.is_dir() else [path]
    if not files:
        return False
    header = nphd.NphdIndex.metadata(files[-1])
    live, slots = header["count_present"], header["count_present"] + header["count_deleted"]

    def table(entries):
        return max(64, 1 << (3 * entries // 2 - 1).bit_length())

    return live < slots and (live == 0 or table(live) < table(slots))


def contents(kind, index):
    """A model of what is found by going through the index, checked against looking keys up."""
    # before the first lookup, a view of the reference lists removed vectors too, with any key; and
    # with a filter no lookup of an absent key gets as far as the views
    for shard in getattr(index, "_viewed_indexes", [index]):
        shard.contains(kind.plain(kind.keys([0])[0]))
    keys = np.asarray(index.keys)
    if len(keys) == 0:
        return {}
    keys = keys if kind.octets else keys.astype(np.uint64)
    found = index.get(keys)
    model = {}
    for key, vector in zip(keys, found, strict=True):
        assert vector is not None, f"key {kind.plain(key)} is listed and cannot be looked up"
        model[kind.plain(key)] = bytes(vector)
    assert len(model) == len(keys), "a key is listed twice"
    return model


def difference(seen, expected):
    """The first differences of two models, in words; empty when they are equal."""
    lines = []
    for what, keys in (
        ("more", seen.keys() - expected.keys()),
        ("missing", expected.keys() - seen.keys()),
        ("other vector", {k for k in seen.keys() & expected.keys() if seen[k] != expected[k]}),
    ):
        if keys:
            lines.append(f"{len(keys)} {what}, such as {sorted(keys)[:3]}")
    return "; ".join(lines)


def ranked(kind, model, queries, count):
    """For each query: the distances of the nearest, and the distance of each key."""
    keys = list(model)
    stored = [np.frombuffer(model[key], dtype=np.uint8) for key in keys]
    for query in queries:
        distances = kind.distance(query, stored)
        yield np.sort(distances)[:count], dict(zip(keys, distances, strict=True))


def check_exact(kind, index, model, queries, count, ties_by_key, complete=True):
    """Exact answers: the right distances in order, the right key at each; ties by key if so. Not
    complete: what is there must be right, but matches may be missing."""
    for query, (nearest, by_key) in zip(
        queries, ranked(kind, model, queries, count), strict=True
    ):
        found = index.search(query, count, exact=True)
        keys = [kind.plain(key) for key in found.keys]
        assert len(set(keys)) == len(keys)
        if complete:
            np.testing.assert_allclose(found.distances, nearest, rtol=0, atol=1e-6)
        for key, distance in zip(keys, found.distances, strict=True):
            assert key in by_key, f"key {key} was removed"
            assert abs(by_key[key] - distance) <= 1e-6, f"key {key} has another vector"
        order = list(zip(found.distances.tolist(), keys, strict=True))
        if not ties_by_key:
            order = [distance for distance, _ in order]
        assert order == sorted(order)


def recall(kind, side, index, model, queries, count=10):
    """Of the nearest, how many the graph finds; one as near as the last counts."""
    hits = 0
    wanted = 0
    for query, (nearest, by_key) in zip(
        queries, ranked(kind, model, queries, count), strict=True
    ):
        found = side.graph(index, query, count)
        hits += sum(by_key[kind.plain(key)] <= nearest[-1] + 1e-6 for key in found.keys)
        wanted += len(nearest)
    return hits / wanted
