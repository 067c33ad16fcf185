#!/usr/bin/env python3
"""The manual pages: those of the calls are whole, and all of them render.

    python3 tests/readme/check_man.py --source-dir SRC [--mandoc MANDOC]

Each name that a public header declares with NPHD_API has a page with its declaration, a description,
and no reference to a page that is not there. mandoc has no warning about any page, and what it
prints has no macro or escape left in it.
"""
import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

COMMENT = re.compile(r"/\*.*?\*/", re.S)
DECLARED = re.compile(r"^NPHD_API\b[^;{]*?\b(\w+)\s*\(", re.S | re.M)
STRUCTURE = re.compile(r"^\} (nphd_\w+);", re.M)


def problems_of_calls(source, pages):
    headers = sorted((source / "include" / "nphd").glob("*.h"))
    for header in headers:
        text = COMMENT.sub(" ", header.read_text(encoding="utf-8"))
        names = DECLARED.findall(text)
        for name in names + STRUCTURE.findall(text):
            page = pages / f"{name}.3"
            if not page.exists():
                yield f"{header.name}: {name} has no page"
                continue
            content = page.read_text(encoding="utf-8")
            if f"#include <nphd/{header.name}>" not in content:
                yield f"{page.name}: another header"
            if name in names and (f"{name}(" not in content or ".SH DESCRIPTION" not in content):
                yield f"{page.name}: no declaration, or no description"
            for other in re.findall(r"^\.BR (\w+) \(3\)", content, re.M):
                if other != "libnphd" and not (pages / f"{other}.3").exists():
                    yield f"{page.name}: there is no {other}(3)"


def problems_of_rendering(mandoc, page):
    lint = subprocess.run(
        [mandoc, "-Tlint", "-Wwarning", page], capture_output=True, text=True, check=False
    )
    yield from lint.stdout.splitlines()
    text = subprocess.run(
        [mandoc, "-Tutf8", "-Owidth=80", page], capture_output=True, text=True, check=True
    ).stdout
    text = re.sub(".\b", "", text)
    # a macro within the arguments of another; an opening quote without its end; an escape
    for wrong in (r"\b(?:Ql|Fl|Ar|Pa|Cm|Xr|Fn) [a-z-]", r"‘[^’]*‘", r"\\f[BIRP]", r"\\\("):
        for found in re.findall(wrong, text):
            yield f"{page.name}: rendered with {found!r}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source-dir", required=True, type=pathlib.Path)
    parser.add_argument("--mandoc", default="")
    arguments = parser.parse_args()
    source = arguments.source_dir.resolve()
    with tempfile.TemporaryDirectory(prefix="nphd-man-") as base:
        made = pathlib.Path(base)
        headers = sorted((source / "include" / "nphd").glob("*.h"))
        subprocess.run(
            [sys.executable, source / "tools" / "make_man", "--output", made, *headers], check=True
        )
        found = list(problems_of_calls(source, made))
        pages = sorted((source / "man").glob("*.[1-7]")) + sorted(made.glob("*.3"))
        if arguments.mandoc:
            for page in pages:
                found += problems_of_rendering(arguments.mandoc, page)
    print("\n".join(found + [f"{len(pages)} pages, {len(found)} problems"]))
    if not arguments.mandoc:
        print("mandoc is not there: rendering is not looked at")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
