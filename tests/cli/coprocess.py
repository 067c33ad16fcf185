#!/usr/bin/env python3
"""`nphd search --queries -` as a co-process: answers come while the input stays open.

    python3 tests/cli/coprocess.py --nphd BIN

A query is written, its answer awaited, and so on, for each format that has no length in its head;
lines may come in pieces. Then answers are asked for in lots, and a reader goes away.
"""
import argparse
import json
import os
import pathlib
import select
import subprocess
import sys
import tempfile
import time

SECONDS_LIMIT = 60
VECTORS = {1: "00000000000000ff", 2: "000000000000ffff", 3: "ffffffffffffffff"}


class Search:
    def __init__(self, nphd, base, *options):
        command = [nphd, "search", "a.usearch", "--queries", "-", "-k", "1", *options]
        self.process = subprocess.Popen(
            command, cwd=base, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        self.rest = b""

    def write(self, data):
        self.process.stdin.write(data)

    def line(self):
        """The next line of answers; fails when none comes."""
        end = time.monotonic() + SECONDS_LIMIT
        while b"\n" not in self.rest:
            ready, _, _ = select.select([self.process.stdout], [], [], end - time.monotonic())
            if not ready:
                self.process.kill()
                sys.exit("no answer while the input is open")
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                sys.exit("the program ended")
            self.rest += data
        line, self.rest = self.rest.split(b"\n", 1)
        return line.decode()

    def finish(self, status=0):
        self.process.stdin.close()
        more = self.process.stdout.read()
        if self.process.wait(SECONDS_LIMIT) != status or more or self.rest:
            sys.exit(f"exit status {self.process.returncode}, left over {self.rest + more!r}")


def ask(search, make, head=b""):
    """Each vector in turn must find itself."""
    search.write(head)
    for number, (key, digits) in enumerate(VECTORS.items()):
        search.write(make(digits))
        answer = json.loads(search.line())
        if answer["query"] != number or answer["matches"] != [{"key": key, "distance": 0}]:
            sys.exit(f"wrong answer: {answer}")
    search.finish()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nphd", required=True, type=pathlib.Path)
    nphd = parser.parse_args().nphd.resolve(strict=True)
    with tempfile.TemporaryDirectory(prefix="nphd-coprocess-") as base:
        rows = "".join(f"{key},{digits}\n" for key, digits in VECTORS.items())
        pathlib.Path(base, "a.csv").write_text("key,hex\n" + rows)
        subprocess.run([nphd, "add", "a.usearch", "a.csv"], cwd=base, check=True,
                       stdout=subprocess.DEVNULL)

        ask(Search(nphd, base, "--jsonl"), lambda digits: f"{digits}\n".encode(), b"hex\n")
        ask(Search(nphd, base, "--jsonl"), lambda digits: f"{digits}\r\n".encode(), b"hex\r\n")
        ask(Search(nphd, base, "--jsonl"), lambda digits: f'{{"hex": "{digits}"}}\n'.encode())
        ask(Search(nphd, base, "--jsonl", "--format", "raw", "--bytes", "8"), bytes.fromhex)

        # a line in pieces, and many at once
        search = Search(nphd, base, "--tsv")
        search.write(b"hex\n0000000000")
        time.sleep(0.05)
        search.write(b"0000ff\n")
        if search.line() != "0\t1\t1\t0":
            sys.exit("wrong answer to a line in pieces")
        search.write("".join(f"{digits}\n" for digits in VECTORS.values()).encode() * 1000)
        answers = [search.line().split("\t") for _ in range(3000)]
        if [int(answer[2]) for answer in answers] != [1, 2, 3] * 1000:
            sys.exit("wrong answers to many queries")
        search.write(b"00000000000000ff")
        time.sleep(0.05)
        search.process.stdin.close()
        if search.line() != "3001\t1\t1\t0":
            sys.exit("the last line, without a line end, is not answered")
        if search.process.wait(SECONDS_LIMIT) != 0:
            sys.exit(f"exit status {search.process.returncode}")

        # variants wait for their query to be whole
        search = Search(nphd, base, "--tsv", "--variants", "2")
        search.write(b"hex\nffffffffffffffff\n00000000000000ff\n00000000000000f0\n")
        if search.line() != "0\t1\t1\t0\t1":
            sys.exit("wrong answer to variants")
        search.write(b"000000000000ffff\n")
        if search.line() != "1\t1\t2\t0\t1":
            sys.exit("wrong answer to the second query of variants")
        search.finish()

        # nobody reads the answers any more
        search = Search(nphd, base, "--tsv")
        search.process.stdout.close()
        search.write(b"hex\n00000000000000ff\n")
        if search.process.wait(SECONDS_LIMIT) != 4:
            sys.exit(f"without a reader: exit status {search.process.returncode}")
    print("all queries answered while the input was open")
    return 0


if __name__ == "__main__":
    sys.exit(main())
