#!/usr/bin/env python3
"""Compiles and runs the C programs of the documentation.

    run_samples.py --compiler CC --library libnphd.a [--flag=FLAG...] [FILE...]

A sample is a ```c block with a main. The next ```text block before another ```c block or heading,
if there is one, is what it prints. Samples run in an empty directory, with the folder examples/ of
the tree beside them. README.md, when it is there, has at least one sample; examples/*.c are built
by CMake. Console blocks are the business of tests/cli/man_examples.py.
"""

import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PIECE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```[ \t]*$|^(#{1,6} )", re.S | re.M)


def samples(text):
    """Yields (line, program, expected output or None)."""
    program = None
    for match in PIECE.finditer(text):
        language, body, heading = match.groups()
        if program is not None and language == "text":
            yield (*program, body)
            program = None
        elif heading or language == "c":
            if program is not None:
                yield (*program, None)
            program = None
        if language == "c" and re.search(r"\bint\s+main\s*\(", body):
            program = (text.count("\n", 0, match.start()) + 2, body)
    if program is not None:
        yield (*program, None)


def run_sample(arguments, name, line, program, expected):
    with tempfile.TemporaryDirectory() as folder_name:
        folder = pathlib.Path(folder_name)
        (folder / "examples").symlink_to(ROOT / "examples")
        source = folder / "sample.c"
        # Messages then name the line in the document.
        source.write_text(f'#line {line} "{name}"\n{program}')
        command = [
            arguments.compiler, "-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror",
            *arguments.flag, f"-I{ROOT / 'include'}", str(source), "-o",
            str(folder / "sample"), arguments.library, "-pthread", "-lm",
        ]
        built = subprocess.run(command, capture_output=True, text=True)
        if built.returncode != 0:
            return f"{name}:{line}: does not compile\n{built.stderr}"
        ran = subprocess.run([str(folder / "sample")], cwd=folder, capture_output=True, text=True,
                             timeout=60)
        if ran.returncode != 0:
            return f"{name}:{line}: exit status {ran.returncode}\n{ran.stdout}{ran.stderr}"
        if expected is not None and ran.stdout != expected:
            return f"{name}:{line}: prints\n{ran.stdout}and not\n{expected}"
    return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--compiler", required=True)
    parser.add_argument("--library", required=True)
    parser.add_argument("--flag", action="append", default=[])
    parser.add_argument("files", nargs="*", type=pathlib.Path)
    arguments = parser.parse_args()

    readme = ROOT / "README.md"
    files = arguments.files
    if not files:
        files = ([readme] if readme.exists() else []) + sorted((ROOT / "docs").glob("*.md"))
    failures = []
    count = 0
    for path in files:
        found = list(samples(path.read_text(encoding="utf-8")))
        count += len(found)
        if path == readme and not found:
            failures.append("README.md: no sample, that is, no ```c block with a main")
        name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
        for sample in found:
            failure = run_sample(arguments, name, *sample)
            if failure:
                failures.append(failure)
    for failure in failures:
        print(failure)
    print(f"{count} samples, {len(failures)} failures")
    return 1 if failures else 0


sys.exit(main())
