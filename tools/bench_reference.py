"""Our package and the reference in one run: speed, recall, memory, files (see bench_reference).

Both are called from Python with the same arrays. Rows are cut as by bench/bench_index.c and every
200th is held out as a query. Times of short calls are medians; those of one thread are time of the
processor, except where files are read or written. "All threads" are those of the
machine. Recall counts answers at a distance not above that of the tenth of the exact answer.
"""

import datetime
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/interop"))

import numpy as np  # noqa: E402
from loguru import logger  # noqa: E402
from sides import KINDS, OURS, REFERENCE, fingerprints, versions  # noqa: E402

import nphd  # noqa: E402

HOLD_OUT = 200
NEAREST = 10
BREADTHS = (32, 64, 128, 256, 512)
LOOKUPS = 20000
SHARDS = 50
SHARD_ROWS = 25000
KIND = KINDS[0]
SIDES = (REFERENCE, OURS)
THREADS = os.cpu_count() or 1
HEADING = "## Beside the reference"
DOCUMENT = ROOT / "docs/benchmarks.md"
PICTURE = ROOT / "docs/benchmarks-recall.png"


def seconds(call, repeats=1, clock=time.perf_counter):
    """The median time of a call, and its last result."""
    times = []
    for _ in range(repeats):
        begin = clock()
        result = call()
        times.append(clock() - begin)
    return statistics.median(times), result


def one_thread(call, repeats=1):
    """As seconds(), of the processor: what else runs on the machine disturbs it less."""
    return seconds(call, repeats, time.process_time)


def tell(text):
    print(text, file=sys.stderr, flush=True)


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def data(rows):
    table, lengths = fingerprints()
    cut = [table[i, : lengths[i]] for i in range(min(rows, len(table)))]
    queries = cut[::HOLD_OUT]
    stored = [vector for i, vector in enumerate(cut) if i % HOLD_OUT]
    return stored, queries


def build(side, stored, threads):
    index = side.single(KIND)
    keys = KIND.keys(range(1, len(stored) + 1))
    clock = one_thread if threads == 1 else seconds
    spent, _ = clock(lambda: index.add(keys, stored, threads=threads))
    return index, len(stored) / spent


def graph(side, index, queries, breadth, threads):
    if side is OURS:
        return index.search(queries, NEAREST, threads=threads, breadth=breadth, approximate=True)
    index.expansion_search = breadth
    return index.search(queries, NEAREST, threads=threads)


def recall(found, limits):
    """Of the nearest, how many are there: those at most as far as the last of the exact answer."""
    hits = sum(
        int(np.sum(found.distances[i][: found.counts[i]] <= limit + 1e-6))
        for i, limit in enumerate(limits)
    )
    return hits / (NEAREST * len(limits))


def measure_searches(side, index, queries, result):
    single, _ = one_thread(lambda: [index.search(q, NEAREST, exact=True) for q in queries[:20]], 3)
    result["exact, one query at a time"] = 20 / single
    for threads, name, clock in ((1, "one thread", one_thread), (THREADS, "all threads", seconds)):
        spent, found = clock(
            lambda n=threads: index.search(queries, NEAREST, exact=True, threads=n)
        )
        result[f"exact, batch, {name}"] = len(queries) / spent
    limits = [found.distances[i][found.counts[i] - 1] for i in range(len(queries))]
    curve = []
    for breadth in BREADTHS:
        one, found = one_thread(lambda b=breadth: graph(side, index, queries, b, 1), 3)
        every, _ = seconds(lambda b=breadth: graph(side, index, queries, b, THREADS), 3)
        curve.append(
            (breadth, recall(found, limits), len(queries) / one, len(queries) / every)
        )
    result["curve"] = curve


def measure_lookups(index, count, result):
    rng = np.random.default_rng(1)
    hits = [int(key) for key in rng.integers(1, count + 1, LOOKUPS)]
    misses = [key + 10**12 for key in hits]
    for name, call in (("get", index.get), ("contains", index.contains)):
        for what, keys in (("present", hits), ("absent", misses)):
            spent, _ = one_thread(lambda f=call, k=keys: [f(key) for key in k], 3)
            result[f"{name}, {what} key"] = LOOKUPS / spent
            array = np.array(keys, dtype=np.uint64)
            spent, _ = one_thread(lambda f=call, a=array: f(a), 3)
            result[f"{name}, {what} keys, batch"] = LOOKUPS / spent


