#!/usr/bin/env python3
"""A signal ends every command: it says "interrupted", exits with 128 and the number of the signal,
and leaves no temporary file, no half of a copy, and the index as it was. A second one kills.

    python3 tests/cli/signals.py --nphd BIN --source-dir SRC

Signals are sent once the command has shown that it is at work: by its bar on a terminal, by its
first line of output, or by the word that it waits.
"""
import argparse
import os
import pathlib
import pty
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

SECONDS_LIMIT = 120
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Command:
    """A command of the program, its standard error a terminal, its output a pipe or that too."""

    def __init__(self, nphd, base, words, feed=None, output=subprocess.DEVNULL, setup=None):
        self.words = words
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [nphd, *words], cwd=base, stdin=subprocess.PIPE if feed is not None else
            subprocess.DEVNULL, stdout=output, stderr=slave, bufsize=0, preexec_fn=setup,
        )
        os.close(slave)
        self.said = b""
        if feed:
            self.process.stdin.write(feed)

    def fail(self, text):
        self.process.kill()
        sys.exit(f"nphd {' '.join(self.words)}: {text}; it said {self.said!r}")

    def read(self):
        """More of what it says; false at the end."""
        try:
            piece = os.read(self.master, 65536)
        except OSError:  # the other end is closed
            return False
        self.said += piece
        return piece != b""

    def wait_for(self, word):
        end = time.monotonic() + SECONDS_LIMIT
        while word not in self.said:
            ready, _, _ = select.select([self.master], [], [], max(0, end - time.monotonic()))
            if not ready or not self.read():
                self.fail(f"no {word!r}")
        return self

    def wait_for_output(self):
        ready, _, _ = select.select([self.process.stdout], [], [], SECONDS_LIMIT)
        if not ready or not os.read(self.process.stdout.fileno(), 10):
            self.fail("no output")
        return self

    def end(self):
        """Its exit status."""
        end = time.monotonic() + SECONDS_LIMIT
        while self.process.poll() is None:
            ready, _, _ = select.select([self.master], [], [], 0.05)
            if ready and not self.read():
                self.process.wait(SECONDS_LIMIT)
            if time.monotonic() > end:
                self.fail("it does not end")
        while self.read():
            pass
        os.close(self.master)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        return self.process.returncode

    def interrupt(self, number):
        self.process.send_signal(number)
        status = self.end()
        if status != 128 + number:
            sys.exit(f"nphd {' '.join(self.words)}: exit status {status}, it said {self.said!r}")
        word = f"nphd {self.words[0]}: interrupted\r\n".encode()
        if not self.said.endswith(word):
            sys.exit(f"nphd {' '.join(self.words)}: it said {self.said!r}")


