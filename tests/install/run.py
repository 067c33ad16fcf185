#!/usr/bin/env python3
"""Installs a build into an empty prefix and uses it as a stranger would:

    run.py --cmake CMAKE --build-dir DIR --compiler CC

by pkg-config against the shared and the static library, by find_package against both, by
add_subdirectory of the source tree, and by running the installed program.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent


def run(*command, **options):
    command = [str(word) for word in command]
    result = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )
    if result.returncode != 0:
        sys.exit(f"this failed ({result.returncode}): {' '.join(command)}\n{result.stdout}")
    return result.stdout


def expect(condition, what):
    if not condition:
        sys.exit(f"not so: {what}")


def only(paths, what):
    paths = list(paths)
    expect(len(paths) == 1, f"exactly one {what} is installed, found {paths}")
    return paths[0]


def check_by_pkg_config(prefix, library_dir, compiler, folder):
    environment = dict(os.environ, PKG_CONFIG_PATH=str(library_dir / "pkgconfig"))
    version = run("pkg-config", "--modversion", "nphd", env=environment).strip()
    running = dict(os.environ, LD_LIBRARY_PATH=str(library_dir))

    flags = run("pkg-config", "--cflags", "--libs", "nphd", env=environment).split()
    program = folder / "by_pkg_config_shared"
    run(compiler, "-std=c11", HERE / "consumer.c", "-o", program, *flags)
    expect(run(program, env=running).strip() == version, "the shared library has its .pc's version")
    needed = run("ldd", program, env=running)
    soname = "libnphd.so." + version.rpartition(".")[0]
    expect(soname in needed, f"{soname} is linked")
    expect("xxhash" not in needed, "xxHash is compiled in, nothing to be linked with")

    flags = run("pkg-config", "--static", "--cflags", "--libs", "nphd", env=environment).split()
    flags = [str(library_dir / "libnphd.a") if flag == "-lnphd" else flag for flag in flags]
    program = folder / "by_pkg_config_static"
    run(compiler, "-std=c11", HERE / "consumer.c", "-o", program, *flags)
    expect(run(program).strip() == version, "the static library has its .pc's version")
    return version


def check_by_find_package(prefix, cmake, compiler, folder, version):
    build = folder / "consumer"
    run(
        cmake, "-S", HERE, "-B", build, "-G", "Unix Makefiles", f"-DCMAKE_PREFIX_PATH={prefix}",
        f"-DCMAKE_C_COMPILER={compiler}", f"-DWANTED_VERSION={version}",
    )
    run(cmake, "--build", build)
    for name in ("consumer_shared", "consumer_static"):
        expect(run(build / name).strip() == version, f"{name} runs with version {version}")


def check_by_add_subdirectory(cmake, compiler, folder, version):
    """The library alone is configured, under the names of the installed package."""
    build = folder / "subdirectory"
    run(
        cmake, "-S", HERE / "subdirectory", "-B", build, "-G", "Unix Makefiles",
        f"-DCMAKE_C_COMPILER={compiler}", "-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_C_FLAGS_DEBUG=-O0",
        f"-DNPHD_SOURCE={(HERE / '../..').resolve()}",
    )
    run(cmake, "--build", build, "-j", "2")
    for name in ("consumer_shared", "consumer_static"):
        expect(run(build / name).strip() == version, f"{name} runs with version {version}")
    made = [path for path in build.rglob("*") if path.is_file() and os.access(path, os.X_OK)]
    programs = {path.name for path in made if "CMakeFiles" not in path.parts}
    programs = {name for name in programs if not name.startswith("libnphd.so")}
    expect(programs == {"consumer_shared", "consumer_static"}, f"nothing else is built: {programs}")


def check_documents(prefix):
    """Documents and examples are there, and what they link to is."""
    documents = only(prefix.rglob("share/doc/*/README.md"), "README.md").parent
    for pattern in ("docs/*.md", "examples/*.c", "examples/*.csv"):
        names = sorted(path.name for path in (HERE / "../..").resolve().glob(pattern))
        there = sorted(path.name for path in documents.glob(pattern))
        expect(there == names, f"{pattern} is installed")
    for page in [documents / "README.md", *documents.glob("docs/*.md")]:
        for link in re.findall(r"\]\(((?:docs/|examples/)?[\w.-]+\.(?:md|png|c|csv))", page.read_text()):
            expect((page.parent / link).exists(), f"{page.name} links to {link}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cmake", required=True)
    parser.add_argument("--build-dir", required=True)
    parser.add_argument("--compiler", required=True)
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        # Installed under one prefix, then moved: nothing in it may name the first place.
        first = folder / "first"
        prefix = folder / "moved"
        environment = {key: value for key, value in os.environ.items() if key != "DESTDIR"}
        run(arguments.cmake, "--install", arguments.build_dir, "--prefix", first, env=environment)
        shutil.move(first, prefix)

        pc_file = only(prefix.rglob("nphd.pc"), "nphd.pc")
        library_dir = pc_file.parent.parent
        for path in ("libnphd.a", "libnphd.so"):
            expect((library_dir / path).exists(), f"{path} is installed")
        expect("xxhash" not in pc_file.read_text(), "xxHash is no need of those who link")
        source_headers = sorted(p.name for p in (HERE / "../../include/nphd").resolve().glob("*.h"))
        headers = sorted(path.name for path in (prefix / "include" / "nphd").iterdir())
        expect(headers == source_headers, "the public headers are installed, and nothing else")
        for text in list(prefix.rglob("*.cmake")) + [pc_file]:
            expect(str(first) not in text.read_text(), f"{text.name} is free of its first prefix")

        version = check_by_pkg_config(prefix, library_dir, arguments.compiler, folder)
        check_by_find_package(prefix, arguments.cmake, arguments.compiler, folder, version)
        check_by_add_subdirectory(arguments.cmake, arguments.compiler, folder, version)

        # Only a build without the program has none (NPHD_BUILD_PROGRAM).
        program = prefix / "bin" / "nphd"
        cache = (pathlib.Path(arguments.build_dir) / "CMakeCache.txt").read_text()
        if "NPHD_BUILD_PROGRAM:BOOL=ON" in cache:
            expect(version in run(program, "--version"), f"`nphd --version` says {version}")
            pages = sorted(path.name for path in (HERE / "../../man").resolve().glob("*.[1-7]"))
            installed = sorted(path.name for path in (prefix / "share" / "man").rglob("*.[1-7]"))
            made = {name for name in installed if name.startswith("nphd_")}
            expect(sorted(set(installed) - made) == pages, f"the manual pages are installed: {pages}")
            expect("nphd_index_search.3" in made, "calls have manual pages of their own")
        check_documents(prefix)
    print(f"nphd {version} installs, moves, and is found by pkg-config and CMake")
    return 0


sys.exit(main())
