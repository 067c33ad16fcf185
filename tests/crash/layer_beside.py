"""Other processes beside the writer (L9): readers that refresh and make snapshots while it rotates and
is killed, second writers, forked children."""

import os


def layer_beside(lab):
    told = []
    cycles = lab.pick(60, 600, 20000)
    kills = lab.pick(20, 200, 5000)
    for background, journal in ((0, 1), (0, 0)):
        directory = os.path.join(lab.fast, f"beside-{background}{journal}")
        told.append(lab.must(lab.command("readers", directory, seed=lab.seed, cycles=cycles,
                                         kills=kills, readers=2, journal=journal), timeout=7200))
    told.append(lab.must(lab.command("locks", os.path.join(lab.fast, "locks"))))
    return "; ".join(told)