def measure_file(side, index, count, path, result):
    spent, _ = seconds(lambda: index.save(str(path)), 3)
    result["save"] = 1 / spent
    size = path.stat().st_size
    result["file bytes a vector"] = size / count
    program = [sys.executable, __file__, "--fresh", side.name, str(path)]
    runs = [
        [float(x) for x in subprocess.run(program, check=True, capture_output=True).stdout.split()]
        for _ in range(5)
    ]
    load, view, first, memory = (statistics.median(column) for column in zip(*runs, strict=True))
    result["load"] = 1 / load
    result["view"] = 1 / view
    result["first lookup after view"] = 1 / first
    result["view and first lookup"] = 1 / (view + first)
    result["resident bytes a vector, loaded"] = memory / count


def fresh(name, path):
    """In a process of its own: seconds to load, to view and for the first lookup, and memory."""
    side = next(side for side in SIDES if side.name == name)
    viewed = side.single(KIND)
    view, _ = seconds(lambda: viewed.view(path))
    first, vector = seconds(lambda: viewed.get(5))
    assert vector is not None
    del viewed
    index = side.single(KIND)
    before = resident()
    load, _ = seconds(lambda: index.load(path))
    print(load, view, first, resident() - before)


def measure_directory(side, stored, path, result):
    stored = stored[:SHARD_ROWS]
    part = len(stored) // SHARDS
    # the reference ends a shard after the batch that makes it too large; ours splits the batch
    index = side.open(KIND, path, new=True, shard_size=2**30 if side is OURS else 1)
    for first in range(0, part * SHARDS, part):
        keys = KIND.keys(range(first + 1, first + part + 1))
        index.add(keys, stored[first : first + part], threads=THREADS)
        if side is OURS:
            index.rotate()
    index.close()
    result["shards"] = len(list(path.glob("*.usearch")))

    def open_and_close():
        side.open(KIND, path, read_only=True).close()

    spent, _ = seconds(open_and_close, 7)
    result["open a directory, read-only"] = 1 / spent

    def open_and_get():
        with side.open(KIND, path, read_only=True) as reader:
            assert reader.get(7) is not None

    spent, _ = seconds(open_and_get, 7)
    result["open a directory and get a vector"] = 1 / spent


def measure(side, stored, queries, place):
    result = {}
    index, result["add, one thread"] = build(side, stored, 1)
    tell(f"{side.name}: built, {result['add, one thread']:.0f} /s")
    measure_searches(side, index, queries, result)
    measure_lookups(index, len(stored), result)
    tell(f"{side.name}: searched")
    measure_file(side, index, len(stored), place / f"{side.name}.usearch", result)
    del index
    _, result["add, all threads"] = build(side, stored, THREADS)
    measure_directory(side, stored, place / side.name, result)
    return result


def at_recall(curve, wanted, column):
    """Queries a second at a recall, between the measured points on a logarithmic scale; NaN if it
    was not reached."""
    points = [p for i, p in enumerate(curve) if i == 0 or p[1] > curve[i - 1][1]]
    recalls = [point[1] for point in points]
    if wanted > recalls[-1] + 0.002:
        return float("nan")
    return float(np.exp(np.interp(wanted, recalls, np.log([point[column] for point in points]))))


# name of a row, the aim
ROWS = (
    ("add, one thread", 10),
    ("add, all threads", None),
    ("exact, one query at a time", 60),
    ("exact, batch, one thread", 250),
    ("exact, batch, all threads", None),
    ("save", None),
    ("load", None),
    ("view", 20),
    ("first lookup after view", 20),
    ("view and first lookup", 20),
    ("get, present key", 5),
    ("get, present keys, batch", 5),
    ("get, absent key", None),
    ("get, absent keys, batch", None),
    ("contains, present key", 5),
    ("contains, present keys, batch", 5),
    ("contains, absent key", None),
    ("contains, absent keys, batch", None),
    ("open a directory, read-only", None),
    ("open a directory and get a vector", None),
)


def row(name, theirs, ours, aim):
    ratio = ours / theirs
    met = "" if aim is None else "yes" if ratio >= aim else "no"
    return (
        f"| {name} | {theirs:,.3g} | {ours:,.3g} | {ratio:.3g} | {aim or ''} | {met} |"
        if max(theirs, ours) < 1000
        else f"| {name} | {theirs:,.0f} | {ours:,.0f} | {ratio:.3g} | {aim or ''} | {met} |"
    )


