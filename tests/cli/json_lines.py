#!/usr/bin/env python3
"""Which lines of JSON the program takes, and with which key, beside what Python's json says.

    python3 tests/cli/json_lines.py --nphd BIN

Lines are made at random from a fixed seed, many of them then broken in one place. A line must be
added exactly when it is JSON (RFC 8259, in UTF-8), and under the key that it spells.
"""
import argparse
import json
import pathlib
import random
import re
import subprocess
import sys
import tempfile

LINES = 6000
SEED = 11

ODD = [b"", b",", b'"', b"}", b"]", b"\\", b"0", b"e", b"\x01", b"\xff", b"\xed\xa0\x80"]


def no_constant(name):
    raise ValueError(name)


def value(rng, depth=0):
    kind = rng.randrange(9 if depth < 4 else 6)
    if kind == 0:
        return rng.choice(["null", "true", "false"])
    if kind <= 2:
        return rng.choice(["0", "-0", "1e400", "-1.5E-7", "0.10", "12345678901234567890123", "7e+2"])
    if kind <= 5:
        parts = ["a", " ", "é", "😀", "\\n", "\\\"", "\\\\", "\\/", "\\u0000", "\\ud83d\\ude00"]
        return '"' + "".join(rng.choice(parts) for _ in range(rng.randrange(6))) + '"'
    blank = rng.choice(["", " ", "\t"])
    if kind <= 6:
        items = [value(rng, depth + 1) for _ in range(rng.randrange(4))]
        return "[" + blank + (blank + "," + blank).join(items) + blank + "]"
    members = [f'"m{i}"{blank}:{blank}' + value(rng, depth + 1) for i in range(rng.randrange(4))]
    return "{" + blank + (blank + "," + blank).join(members) + blank + "}"


def line(rng, key):
    members = [f'"key": {key}', '"hex": "00ff"'] + [
        f'"x{i}": {value(rng)}' for i in range(rng.randrange(3))
    ]
    rng.shuffle(members)
    text = ("{" + ", ".join(members) + "}").encode()
    if rng.random() < 0.6:
        at = rng.randrange(len(text))
        odd = rng.choice(ODD)
        text = text[:at] + odd + text[at + rng.randrange(2) :]
    return text


def expected(text):
    """The key that the line has; None when it is no record."""
    try:
        members = json.loads(
            text.decode(), parse_int=str, parse_constant=no_constant, object_pairs_hook=list
        )
    except ValueError:
        return None
    if not isinstance(members, list) or not text.strip().startswith(b"{"):
        return None
    found = {}
    for name, content in members:
        name = name.strip().lower()
        if name in ("key", "hex", "iscc", "base64"):
            if name in found:
                return None
            found[name] = content
    key = found.get("key")
    if set(found) != {"key", "hex"} or not isinstance(key, str) or not key.isascii():
        return None
    if not re.fullmatch(r"(?:[0-9a-f]{2})+", str(found["hex"]).lower()):
        return None
    if not re.fullmatch(r"[0-9]+", key) or int(key) >= 2**64 - 1:
        return None
    return int(key)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nphd", required=True, type=pathlib.Path)
    nphd = parser.parse_args().nphd.resolve(strict=True)
    rng = random.Random(SEED)
    lines = [line(rng, rng.randrange(10**9, 2**64 - 1)) for _ in range(LINES)]
    keys = [expected(text) for text in lines]
    with tempfile.TemporaryDirectory(prefix="nphd-json-") as base:
        path = pathlib.Path(base, "lines.jsonl")
        path.write_bytes(b"\n".join(lines) + b"\n")
        done = subprocess.run(
            [nphd, "add", "--skip-bad", "--multi", "lines.usearch", path.name],
            cwd=base, capture_output=True, timeout=300, check=False,
        )
        dump = subprocess.run(
            [nphd, "dump", "lines.usearch"], cwd=base, capture_output=True, timeout=300, check=True
        )
    got = sorted(int(json.loads(row)["key"]) for row in dump.stdout.splitlines())
    want = sorted(key for key in keys if key is not None)
    if done.returncode != 0 or got != want:
        print(f"seed {SEED}: exit status {done.returncode}, records {len(got)}, expected {len(want)}")
        missing, extra = set(want) - set(got), set(got) - set(want)
        for text, key in zip(lines, keys):
            if key in missing or any(str(one).encode() in text for one in list(extra)[:20]):
                print(f"    expected {key}: {text!r}")
        return 1
    print(f"{len(lines)} lines, {len(got)} of them records")
    return 0


if __name__ == "__main__":
    sys.exit(main())
