"""Real file systems: power cuts (L5), full and read-only disks (L6), devices that fail (L7). These
mount things, which needs root."""

import os
import subprocess
import time

from lab import Failure, have, spread

EXT4 = ("ext4", "64M", ["mkfs.ext4", "-q", "-F"], [])
EXT4_PLAIN = ("ext4 noauto_da_alloc", "64M", ["mkfs.ext4", "-q", "-F"], ["-o", "noauto_da_alloc"])
XFS = ("xfs", "320M", ["mkfs.xfs", "-q", "-f"], [])


def may_mount():
    return "no root" if os.geteuid() != 0 else have("mount", "umount", "losetup")


class Volume:
    """A file system in a file, or on a device that is given."""

    def __init__(self, lab, kind, device=None, size=None):
        self.lab = lab
        self.name, full_size, make, self.options = kind
        self.point = os.path.join(lab.slow, "mount-" + self.name.replace(" ", "-"))
        os.makedirs(self.point, exist_ok=True)
        if device is None:
            image = os.path.join(lab.slow, "image-" + self.name.replace(" ", "-"))
            lab.must(["truncate", "-s", size or full_size, image])
            device = lab.must(["losetup", "-f", "--show", image])
            lab.undo.append(["losetup", "-d", device])
        self.device = device
        lab.must(make + [self.device])
        self.mount()
        lab.undo.append(["umount", "-l", self.point])

    def mount(self):
        self.lab.must(["mount"] + self.options + [self.device, self.point])

    def umount(self):
        self.lab.must(["umount", self.point])

    def again(self):
        """Mounted anew: nothing is left in memory."""
        self.umount()
        self.mount()


# ---- power cuts ----

def cut(lab, volume, call, shutdown):
    directory = os.path.join(volume.point, "directory")
    lab.fresh(directory)
    lab.must(["sync", "-f", volume.point])
    lab.kill_before(lab.command("work", directory, seed=lab.seed), call)
    lab.must(["xfs_io", "-x", "-c", shutdown, volume.point])
    volume.again()
    lab.check(directory, f"{volume.name}, {shutdown}, cut before {call[0]} {call[1]}, "
                         f"seed {lab.seed}")


def layer_power(lab):
    why = may_mount() or have("strace", "xfs_io")
    if why:
        return f"SKIPPED: {why}"
    told = []
    for kind in (EXT4, EXT4_PLAIN, XFS):
        if have(kind[2][0]):
            told.append(f"SKIPPED {kind[0]}: no {kind[2][0]}")
            continue
        volume = Volume(lab, kind)
        directory = os.path.join(volume.point, "directory")
        lab.fresh(directory)
        calls = lab.calls_of(lab.command("work", directory, seed=lab.seed), directory)
        for shutdown in ("shutdown", "shutdown -f"):
            chosen = spread(calls, lab.pick(4, 30, 10000))
            for call in chosen:
                cut(lab, volume, call, shutdown)
            told.append(f"{kind[0]} {len(chosen)} cuts" +
                        (" (journal kept)" if shutdown.endswith("-f") else ""))
        volume.umount()
    return ", ".join(told)


# ---- full disks ----

def bytes_below(directory):
    return sum(os.path.getsize(os.path.join(directory, name)) for name in os.listdir(directory))


def fill(lab, point, free, total):
    """Room on the disk for `free` bytes."""
    ballast = os.path.join(point, "ballast")
    status = os.statvfs(point)
    size = status.f_bavail * status.f_frsize - free
    if size > 0:
        lab.must(["fallocate", "-l", str(min(size, total)), ballast])
    return ballast


def runs_into_limits(lab):
    directory = os.path.join(lab.fast, "limit")
    limits = spread(range(256, 24 << 10, 256), lab.pick(6, 40, 10000))
    for limit in limits:
        lab.fresh(directory)
        lab.must(lab.command("work", directory, seed=lab.seed, limit=limit))
        lab.check(directory, f"files of {limit} bytes, seed {lab.seed}")
    return f"{len(limits)} limits of file sizes"


def runs_out_of_room(lab, point, what, step, most):
    directory = os.path.join(point, "directory")
    frees = spread(range(0, most, step), lab.pick(6, 60, 10000))
    for free in frees:
        lab.fresh(directory)
        ballast = fill(lab, point, free, 1 << 30)
        lab.must(lab.command("work", directory, seed=lab.seed, heal=f"rm -f {ballast}"))
        lab.check(directory, f"{what}, {free} bytes free, seed {lab.seed}")
        if os.path.exists(ballast):
            os.unlink(ballast)
    return f"{what} {len(frees)} steps"


def runs_out_of_inodes(lab, point):
    directory = os.path.join(point, "directory")
    counts = range(3, lab.pick(6, 14, 20))
    for count in counts:
        lab.fresh(directory)
        lab.must(["mount", "-o", f"remount,nr_inodes={count}", point])
        heal = f"mount -o remount,nr_inodes=1000 {point}"
        lab.must(lab.command("work", directory, seed=lab.seed, heal=heal))
        lab.check(directory, f"{count} inodes, seed {lab.seed}")
    return f"{len(counts)} numbers of inodes"


def read_only_disk(lab, point):
    directory = os.path.join(point, "directory")
    lab.fresh(directory)
    lab.must(lab.command("work", directory, seed=lab.seed))
    lab.must(["mount", "-o", "remount,ro", point])
    lab.check(directory, "read-only disk", read_only=1)
    lab.must(["mount", "-o", "remount,rw", point])
    lab.check(directory, "disk that was read-only")
    return "a read-only disk"


