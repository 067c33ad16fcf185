"""Do the tests bite (L11)? Each seeded bug (src/base/seeded_bug.h) is built into a copy of the tests
that should notice it, and they must fail. Only the files of the library that have the bug are
compiled again, and linked before the library. The wrong changes of bug_patches.py likewise: the one
file that a patch changes is taken from a copy."""

import json
import os
import pathlib
import re
import shlex
import subprocess

from bug_patches import PATCHES, apply
from lab import Failure, Lab
from layer_beside import layer_beside
from layer_disk import layer_power, may_mount

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DISK = "fault_sharded_crash"    # power cuts on the model disk: saves and rotations
COMMIT = "crash_commit_crash"   # the same: commits
FAILURE = "crash_commit_failures"
FAULTS = "fault_sharded_faults"
PARTS = "unit_platform"
HOSTILE = "hostile_usearch_hostile"

BUGS = [
    (1, "a file is not flushed before its rename", DISK),
    (2, "the directory is not flushed after a rename", DISK),
    (3, "the answer of close is ignored", PARTS),
    (4, "a short write is taken as a whole one", PARTS),
    (5, "a failed flush is tried again", PARTS),
    (6, "a temporary file is kept after an error", PARTS),
    (7, "the lock is not taken", layer_beside),
    (8, "a shard does not carry the tombstones of its save", DISK),
    (9, "compaction removes an old shard before the new one is there", DISK),
    (10, "the bloom filter is written last, and an old one believed", DISK),
    (11, "tombstones are written before the shard", DISK),
    (12, "the record does not say that there are tombstones", DISK),
    (13, "the checksum of a journal frame is ignored", COMMIT),
    (14, "a journal does not name the one it continues", COMMIT),
    (15, "old journals are kept, and applied", COMMIT),
    (16, "the journal is deleted before the save is there", COMMIT),
    (17, "dead entries of views are not saved", DISK),
    (18, "the generation does not advance with a save", COMMIT),
    (19, "the head of a journal is not flushed", COMMIT),
    (20, "the name of a journal is not flushed", COMMIT),
    (21, "a commit is not flushed", COMMIT),
    (22, "a reader deletes temporary files", DISK),
    (23, "opening does not flush what a dead process left", FAILURE),
    (24, "a commit that failed is forgotten", FAILURE),
    (25, "after a rotation the journal continues the save before", COMMIT),
    (26, "removals are not in the journal", COMMIT),
    (27, "the lock is one of the process", layer_beside),
    (28, "the system is not asked to flush directories", layer_power),
    (29, "the system is not asked to flush files", layer_power),
    (30, "a failed flush of the directory is success", FAULTS),
    (31, "links to nodes are not checked", HOSTILE),
    (32, "the number of links is not checked", HOSTILE),
]


def files_with(number):
    text = f"NPHDI_BUG({number})"
    return [path for path in sorted((ROOT / "src").rglob("*.c")) if text in path.read_text()]


def compile_file(build, folder, path, source, *options):
    """Compiles `source`, which is the file `path` of the library or a copy of it."""
    with open(build / "compile_commands.json") as file:
        entry = {entry["file"]: entry for entry in json.load(file)}[str(path)]
    command = shlex.split(entry["command"])
    command[command.index("-o") + 1] = str(folder / (path.stem + ".o"))
    command = [str(source) if word == str(path) else word for word in command]
    if str(source) not in command:  # the file is named from where the compiler works
        command[command.index("-c") + 1] = str(source)
    subprocess.run(command[:1] + list(options) + command[1:], cwd=entry["directory"], check=True)
    return str(folder / (path.stem + ".o"))


def compile_files(build, folder, number):
    return [compile_file(build, folder, path, path, f"-DNPHD_SEED_BUG={number}")
            for path in files_with(number)]


