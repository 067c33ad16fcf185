"""What the layers of the crash tests share: running the tool, killing it, checking what is left."""

import os
import random
import re
import shutil
import signal
import subprocess
import tempfile

# System calls that change what is on disk, or hold on to it.
CALLS = ("openat", "pwrite64", "fallocate", "fdatasync", "fsync", "renameat",
         "renameat2", "unlinkat", "mkdirat", "close", "fcntl", "linkat", "flock", "fchmod")
LINE = re.compile(r"^(?:\d+\s+)?(\w+)\(")


class Failure(Exception):
    """A promise that does not hold, with what is needed to see it again."""


class Lab:
    def __init__(self, tool, seed, long, small, seconds):
        self.tool = os.path.abspath(tool)
        self.seed = seed
        self.long = long
        self.small = small
        self.seconds = seconds
        self.random = random.Random(seed)
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.fast = tempfile.mkdtemp(prefix="nphd-crash-", dir=memory)
        self.slow = tempfile.mkdtemp(prefix="nphd-crash-")
        self.history = os.path.join(self.slow, "history")
        self.undo = []  # commands that take mounts and devices away again
        self.keep = False
        self.bugs = set()  # seeded ones to try; none: all

    def close(self):
        for command in reversed(self.undo):
            subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for folder in (self.fast, self.slow):
            if self.keep:
                print(f"  kept for a look: {folder}")
            else:
                shutil.rmtree(folder, ignore_errors=True)

    def pick(self, short, default, long):
        return short if self.small else long if self.long else default

    # ---- running ----

    def command(self, what, directory, **options):
        return [self.tool, what, directory, self.history] + [
            f"{name}={value}" for name, value in options.items()]

    def run(self, command, timeout=120):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, errors="replace", timeout=timeout)
        return done.returncode, done.stdout.strip()

    def must(self, command, timeout=120):
        code, text = self.run(command, timeout)
        if code != 0:
            raise Failure(f"{' '.join(command)}: {code}: {text[-2000:]}")
        return text

    def must_be_one_of(self, codes, command):
        code, text = self.run(command)
        if code not in codes:
            raise Failure(f"{' '.join(command)}: {code}: {text[-2000:]}")
        return code, text

    def fresh(self, directory):
        shutil.rmtree(directory, ignore_errors=True)
        self.forget_history()

    def forget_history(self):
        for name in os.listdir(self.slow):
            if name.startswith("history."):
                os.unlink(os.path.join(self.slow, name))

    def check(self, directory, what, **options):
        code, text = self.run(self.command("check", directory, **options))
        if code != 0:
            self.keep = True
            raise Failure(f"{what}: {text[-2000:]}")

    # ---- killing ----

    def calls_of(self, command, directory):
        """Each call that touches the directory, as (name, how many of that name so far)."""
        trace = os.path.join(self.slow, "calls")
        self.must(["strace", "-f", "-qq", "-y", "-o", trace] + command)
        counts = {}
        calls = []
        with open(trace, errors="replace") as lines:
            for line in lines:
                match = LINE.match(line)
                if match is None:
                    continue
                name = match.group(1)
                counts[name] = counts.get(name, 0) + 1
                if name in CALLS and directory in line:
                    calls.append((name, counts[name]))
        return calls

    def kill_before(self, command, call):
        """Was it killed? A run may come to its end before that call."""
        name, number = call
        done = subprocess.run(
            ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={name}", "-e",
             f"inject={name}:signal=KILL:when={number}"] + command,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120)
        return done.returncode in (-signal.SIGKILL, 137)

    def kill_after(self, command, seconds):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            _, text = process.communicate(timeout=seconds)
            if process.returncode != 0:
                raise Failure(f"{' '.join(command)}: {process.returncode}: "
                              f"{text.decode(errors='replace')[-2000:]}")
            return False
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return True


def spread(items, count):
    """About `count` of the items, evenly."""
    if count >= len(items):
        return list(items)
    return [items[i * len(items) // count] for i in range(count)]


def have(*programs):
    """The first program that is missing, or None."""
    for program in programs:
        if shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is None:
            return program
    return None
