#!/usr/bin/env python3
"""Compiles each public header alone, included twice, with warnings as errors, and uses each of its
INIT macros:

    compile_alone.py --language c|c++ --compiler CC -- FLAGS...
"""

import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
INIT = re.compile(r"^#define (NPHD_\w+)_INIT\b", re.M)


def unit(header, text):
    lines = [f"#include <nphd/{header}>", f"#include <nphd/{header}>"]
    for number, macro in enumerate(sorted(set(INIT.findall(text)))):
        # NPHD_ERROR_INIT sets up an nphd_error.
        lines += [
            f"size_t use_{number}(void);",
            f"size_t use_{number}(void)",
            "{",
            f"    const {macro.lower()} value = {macro}_INIT;",
            "    return value.struct_size;",
            "}",
        ]
    lines.append("extern int a_translation_unit_is_not_empty;")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--language", choices=("c", "c++"), required=True)
    parser.add_argument("--compiler", required=True)
    parser.add_argument("flags", nargs="*")
    arguments = parser.parse_args()

    standard = {"c": "c11", "c++": "c++17"}[arguments.language]
    suffix = {"c": "c", "c++": "cc"}[arguments.language]
    failures = 0
    headers = sorted((ROOT / "include" / "nphd").glob("*.h"))
    with tempfile.TemporaryDirectory() as folder:
        for header in headers:
            source = pathlib.Path(folder) / f"{header.stem}.{suffix}"
            source.write_text(unit(header.name, header.read_text(encoding="utf-8")))
            command = [
                arguments.compiler, "-x", arguments.language, f"-std={standard}",
                *arguments.flags, "-Werror", "-fsyntax-only", f"-I{ROOT / 'include'}", str(source),
            ]
            result = subprocess.run(command, capture_output=True, text=True)
            if result.returncode != 0:
                print(f"<nphd/{header.name}> does not compile alone as {standard}:")
                print(result.stderr)
                failures += 1
    print(f"{len(headers)} headers as {standard}, {failures} failures")
    return 1 if failures or not headers else 0


sys.exit(main())
