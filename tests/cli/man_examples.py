#!/usr/bin/env python3
"""Run the example commands of the man pages and of the Markdown documents.

    python3 tests/cli/man_examples.py --nphd BIN --source-dir SRC

Taken are lines that begin with `$ `: in man/*.1 anywhere, in README.md and docs/*.md within blocks
fenced with ```console. A backslash at the end continues a command on the next line. Of these, the
commands whose first word is `nphd` are run by /bin/sh, those of a page in order, in a directory of
the page that holds copies of examples/*.csv under examples/. Each must exit with status 0 (write
`|| true` behind one that is to fail).

Lines between a command and the next one, or the end of the block, are its expected output, standard
output first; none: not compared. `...` stands for any text within a line, and alone on a line for
any lines; blanks at the end of a line do not count.
"""
import argparse
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

SECONDS_LIMIT = 600
ROFF_ESCAPES = {r"\-": "-", r"\e": "\\", r"\(aq": "'", r"\(dq": '"', r"\(ga": "`", r"\&": ""}


class Example:
    def __init__(self, line, command):
        self.line = line
        self.command = command
        self.output = []


def unroff(text):
    return re.sub(
        r"\\(?:-|e|&|\(aq|\(dq|\(ga)", lambda found: ROFF_ESCAPES[found.group()], text
    )


def man_blocks(text):
    """Literal blocks of a man page, as lists of (line number, text)."""
    block = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith((".", "'")):
            yield block
            block = []
        else:
            block.append((number, unroff(line)))
    yield block


def markdown_blocks(text):
    """Blocks fenced with ```console, likewise."""
    block = None
    for number, line in enumerate(text.splitlines(), 1):
        if block is None and line.strip() == "```console":
            block = []
        elif block is not None and line.strip() == "```":
            yield block
            block = None
        elif block is not None:
            block.append((number, line))


def examples(blocks):
    found = []
    for block in blocks:
        example, continued = None, False
        for number, line in block:
            if continued:
                example.command = example.command[:-1] + line.strip()
                continued = line.endswith("\\")
            elif line.startswith("$ "):
                example = Example(number, line[2:])
                found.append(example)
                continued = line.endswith("\\")
            elif example is not None:
                example.output.append(line)
    return found


def matches(expected, got):
    parts = []
    while expected and not expected[-1].strip():
        expected = expected[:-1]
    for line in expected:
        if line.strip() == "...":
            parts.append(r"(?:[^\n]*\n)*")
        else:
            parts.append(re.escape(line.rstrip()).replace(re.escape("..."), r"[^\n]*") + r"\n")
    got = "".join(line.rstrip() + "\n" for line in got.splitlines())
    return not expected or re.fullmatch("".join(parts), got) is not None


def run_page(page, found, nphd, source):
    """Runs the examples of one page. Returns the number of commands run and of failures."""
    ran = failed = 0
    with tempfile.TemporaryDirectory(prefix="nphd-man-") as base:
        tools = pathlib.Path(base, "tools")
        directory = pathlib.Path(base, "page")
        tools.mkdir()
        (directory / "examples").mkdir(parents=True)
        (tools / "nphd").symlink_to(nphd)
        for table in sorted((source / "examples").glob("*.csv")):
            shutil.copy(table, directory / "examples")
        for example in found:
            if not re.match(r"nphd(\s|$)", example.command):
                continue
            ran += 1
            done = subprocess.run(
                ["/bin/sh", "-c", f'PATH="{tools}:$PATH"\n{example.command}'],
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=SECONDS_LIMIT,
                check=False,
            )
            got = done.stdout.decode("utf-8", "backslashreplace")
            if done.returncode != 0 or not matches(example.output, got):
                failed += 1
                print(f"{page}:{example.line}: $ {example.command}")
                print(f"    exit status {done.returncode}, it printed:")
                print("".join(f"    {line}\n" for line in got.splitlines()[:40]), end="")
                if example.output:
                    print("    the page shows:")
                    print("".join(f"    {line}\n" for line in example.output), end="")
    return ran, failed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nphd", required=True, type=pathlib.Path)
    parser.add_argument("--source-dir", required=True, type=pathlib.Path)
    arguments = parser.parse_args()
    source = arguments.source_dir.resolve()
    nphd = arguments.nphd.resolve(strict=True)

    pages = sorted((source / "man").glob("*.1")) + sorted((source / "docs").glob("*.md"))
    if (source / "README.md").exists():
        pages.append(source / "README.md")
    ran = failed = 0
    for page in pages:
        text = page.read_text(encoding="utf-8")
        blocks = man_blocks(text) if page.suffix == ".1" else markdown_blocks(text)
        found = examples(blocks)
        page_ran, page_failed = run_page(page.relative_to(source), found, nphd, source)
        ran += page_ran
        failed += page_failed
    print(f"{ran} examples of {len(pages)} pages, {failed} failed")
    return 1 if failed or ran == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