def layer_full(lab):
    told = [runs_into_limits(lab)]
    why = may_mount()
    if why:
        return f"{told[0]}; SKIPPED full disks: {why}"
    point = os.path.join(lab.slow, "tmpfs")
    os.mkdir(point)
    lab.must(["mount", "-t", "tmpfs", "-o", "size=2m,nr_inodes=1000", "none", point])
    lab.undo.append(["umount", "-l", point])
    told.append(runs_out_of_room(lab, point, "tmpfs", 4096, 300 << 10))
    told.append(runs_out_of_inodes(lab, point))
    told.append(read_only_disk(lab, point))
    if have("mkfs.ext4"):
        return "; ".join(told) + "; SKIPPED ext4: no mkfs.ext4"
    small = ("ext4 full", "4M", ["mkfs.ext4", "-q", "-F", "-m", "0"], [])
    volume = Volume(lab, small, size="4M")
    told.append(runs_out_of_room(lab, volume.point, "ext4", 4096, 300 << 10))
    return "; ".join(told)


# ---- devices that fail ----

class BadDevice:
    """A loop device whose writes fail while the file `inject` is there, and of whose reads most
    fail while `inject_reads` is."""

    def __init__(self, lab, size):
        self.lab = lab
        self.inject = os.path.join(lab.slow, "inject")
        self.inject_reads = os.path.join(lab.slow, "inject-reads")
        socket = os.path.join(lab.slow, "socket")
        self.image = image = os.path.join(lab.slow, "nbd")
        open(image, "w").close()
        lab.must(["nbdkit", "-U", socket, "--pidfile", os.path.join(lab.slow, "pid"),
                  "--filter=error", "memory", size, "error-pwrite=EIO", "error-pwrite-rate=100%",
                  f"error-pwrite-file={self.inject}", "error-pread=EIO", "error-pread-rate=60%",
                  f"error-pread-file={self.inject_reads}"])
        lab.undo.append(["kill", self.server(os.path.join(lab.slow, "pid"))])
        self.fuse = subprocess.Popen(["nbdfuse", image, "--unix", socket],
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        lab.undo.append(["fusermount3", "-uz", image])
        end = time.monotonic() + 10
        while os.path.getsize(image) == 0:
            if time.monotonic() > end or self.fuse.poll() is not None:
                raise OSError("nbdfuse does not begin")
            time.sleep(0.05)
        self.device = lab.must(["losetup", "-f", "--show", image])
        lab.undo.append(["losetup", "-d", self.device])


    @staticmethod
    def server(pid_file):
        """The process; it tells its number some time after the command has ended."""
        end = time.monotonic() + 10
        while time.monotonic() < end:
            if os.path.exists(pid_file) and os.path.getsize(pid_file) > 0:
                with open(pid_file) as file:
                    return file.read().strip()
            time.sleep(0.05)
        raise OSError("nbdkit does not begin")

    def forget(self):
        """Takes what was read or written out of memory, of this device alone."""
        for path in (self.device, self.image):
            file = os.open(path, os.O_RDWR)
            os.fsync(file)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)


def fail_writes(lab, volume, bad, place):
    directory = os.path.join(volume.point, "directory")
    lab.fresh(directory)
    lab.must(["sync", "-f", volume.point])
    command = lab.command("work", directory, seed=lab.seed, at=place,
                          heal=f"rm -f {bad.inject}", unhealable=1,
                          **{"break": f"touch {bad.inject}"})
    code, text = lab.must_be_one_of((0, 10), command)
    volume.again()
    lab.check(directory, f"{volume.name}, device fails at step {place}, seed {lab.seed}")
    if text.startswith("0 calls failed"):
        raise Failure(f"{volume.name}: the device did not fail at step {place}")
    return code == 0


def fail_reads(lab, volume, bad, seed):
    """What the device does not give is an error with a name, or the signal of a mapping; all that
    is answered is right. Once the device is well everything is there. Counts by exit status."""
    directory = os.path.join(volume.point, "directory")
    lab.fresh(directory)
    lab.must(lab.command("work", directory, seed=seed, threads=1))
    counts = {0: 0, 10: 0, 11: 0}
    for _ in range(lab.pick(2, 8, 40)):
        volume.umount()
        bad.forget()
        volume.mount()
        for name in os.listdir(directory):  # names and sizes: without them there are no files
            os.stat(os.path.join(directory, name))
        open(bad.inject_reads, "w").close()
        try:
            code, _ = lab.must_be_one_of((0, 10, 11), lab.command("look", directory))
        finally:
            os.unlink(bad.inject_reads)
        counts[code] += 1
    volume.again()
    lab.check(directory, f"{volume.name}, the device gave read errors, seed {seed}")
    return counts


def layer_device(lab):
    why = may_mount() or have("nbdkit", "nbdfuse", "fusermount3")
    if why is None and not os.path.exists("/dev/fuse"):
        why = "no /dev/fuse"
    if why:
        return f"SKIPPED: {why}"
    told = []
    try:
        bad = BadDevice(lab, "320M")
    except OSError as error:
        return f"SKIPPED: {error}"
    for kind in (EXT4, XFS):
        if have(kind[2][0]):
            told.append(f"SKIPPED {kind[0]}: no {kind[2][0]}")
            continue
        volume = Volume(lab, kind, device=bad.device)
        places = spread(range(2, 40), lab.pick(2, 6, 40))
        went_on = sum(fail_writes(lab, volume, bad, place) for place in places)
        told.append(f"{kind[0]} {len(places)} failures of the device, {went_on} outlived")
        looks = fail_reads(lab, volume, bad, lab.seed)
        told.append(f"{sum(looks.values())} looks under read errors: {looks[10]} named, "
                    f"{looks[11]} signals of mappings, {looks[0]} unharmed")
        volume.umount()
    return ", ".join(told)
