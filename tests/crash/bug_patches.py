"""Wrong changes that every test once let pass, as patches beside this file (bugs/NAME.patch), and for
each the test that fails with it now. One patch changes one file of src/, in a few lines, so that it
still fits when the code around it moves; tools/check_bugs says when it does not."""

import pathlib
import re
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "tests" / "crash" / "bugs"

# Name of the patch, what is wrong with it, the program and the test of it that must fail.
PATCHES = [
    ("generation_without_limit", "a generation above the limit is accepted",
     "unit_trailer", "test_generation_limit"),
    ("half_a_key_compared", "of a key in a file only the low half is compared",
     "unit_seen_whole", "test_both_halves_of_a_key"),
    ("link_equal_to_slots", "a link of a view to the slot behind the last is followed",
     "hostile_view_hostile", "test_link_behind_the_last"),
    ("newer_shard_accepted", "a shard newer than its record lists it is accepted",
     "unit_sharded_opening", "test_shard_of_a_newer_generation"),
    ("removal_under_read_lock", "readers see a removal of many in parts",
     "unit_seen_whole", "test_removal_of_many_in_memory"),
    ("snapshot_shares_journal", "a copy shares the journal that the writer goes on writing",
     "unit_sharded_snapshot", "test_journal_of_a_copy_stays"),
]


def patched_file(name):
    """The one file that a patch changes, relative to the tree."""
    files = re.findall(r"^\+\+\+ b/(\S+)", (FOLDER / f"{name}.patch").read_text(), re.M)
    if len(files) != 1 or not re.fullmatch(r"src/\w+/\w+\.c", files[0]):
        raise ValueError(f"{name}.patch: changes {files}, not one file of src/")
    return files[0]


def apply(name, folder):
    """Puts the changed file below `folder` as it stands in the tree. Returns its path there, or None
    and what was wrong."""
    relative = patched_file(name)
    target = pathlib.Path(folder) / relative
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / relative, target)
    done = subprocess.run(
        ["patch", "--batch", "--forward", "--no-backup-if-mismatch", "--reject-file=-", "-p1",
         "-d", folder, "-i", FOLDER / f"{name}.patch"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return (target, "") if done.returncode == 0 else (None, done.stdout.strip())
