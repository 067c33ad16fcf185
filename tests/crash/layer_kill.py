"""Killed processes: before every system call (L3), while recovering, and at random moments with
threads; and the soak (L10), which mixes these with failing calls."""

import os
import re
import shutil
import time

from lab import have, spread


def signature(directory):
    """What tells one outcome of a crash from another: names and sizes, without random parts."""
    found = []
    for name in sorted(os.listdir(directory) if os.path.isdir(directory) else []):
        size = os.path.getsize(os.path.join(directory, name))
        found.append((re.sub(r"tmp-[0-9a-f]{16}", "tmp", name), size))
    return tuple(found)


def kill_while_recovering(lab, outcomes, directory):
    count = 0
    command = lab.command("recover", directory)
    per_outcome = lab.pick(4, 15, 1000)
    for saved in outcomes:
        def restore():
            lab.fresh(directory)
            if os.path.isdir(saved + "/directory"):
                shutil.copytree(saved + "/directory", directory)
            shutil.copy(saved + "/history.0", lab.history + ".0")

        restore()
        for call in spread(lab.calls_of(command, directory), per_outcome):
            restore()
            lab.kill_before(command, call)
            lab.check(directory, f"killed before {call[0]} {call[1]} of recovering {saved}")
            count += 1
    return count


def kill_at_every_call(lab):
    directory = os.path.join(lab.fast, "directory")
    command = lab.command("work", directory, seed=lab.seed)
    outcomes = {}
    kills = 0

    lab.fresh(directory)
    calls = spread(lab.calls_of(command, directory), lab.pick(25, 10000, 10000))
    for call in calls:
        lab.fresh(directory)
        if not lab.kill_before(command, call):
            continue
        kills += 1
        left = signature(directory)
        if left not in outcomes and os.path.exists(lab.history + ".0"):
            outcomes[left] = os.path.join(lab.slow, f"outcome-{len(outcomes)}")
            os.mkdir(outcomes[left])
            if os.path.isdir(directory):
                shutil.copytree(directory, outcomes[left] + "/directory")
            shutil.copy(lab.history + ".0", outcomes[left] + "/history.0")
        lab.check(directory, f"killed before {call[0]} {call[1]}, seed {lab.seed}")
    chosen = spread(list(outcomes.values()), lab.pick(2, 12, 10000))
    again = kill_while_recovering(lab, chosen, directory)
    for saved in outcomes.values():
        shutil.rmtree(saved, ignore_errors=True)
    return kills, len(outcomes), again


def draw_options(lab):
    each = lab.random.random() < 0.2
    return {
        "seed": lab.random.getrandbits(32), "steps": 100000,
        "threads": lab.random.randint(1, 4), "background": lab.random.randint(0, 1),
        "journal": 1 if each else int(lab.random.random() < 0.8), "each": int(each),
        "shard": lab.random.choice((2000, 3000, 6000)),
    }


def kill_at_random(lab, count):
    directory = os.path.join(lab.fast, "random")
    for i in range(count):
        if i % 10 == 0:
            lab.fresh(directory)
        options = draw_options(lab)
        command = lab.command("work", directory, **options)
        lab.kill_after(command, 0.005 + lab.random.random() * 0.08)
        lab.check(directory, f"killed at random: {' '.join(command)}, seed {lab.seed}", settle=1,
                  journal=options["journal"])
    return count


def layer_kill(lab):
    missing = have("strace")
    if missing:
        random_kills = kill_at_random(lab, lab.pick(10, 200, 10000))
        return f"{random_kills} random kills; SKIPPED kills at every call: no {missing}"
    kills, outcomes, again = kill_at_every_call(lab)
    random_kills = kill_at_random(lab, lab.pick(10, 200, 10000))
    return (f"{kills} kills at calls, {outcomes} outcomes, {again} kills while recovering, "
            f"{random_kills} random kills with threads")


# ---- soak ----

def fail_a_call(lab, directory):
    name = lab.random.choice(("pwrite64", "fdatasync", "fsync", "renameat", "openat", "fallocate"))
    error = lab.random.choice(("EIO", "ENOSPC", "EDQUOT"))
    number = lab.random.randint(12 if name == "openat" else 1, 40)
    options = draw_options(lab)
    # strace counts in each thread for itself: a thread for rotations, and each after it, would meet
    # the failure anew when it has been mended
    options.update(threads=1, background=0, steps=60, heal="true")
    command = lab.command("work", directory, **options)
    lab.must_be_one_of((0,), ["strace", "-f", "-qq", "-o", "/dev/null", "-P", directory, "-e",
                              f"trace={name}", "-e", f"inject={name}:error={error}:when={number}"]
                       + command)


def layer_soak(lab):
    directory = os.path.join(lab.fast, "soak")
    seconds = lab.seconds or lab.pick(3, 20, 600)
    end = time.monotonic() + seconds
    strace = have("strace") is None
    kills = faults = rounds = 0

    while time.monotonic() < end:
        if rounds % 25 == 0:
            lab.fresh(directory)
        if strace and lab.random.random() < 0.3:
            fail_a_call(lab, directory)
            faults += 1
        else:
            options = draw_options(lab)
            command = lab.command("work", directory, **options)
            lab.kill_after(command, 0.003 + lab.random.random() ** 2 * 0.3)
            kills += 1
        lab.check(directory, f"soak, round {rounds}, seed {lab.seed}", settle=1)
        rounds += 1
    return f"{seconds} s: {kills} kills, {faults} runs with a failing call"
