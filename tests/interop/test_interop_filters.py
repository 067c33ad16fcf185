"""Bloom filters by themselves: keys of bytes of any length are found by the other side."""

import iscc_usearch
import numpy as np
import pytest

import nphd

SIDES = [iscc_usearch.ScalableBloomFilter, nphd.ScalableBloomFilter]
LENGTHS = [*range(1, 65), 127, 128, 129, 240, 241, 1000]  # XXH3 changes its ways at some of these


def keys(seed):
    rng = np.random.default_rng(seed)
    return [rng.bytes(length) for length in LENGTHS for _ in range(3)]


@pytest.mark.parametrize("writer, reader", [SIDES, SIDES[::-1]], ids=["reference-writes", "nphd-writes"])
@pytest.mark.parametrize("batch", [False, True], ids=["one-by-one", "batch"])
def test_keys_of_any_length(tmp_path, writer, reader, batch):
    path = str(tmp_path / "filter")
    written = writer(initial_capacity=1000)
    if batch:
        written.add_batch(keys(1))
    else:
        for key in keys(1):
            written.add(key)
    written.save(path)
    read = reader.load(path)
    assert all(read.contains(key) for key in keys(1))
    assert all(read.contains_batch(keys(1)))
    others = keys(2)[12:]  # short ones may be equal
    assert [read.contains(key) for key in others] == [written.contains(key) for key in others]