class Test:
    def __init__(self, nphd, base, table):
        self.nphd = nphd
        self.base = pathlib.Path(base)
        self.table = table
        self.count = 0

    def run(self, *words, status=0):
        done = subprocess.run([self.nphd, *map(str, words)], cwd=self.base, capture_output=True,
                              text=True, timeout=SECONDS_LIMIT)
        if done.returncode != status:
            sys.exit(f"nphd {' '.join(map(str, words))}: {done.returncode} {done.stderr}")
        return done.stdout

    def files(self):
        """Everything there is, with its content."""
        return {
            str(path.relative_to(self.base)): path.read_bytes() if path.is_file() else None
            for path in self.base.rglob("*")
        }

    def interrupted(self, words, word, new=()):
        """The command is interrupted once it says `word`, and leaves everything as it was, but for
        what may be new."""
        before = self.files()
        number = SIGNALS[self.count % len(SIGNALS)]
        Command(self.nphd, self.base, words).wait_for(word).interrupt(number)
        after = {name: data for name, data in self.files().items() if name not in new}
        if after != before:
            changed = {name for name in before.keys() | after.keys()
                       if before.get(name, 0) != after.get(name, 0)}
            sys.exit(f"nphd {' '.join(words)}: after signal {number} other than before: {changed}")
        self.count += 1

    # ---- what takes long ----

    def make_slow_directory(self):
        """Its journal takes some seconds to apply."""
        lines = pathlib.Path(self.table).read_text().splitlines(keepends=True)
        (self.base / "one.csv").write_text("".join(lines[:2]))
        (self.base / "some.csv").write_text("".join(lines[:1] + lines[2:6002]))
        self.run("add", "slow", "one.csv", "--breadth", "1500")
        self.run("add", "slow", "some.csv", "--journal", "--breadth", "1500", "--threads", "2")

    def opening(self):
        key = "1"
        query = "0000000000000000000000000000000000000000000000000000000000000000"
        for words in (["search", "slow", query], ["get", "slow", key], ["contains", "slow", key],
                      ["info", "slow"], ["dump", "slow"], ["join", "slow", "--radius", "0.01"],
                      ["add", "slow", "one.csv"], ["remove", "slow", key], ["compact", "slow"],
                      ["rebuild-bloom", "slow"], ["snapshot", "slow", "copy"]):
            self.interrupted(words, b"opening")
        self.interrupted(["verify", "slow"], b"verifying")
        self.interrupted(["salvage", "slow", "copy"], b"salvaging")
        (self.base / "copy").mkdir()
        self.interrupted(["salvage", "slow", "copy"], b"salvaging")  # stays, as it was there
        (self.base / "copy").rmdir()

    def adding(self):
        self.interrupted(["add", "new.usearch", self.table, "--breadth", "3000"], b"adding")
        self.interrupted(["add", "new", self.table, "--breadth", "3000"], b"adding",
                         new=("new", "new/lock"))
        shutil.rmtree(self.base / "new")
        # what was committed is there, and told
        command = Command(self.nphd, self.base,
                          ["add", "new", "one.csv", "-", "--journal", "--format", "csv"], feed=b"")
        end = time.monotonic() + SECONDS_LIMIT
        while not list(self.base.glob("new/shard_*.usearch")) and time.monotonic() < end:
            time.sleep(0.01)
        command.process.stdin.write(b"key,")
        command.interrupt(signal.SIGINT)
        if len(self.run("dump", "new").splitlines()) != 1:
            sys.exit("what was committed is not there")
        shutil.rmtree(self.base / "new")

    def compacting(self):
        lines = pathlib.Path(self.table).read_text().splitlines(keepends=True)
        (self.base / "part.csv").write_text("".join(lines[:6002]))
        self.run("add", "dead", "part.csv", "--breadth", "1500", "--threads", "2",
                 "--shard-size", "256K")
        out = self.run("dump", "dead")
        keys = [row.split('"key": ')[1].split(",")[0].strip('"') for row in out.splitlines()[:400]]
        self.run("remove", "dead", *keys[:300])
        before = sorted(self.run("dump", "dead").splitlines())
        Command(self.nphd, self.base, ["compact", "dead"]).wait_for(b"compacting").interrupt(
            signal.SIGINT)
        if sorted(self.run("dump", "dead").splitlines()) != before:
            sys.exit("an interrupted compaction changed the vectors")
        self.run("verify", "dead")
        strays = [path.name for path in (self.base / "dead").iterdir() if ".tmp" in path.name]
        if strays:
            sys.exit(f"an interrupted compaction left {strays}")

    # ---- what waits ----

    def waiting(self):
        """For the lock of a file that another command has; for queries; for who reads answers."""
        self.run("add", "a.usearch", "one.csv")
        holder = Command(self.nphd, self.base, ["add", "a.usearch", "-", "--format", "csv"],
                         feed=b"")
        end = time.monotonic() + SECONDS_LIMIT
        while time.monotonic() < end:  # until it has the lock, others wait for it
            command = Command(self.nphd, self.base, ["remove", "a.usearch", "99"])
            ready, _, _ = select.select([command.master], [], [], 1)
            if ready and command.read() and b"waiting" in command.said:
                command.interrupt(signal.SIGINT)
                break
            command.end()
        for words in (["add", "a.usearch", "one.csv"], ["remove", "a.usearch", "1"],
                      ["prepare", "a.usearch"]):
            self.interrupted(words, b"waiting")
        holder.interrupt(signal.SIGTERM)

        command = Command(self.nphd, self.base, ["search", "a.usearch", "--queries", "-", "--tsv"],
                          feed=b"hex\n00000000000000ff\n", output=subprocess.PIPE)
        command.wait_for_output().interrupt(signal.SIGINT)
        for words in (["dump", "big.usearch"], ["join", "big.usearch", "--radius", "0.4", "--tsv"]):
            command = Command(self.nphd, self.base, words, output=subprocess.PIPE)
            command.wait_for_output().interrupt(signal.SIGTERM)

    def second(self):
        """Both come before the program can do anything about the first."""
        command = Command(self.nphd, self.base, ["verify", "slow"]).wait_for(b"verifying")
        for number in (signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGCONT):
            command.process.send_signal(number)
        if command.end() not in (-signal.SIGINT, -signal.SIGTERM):
            sys.exit(f"a second signal: exit status {command.process.returncode}")

    def ignored(self):
        """As under nohup."""
        command = Command(self.nphd, self.base, ["verify", "slow"],
                          setup=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        command.wait_for(b"verifying").process.send_signal(signal.SIGHUP)
        if command.end() != 0:
            sys.exit(f"an ignored signal: exit status {command.process.returncode}")

    def reader_gone(self):
        """As behind head(1): an end without a word."""
        command = Command(self.nphd, self.base, ["dump", "big.usearch"], output=subprocess.PIPE)
        command.wait_for_output().process.stdout.close()
        command.process.stdout = None
        if command.end() != 4 or command.said:
            sys.exit(f"without a reader: {command.process.returncode} {command.said!r}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nphd", required=True, type=pathlib.Path)
    parser.add_argument("--source-dir", required=True, type=pathlib.Path)
    arguments = parser.parse_args()
    table = arguments.source_dir.resolve() / "examples" / "linux-docs-codes.csv"
    with tempfile.TemporaryDirectory(prefix="nphd-signals-") as base:
        test = Test(arguments.nphd.resolve(strict=True), base, str(table))
        test.make_slow_directory()
        test.run("add", "big.usearch", table, "--threads", "2")
        for part in (test.opening, test.adding, test.compacting, test.waiting, test.second,
                     test.ignored, test.reader_gone):
            part()
            print(part.__name__, "ended as it should")
    return 0


if __name__ == "__main__":
    sys.exit(main())
