#!/usr/bin/env python3
"""Run one case of the command-line tests: commands, and what they print, say and exit with.

    python3 tests/cli/run.py --nphd BIN --source-dir SRC CASE

A case is a text file of sections. Lines before the first section are comments.

    === file NAME       a file to write into the fresh directory that the case runs in
    === command         a line (or lines) for /bin/sh; `nphd` is the program under test
    === stdout          what the command prints; missing or empty: nothing
    === stderr          what it says on standard error; likewise
    === status          its exit status; missing: 0

Sections from `command` to the next `command` belong together. $EXAMPLES and $FIXTURES name the
directories examples/ and tests/fixtures/usearch/, in commands and in expected text. Expected text
is compared exactly, but for these wildcards:

    <SECONDS>           digits, a point and digits
    <ANY>               anything within a line
    <LINES>             alone on a line: any lines, also none

Exit status 0: all as expected; 1: not, with the differences. --accept rewrites the expectations of
the case (without wildcards, to be put back and reviewed by hand).
"""
import argparse
import difflib
import os
import pathlib
import re
import subprocess
import sys
import tempfile

WILDCARDS = {"<SECONDS>": r"[0-9]+\.[0-9]+", "<ANY>": r"[^\n]*"}
SECONDS_LIMIT = 300


class Step:
    def __init__(self):
        self.command = ""
        self.stdout = ""
        self.stderr = ""
        self.status = 0


def parse(path):
    """The comment, the files and the steps of a case."""
    comment, files, steps = [], {}, []
    target = None
    for number, line in enumerate(path.read_text().splitlines(keepends=True), 1):
        if not line.startswith("=== "):
            if target is None:
                comment.append(line)
            elif target[0] == "file":
                files[target[1]] += line
            elif target[0] == "status":
                steps[-1].status = int(line)
            else:
                setattr(steps[-1], target[0], getattr(steps[-1], target[0]) + line)
            continue
        target = line[4:].split(maxsplit=1)
        if target[0] == "file" and len(target) == 2:
            target[1] = target[1].strip()
            files[target[1]] = ""
        elif target == ["command"]:
            steps.append(Step())
        elif not (steps and target[0] in ("stdout", "stderr", "status") and len(target) == 1):
            sys.exit(f"{path}:{number}: not a section: {line.strip()}")
    if not steps:
        sys.exit(f"{path}: no command")
    return "".join(comment), files, steps


def pattern(expected, places):
    """A regular expression for expected text."""
    for name, place in places.items():
        expected = expected.replace("$" + name, place)
    parts = []
    for line in expected.splitlines(keepends=True):
        if line.strip() == "<LINES>":
            parts.append(r"(?:[^\n]*\n)*")
            continue
        text = re.escape(line)
        for wildcard, meaning in WILDCARDS.items():
            text = text.replace(re.escape(wildcard), meaning)
        parts.append(text)
    return "".join(parts)


def run(step, directory, environment):
    return subprocess.run(
        ["/bin/sh", "-c", step.command],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=SECONDS_LIMIT,
        check=False,
    )


def compare(step, done, places):
    """Differences between what a step expects and what it did, as lines."""
    found = []
    for name, got in (("stdout", done.stdout), ("stderr", done.stderr)):
        got = got.decode("utf-8", "backslashreplace")
        expected = getattr(step, name)
        if not re.fullmatch(pattern(expected, places), got):
            found.append(f"{name} differs:")
            found += difflib.unified_diff(
                expected.splitlines(), got.splitlines(), "expected", "got", lineterm=""
            )
    if done.returncode != step.status:
        found.append(f"exit status {done.returncode}, expected {step.status}")
    return found


def accept(path, comment, files, steps, results, places):
    text = comment
    for name, content in files.items():
        text += f"=== file {name}\n{content}"
    for step, done in zip(steps, results):
        text += f"=== command\n{step.command}"
        for name, got in (("stdout", done.stdout), ("stderr", done.stderr)):
            got = got.decode("utf-8", "backslashreplace")
            if re.fullmatch(pattern(getattr(step, name), places), got):
                got = getattr(step, name)
            for place, directory in places.items():
                got = got.replace(directory, "$" + place)
            if got:
                text += f"=== {name}\n{got}" + ("" if got.endswith("\n") else "\n")
        if done.returncode != 0:
            text += f"=== status\n{done.returncode}\n"
    path.write_text(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nphd", required=True, type=pathlib.Path)
    parser.add_argument("--source-dir", required=True, type=pathlib.Path)
    parser.add_argument("--accept", action="store_true")
    parser.add_argument("case", type=pathlib.Path)
    arguments = parser.parse_args()

    source = arguments.source_dir.resolve()
    places = {
        "EXAMPLES": str(source / "examples"),
        "FIXTURES": str(source / "tests" / "fixtures" / "usearch"),
    }
    comment, files, steps = parse(arguments.case)
    results, failures = [], 0
    with tempfile.TemporaryDirectory(prefix="nphd-cli-") as base:
        tools = pathlib.Path(base, "tools")
        directory = pathlib.Path(base, "case")
        tools.mkdir()
        directory.mkdir()
        (tools / "nphd").symlink_to(arguments.nphd.resolve(strict=True))
        environment = dict(os.environ, LC_ALL="C", **places)
        environment["PATH"] = f"{tools}{os.pathsep}{environment.get('PATH', '/usr/bin:/bin')}"
        environment.pop("NPHD_KERNEL", None)
        environment.pop("POSIXLY_CORRECT", None)
        for name, content in files.items():
            (directory / name).write_text(content)
        for step in steps:
            done = run(step, directory, environment)
            results.append(done)
            found = compare(step, done, places)
            if found and not arguments.accept:
                failures += 1
                print(f"{arguments.case}: {step.command.strip()}")
                print("\n".join("    " + line for line in found))
                break
    if arguments.accept:
        accept(arguments.case, comment, files, steps, results, places)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
