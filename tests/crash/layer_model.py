"""Power cuts on the disk in memory (L4): the C tests beside the tool, with more states."""

import os
import re


def layer_model(lab):
    folder = os.path.dirname(lab.tool)
    states = lab.pick(500, 20000, 200000)
    told = []
    for name in ("fault_sharded_crash", "crash_commit_crash", "crash_commit_failures"):
        program = os.path.join(folder, name)
        if not os.path.exists(program):
            told.append(f"SKIPPED {name}: not built")
            continue
        text = lab.must(["env", f"NPHD_TEST_SEED={lab.seed}", f"NPHD_TEST_STATES={states}",
                         program], timeout=7200)
        told += [re.sub(r"^seed \d+: ", "", line) for line in text.split("\n")
                 if line.startswith("seed ")]
    return "; ".join(told)