def tables(theirs, ours):
    lines = [
        "| a second | reference | libnphd | ratio | aim | met |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [row(name, theirs[name], ours[name], aim) for name, aim in ROWS]
    for column, threads in ((2, "one thread"), (3, "all threads")):
        for point in theirs["curve"]:
            fast = at_recall(ours["curve"], point[1], column)
            name = f"graph queries at recall {point[1]:.3f}, {threads}"
            lines.append(row(name, point[column], fast, 10 if column == 2 else None))
    lines += ["", "| bytes | reference | libnphd |", "| --- | --- | --- |"]
    for name in ("file bytes a vector", "resident bytes a vector, loaded"):
        lines.append(f"| {name} | {theirs[name]:.1f} | {ours[name]:.1f} |")
    lines += [
        "",
        "| breadth | recall, reference | recall, libnphd | queries/s, reference | queries/s, "
        "libnphd |",
        "| --- | --- | --- | --- | --- |",
    ]
    for a, b in zip(theirs["curve"], ours["curve"], strict=True):
        lines.append(f"| {a[0]} | {a[1]:.3f} | {b[1]:.3f} | {a[2]:,.0f} | {b[2]:,.0f} |")
    return lines


def processor():
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def section(stored, queries, theirs, ours, load):
    date = datetime.date.today().isoformat()
    return [
        HEADING,
        "",
        "    make bench-reference                     # writes this section and its picture",
        "",
        "Both systems from Python, in one run, on the data above. Graph queries are compared at",
        "the recall that the reference reaches at breadths 32 to 512, ours in between its own",
        "breadths. The aims are for one thread, whose times are those of the processor, except",
        "where files are read or written.",
        "",
        "| | |",
        "| --- | --- |",
        f"| machine | {processor()}, {THREADS} processors, Linux {platform.release()} |",
        f"| versions | libnphd {nphd.__version__} ({nphd._core.kernel_name}), Python "
        f"{platform.python_version()}, {versions()} |",
        f"| date | {date} |",
        f"| rows | {len(stored):,} and {len(queries):,} queries; directories: "
        f"{min(SHARD_ROWS, len(stored)):,} rows in {theirs['shards']} (reference) and "
        f"{ours['shards']} shards |",
        f"| load of the machine before and after | {load} |",
        "",
        *tables(theirs, ours),
        "",
        f"![Recall against speed]({PICTURE.name})",
        "",
    ]


def draw(theirs, ours):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for result, name in ((theirs, "reference"), (ours, "libnphd")):
        for column, style, threads in ((2, "o-", "one thread"), (3, "s--", "all threads")):
            axes.plot(
                [point[1] for point in result["curve"]],
                [point[column] for point in result["curve"]],
                style,
                color="tab:orange" if name == "reference" else "tab:blue",
                label=f"{name}, {threads}",
            )
    axes.set_yscale("log")
    axes.set_xlabel("recall@10")
    axes.set_ylabel("queries a second")
    axes.grid(True, which="both", alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(PICTURE, dpi=110, metadata={"Software": None})


def write(lines):
    """Puts the section in its place, which ends at the next heading of its rank."""
    text = DOCUMENT.read_text()
    begin = text.find(f"\n{HEADING}\n")
    after = ""
    if begin >= 0:
        end = text.find("\n## ", begin + len(HEADING))
        after = "" if end < 0 else text[end + 1 :]
        text = text[: begin + 1]
    else:
        text = text.rstrip("\n") + "\n\n"
    DOCUMENT.write_text(text + "\n".join(lines) + ("\n" + after if after else ""))


def main():
    if sys.argv[1:2] == ["--fresh"]:
        fresh(sys.argv[2], sys.argv[3])
        return
    logger.disable("iscc_usearch")
    stored, queries = data(int(sys.argv[1]) if len(sys.argv) > 1 else 200000)
    before = os.getloadavg()[0]
    place = pathlib.Path(tempfile.mkdtemp(prefix="bench-reference-", dir=ROOT / "build"))
    try:
        theirs, ours = (measure(side, stored, queries, place) for side in SIDES)
    finally:
        shutil.rmtree(place)
    load = f"{before:.1f} and {os.getloadavg()[0]:.1f}"
    print("\n".join(tables(theirs, ours)))
    draw(theirs, ours)
    write(section(stored, queries, theirs, ours, load))


if __name__ == "__main__":
    main()