def link(build, folder, objects, name):
    with open(build / "CMakeFiles" / f"{name}.dir" / "link.txt") as file:
        command = shlex.split(file.readline())
    at = command.index("-o")
    command[at + 1] = str(folder / name)
    subprocess.run(command[:at + 2] + objects + command[at + 2:], cwd=build, check=True)


# Workloads after which a real file system is asked; the model disk tries thousands of them.
SEEDS = 5


def fails(lab, folder, test, seed):
    """The words of the failure, or None."""
    if isinstance(test, str):
        return fails_with(lab, folder, test, seed)
    # A name that was not flushed is durable all the same once a later flush of any file commits the
    # file system's journal. Whether a workload leaves a gap depends on its seed: what tombstones it
    # has decides which file is the last of a save.
    for more in range(SEEDS):
        how = fails_with(lab, folder, test, seed + more)
        if how is not None:
            return how
    return None


def fails_with(lab, folder, test, seed):
    if isinstance(test, str):
        try:
            done = subprocess.run(
                [folder / test], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300,
                cwd=ROOT, text=True, errors="replace",
                env=dict(os.environ, NPHD_TEST_SEED=str(seed), NPHD_TEST_STATES="4000",
                         NPHD_SOURCE_DIR=str(ROOT)))
        except subprocess.TimeoutExpired:
            return "does not end"
        # a test whose end finds something open, since it did not come to close it, is an error
        found = re.search(r"\[  (?:FAILED  |ERROR   )\] (\w+)", done.stdout)
        return (found.group(1) if found else "crashed") if done.returncode != 0 else None
    inner = Lab(folder / "crash_tool", seed, False, not isinstance(test, str) and
                test is layer_beside, 0)
    try:
        test(inner)
        return None
    except Failure as failure:
        return str(failure).split(": ", 1)[1].split("\n")[-1][:70]
    finally:
        inner.keep = False
        inner.close()


def bite_of_patch(lab, build, name, program, test):
    """The failed test, or None."""
    folder = pathlib.Path(lab.slow) / f"bug-{name}"
    folder.mkdir()
    source, text = apply(name, folder)
    if source is None:
        raise Failure(f"{name}.patch does not fit: {text}")
    link(build, folder, [compile_file(build, folder, ROOT / source.relative_to(folder), source)],
         program)
    how = fails(lab, folder, program, lab.seed)
    if how not in (None, test):
        raise Failure(f"{name}.patch: {how} failed, not {test}")
    return how


def patches_not_caught(lab, build):
    missed = []
    for name, what, program, test in PATCHES:
        how = bite_of_patch(lab, build, name, program, test)
        print(f"     {name}: {what}: {'NOT CAUGHT' if how is None else 'caught: ' + how}",
              flush=True)
        if how is None:
            missed.append(name)
    return missed


def layer_bite(lab):
    build = pathlib.Path(lab.tool).parent.parent
    missed = []
    caught = skipped = 0
    for number, what, test in BUGS:
        if lab.bugs and number not in lab.bugs:
            continue
        folder = pathlib.Path(lab.slow) / f"bug-{number}"
        folder.mkdir()
        if test is layer_power and may_mount():
            print(f"     bug {number}: {what}: SKIPPED: {may_mount()}", flush=True)
            skipped += 1
            continue
        name = test if isinstance(test, str) else "crash_tool"
        link(build, folder, compile_files(build, folder, number), name)
        how = fails(lab, folder, test, lab.seed)
        print(f"     bug {number}: {what}: {'NOT CAUGHT' if how is None else 'caught: ' + how}",
              flush=True)
        if how is None:
            missed.append(number)
        else:
            caught += 1
    if not lab.bugs or "patches" in lab.bugs:
        patches = patches_not_caught(lab, build)
        missed += patches
        caught += len(PATCHES) - len(patches)
    text = f"{caught} of {caught + skipped + len(missed)} seeded bugs caught" + (
        f", SKIPPED {skipped}" if skipped else "")
    if missed:
        raise Failure(f"{text}; not caught: {missed}")
    return text
