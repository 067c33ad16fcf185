"""What the tests share: random vectors with a seed that is shown on failure, and the classes."""

import os

import numpy as np
import pytest

import nphd

SEED = int(os.environ.get("NPHD_TEST_SEED", "20240611"))
SMALL = os.environ.get("NPHD_TEST_SCALE") == "small"  # under sanitizers

SHARDED = [
    nphd.ShardedIndex,
    nphd.ShardedIndex128,
    nphd.ShardedNphdIndex,
    nphd.ShardedNphdIndex128,
]


def pytest_report_header(config):
    return f"seed {SEED} (NPHD_TEST_SEED), scale {'small' if SMALL else 'full'}"


@pytest.fixture
def rng(request):
    print(f"seed {SEED}")
    return np.random.default_rng(SEED)


@pytest.fixture
def rows(rng):
    """rows(n, width): a matrix of random vectors."""
    return lambda count, width=32: rng.integers(0, 256, (count, width), dtype=np.uint8)


@pytest.fixture
def ragged(rng):
    """ragged(n): vectors of 8, 16, 24 and 32 bytes."""
    return lambda count: [
        rng.integers(0, 256, 8 * int(rng.integers(1, 5)), dtype=np.uint8) for _ in range(count)
    ]


class Kind:
    """A sharded class, with keys and options that suit it."""

    def __init__(self, cls):
        self.cls = cls
        self.octets = cls.__name__.endswith("128")
        self.nphd = "Nphd" in cls.__name__

    def open(self, path, bits=256, **options):
        if bits is not None:
            options["max_dim" if self.nphd else "ndim"] = bits
            if not self.nphd:
                options.setdefault("metric", nphd.MetricKind.Hamming)
        return self.cls(path=path, **options)

    def key(self, number):
        return number.to_bytes(16, "big") if self.octets else number

    def keys(self, numbers):
        return [self.key(number) for number in numbers]

    def array(self, numbers):
        dtype = "V16" if self.octets else np.uint64
        return np.array(self.keys(numbers), dtype=dtype)


@pytest.fixture(params=SHARDED, ids=lambda cls: cls.__name__)
def kind(request):
    return Kind(request.param)


@pytest.fixture(params=SHARDED[:1] + SHARDED[2:3], ids=lambda cls: cls.__name__)
def kind64(request):
    return Kind(request.param)


@pytest.fixture(params=SHARDED[2:], ids=lambda cls: cls.__name__)
def mixed(request):
    return Kind(request.param)


@pytest.fixture(params=SHARDED[1::2], ids=lambda cls: cls.__name__)
def kind128(request):
    return Kind(request.param)


def same(vector, expected):
    return vector is not None and np.array_equal(vector, expected)


def shard_files(path):
    return sorted(file.name for file in path.glob("shard_*.usearch"))


def strays(path):
    """Files that are no part of an index."""
    known = {"bloom.isbf", "tombstones.npy", "lock"}
    return [
        file.name
        for file in path.iterdir()
        if file.name not in known
        and not (file.name.startswith("shard_") and file.suffix == ".usearch")
        and not file.name.startswith("journal")
    ]
