#!/usr/bin/env python3
"""The progress bar fits the terminal, whatever its width, and is gone at the end.

    python3 tests/cli/progress.py --nphd BIN --source-dir SRC
"""
import argparse
import fcntl
import os
import pathlib
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios

WIDTHS = (10, 24, 40, 60, 80, 200)

# The last word of a command that is ended, behind the bar.
WORD = "\r\x1b[Knphd add: interrupted\r\n"


def drawn(nphd, table, columns, base):
    """What is written to a terminal of so many columns."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    # every vector costs enough for the bar to come, on any machine
    command = [nphd, "add", f"{columns}.usearch", "--breadth", "2000", table]
    with subprocess.Popen(
        command, cwd=base, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=slave
    ) as process:
        os.close(slave)
        text = b""
        ended = False
        while True:
            try:
                piece = os.read(master, 65536)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            text += piece
            if text.count(b"\r") > 5 and not ended:
                process.terminate()  # once: a second signal kills it before it tidies up
                ended = True
    os.close(master)
    return text.decode()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nphd", required=True, type=pathlib.Path)
    parser.add_argument("--source-dir", required=True, type=pathlib.Path)
    arguments = parser.parse_args()
    nphd = arguments.nphd.resolve(strict=True)
    table = arguments.source_dir.resolve() / "examples" / "linux-docs-codes.csv"
    with tempfile.TemporaryDirectory(prefix="nphd-progress-") as base:
        for columns in WIDTHS:
            text = drawn(nphd, table, columns, base)
            if not text.endswith(WORD):
                sys.exit(f"{columns} columns: the bar stays at the end: {text[-80:]!r}")
            lines = re.split(r"(?:\r|\x1b\[K)+", text.removesuffix(WORD))[1:-1]
            if not lines:
                sys.exit(f"{columns} columns: no bar was drawn")
            for line in lines:
                if len(line) >= columns or "\n" in line:
                    sys.exit(f"{columns} columns: a line of {len(line)}: {line!r}")
                if not line.startswith("adding"[: columns - 1]):
                    sys.exit(f"{columns} columns: not a bar: {line!r}")
            if columns >= 60 and not re.fullmatch(
                r"adding \[[#.]{4,24}\] +\d+%  \d+ vectors, \d+/s(, .* left)?", lines[-1]
            ):
                sys.exit(f"{columns} columns: not the whole bar: {lines[-1]!r}")
            print(f"{columns:4} {lines[-1]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
