# SPDX-License-Identifier: Apache-2.0
"""What is measured, in which order.

Within a round every peer works on the same state, one after the other, and the
order turns from round to round, so that a slow minute of the machine does not
fall on one of them alone. Peers that write to the server come last.
"""

import glob
import os
import shutil
import subprocess
import time

import budgets
import peers as every
from data import KINDS_OF_DATA, Pgbench
from ground import as_postgres, ground, sh, umount
from measure import Failed, drop_caches, folder_bytes

# The budgets compare with these; they are run as often as neap is.
OFTEN = ("neap", "btrfs", "restic")
SWEEP = ("neap", "btrfs", "restic")
PARTIAL = ("neap", "pgbackrest")  # do not keep all of the log
SIZES = (0.25, 0.5)         # of SCALE, beside SCALE itself
CHANGES = (0.05, 0.25, 4)   # of the change, beside the change itself
OURS = (Failed, RuntimeError, OSError, ValueError, KeyError,
        subprocess.SubprocessError)


class Scene:
    """One database, the peers on it, and the rows that come of it."""

    def __init__(self, knobs, results, here, server, data, names):
        self.knobs, self.results = knobs, results
        self.here, self.server, self.data = here, server, data
        self.peers = [every.PEERS[n](here, server, here.tmp) for n in names]
        self.point = None       # the snapshot that is frozen now
        self.logical = 0
        self.change = 0         # transactions since the one before

    def runs(self, peer):
        k = self.knobs
        return k.runs if peer.name in OFTEN else min(k.runs, k.peer_runs)

    def order(self, turn, due):
        """The peers that DUE lets through, turned TURN times."""
        own = [p for p in self.peers if not p.live and due(p)]
        live = [p for p in self.peers if p.live and due(p)]
        turn %= max(1, len(own))
        return own[turn:] + own[:turn] + live

    def measure(self, line, name, run, action):
        """One row. Whatever goes wrong is a row too, and the run goes on."""
        row = {"data": self.data.name, "scale": self.data.scale,
               "change": self.change, "line": line, "peer": name, "run": run,
               "logical": self.logical}
        try:
            # Deleted snapshots are taken apart in the background: not now.
            sh("btrfs", "subvolume", "sync", "-s", "1", self.here.fs)
            row.update(action())
        except OURS as e:
            row["error"] = str(e)[-400:]
        self.results.add(row)
        print("  %-8s %4d %6d  %-10s %-11s %s" % (
            row["data"], row["scale"], row["change"], line, name,
            "FAILED: " + row["error"] if "error" in row else
            "%8.2f s %8.2f cpu %6.0f MiB%s" % (
                row["wall"], row["cpu"], row["rss"] / 2 ** 20,
                "  stored %9.2f MB" % (row["stored"] / 1e6)
                if "stored" in row else "")), flush=True)
        return "error" not in row

    def freeze(self, name):
        """A snapshot of now; the one before it is its parent."""
        self.here.freeze(name)
        self.parent, self.point = self.point, name

    def drop_point(self, name):
        if name:
            self.here.drop(name)

    def backup(self, peer, parent):
        before = peer.stored()
        meta = peer.metadata() if peer.name == "neap" else 0
        r = peer.backup(self.point, parent)
        r["stored"] = peer.stored() - before
        if peer.name == "neap":
            r["metadata"] = peer.metadata() - meta
        return r

    def create(self):
        print(f"bench: {self.data.name}, scale {self.data.scale}: making it",
              flush=True)
        start = time.monotonic()
        self.data.create()
        self.logical = folder_bytes(self.here.db)
        print(f"bench: {self.logical / 1e9:.2f} GB in "
              f"{time.monotonic() - start:.0f} s", flush=True)

    def first(self, rounds):
        """The peers' last runs are the ones that the next backups build on."""
        self.freeze("p0")
        for turn in range(rounds):
            def due(p, left=rounds - turn):
                return self.runs(p) >= left
            for p in self.order(turn, due):
                def action(p=p):
                    p.reset()
                    return self.backup(p, None)
                if not self.measure("first", p.name, turn, action):
                    self.peers.remove(p)

    def next(self, rounds, count):
        """COUNT changes a round; peers with fewer runs take the first."""
        for turn in range(rounds):
            self.change = count
            self.data.change(count)
            self.freeze(f"p{turn + 1}")
            for p in self.order(turn, lambda p: turn < self.runs(p)):
                self.measure("next", p.name, turn,
                             lambda p=p: self.backup(p, self.parent))
            self.drop_point(f"p{turn - 1}" if turn else None)

    def same(self, rounds, count):
        """Changes of the same accounts, whatever the size of the database."""
        branches = budgets.quarter(self.knobs.scale)
        for turn in range(rounds):
            self.change = count
            self.data.change_first(count, branches)
            self.freeze(f"same{turn}")
            for p in self.order(turn, lambda p: p.name in SWEEP):
                self.measure("same", p.name, turn,
                             lambda p=p: self.backup(p, self.parent))
            self.drop_point(f"same{turn - 1}" if turn else None)

    def settle(self, name, among):
        """Everybody up to date; not measured. NAME is the snapshot."""
        for p in self.order(0, lambda p: p.name in among and p.live):
            self.quietly(p, self.point, None)
        self.server.checkpoint()
        self.freeze(name)
        for p in self.order(0, lambda p: p.name in among and not p.live):
            self.quietly(p, self.point, self.parent)

    def quietly(self, peer, point, parent):
        try:
            peer.backup(point, parent or point)
        except OURS as e:
            print(f"bench: {peer.name}: {e}: left out from here", flush=True)
            self.peers.remove(peer)

    def nothing(self):
        """A backup again, with nothing done in between but a checkpoint."""
        among = ("neap", "btrfs", "restic", "borg", "pgbackrest")
        self.settle("settled", among)
        self.change = 0
        for turn in range(self.knobs.runs):
            left = self.knobs.runs - turn
            self.server.checkpoint()
            self.here.thaw()
            self.here.drop(f"still{turn - 1}")
            self.here.freeze(f"still{turn}")
            self.point = f"still{turn}"
            for p in self.order(turn, lambda p: p.name in among and
                                self.runs(p) >= left):
                self.measure("nothing", p.name, turn,
                             lambda p=p: self.backup(p, "settled"))
                self.measure("again", p.name, turn,
                             lambda p=p: self.warm(p, "settled"))

    def warm(self, peer, parent):
        """What was read a moment ago is still in the caches."""
        peer.cold = False
        try:
            return self.backup(peer, parent)
        finally:
            peer.cold = True

    def neap(self):
        if not self.peers or self.peers[0].name != "neap":
            raise RuntimeError("neap made no first backup")
        return self.peers[0]

    def full_scan(self):
        neap = self.neap()
        self.change = 0
        neap.backup(self.point, None)
        for turn in range(self.knobs.runs):
            self.measure("scan", "neap", turn, neap.full_scan)
            for name, fs in (("fio, same files", True),
                             ("fio, device", False)):
                self.measure("scan", name, turn, lambda fs=fs: every.fio(
                    self.here, self.logical, neap.dir, fs))

    def restore(self):
        for turn in range(self.knobs.runs):
            for p in self.order(turn, lambda p: turn < self.runs(p)):
                def action(p=p):
                    r = self.durable(p.restore, self.here.empty("restored"))
                    got = folder_bytes(self.here.path("restored"))
                    # neap and pgBackRest leave out what pg_wal has beyond
                    # recovery's needs, half of the cluster.
                    least = 0.3 if p.name in PARTIAL else 0.9
                    if got < self.logical * least:
                        raise Failed(f"restored {got} bytes only")
                    return r
                try:
                    self.measure("restore", p.name, turn, action)
                finally:
                    self.here.remove("restored")
            self.measure("restore", "dd", turn, lambda: every.dd(
                self.here.empty("restored"), self.logical, self.neap().dir))
            self.here.remove("restored")

    def durable(self, action, *args):
        """Until what ACTION wrote is on the disk, not only in memory."""
        r = action(*args)
        start = time.perf_counter()
        sh("sync", "-f", self.here.fs)
        r["returned"] = r["wall"]
        r["wall"] = round(r["wall"] + time.perf_counter() - start, 4)
        return r

    def boot(self):
        neap = self.neap()
        for turn in range(self.knobs.runs):
            self.measure("boot", "neap", turn,
                         lambda: boot(self, neap, boot_writable))
        self.measure("boot", "overlayfs", 0,
                     lambda: boot(self, neap, boot_overlay))

    def same_here(self, rounds, count):
        self.settle("before-same", SWEEP)
        self.same(rounds, count)

    def sweep_change(self, count):
        """The cost of other amounts of change, on the same database."""
        self.peers = [p for p in self.peers if p.name in SWEEP]
        self.settle("swept", SWEEP)
        for i, share in enumerate(CHANGES):
            self.change = max(4, int(count * share))
            self.data.change(self.change)
            self.freeze(f"swept{i}")
            for p in self.order(i, lambda p: True):
                self.measure("next", p.name, 0,
                             lambda p=p: self.backup(p, self.parent))


# ---- a server on a mounted backup ----

def _scratch_bytes(pid, folder):
    """The scratch's files have no names: the mount's open ones show them."""
    total = 0
    for fd in glob.glob(f"/proc/{pid}/fd/*"):
        if os.readlink(fd).startswith(folder):
            total += os.stat(fd).st_blocks * 512
    return total


def _mount_pid(view):
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path, "rb") as f:
                words = f.read().split(b"\0")
        except OSError:
            continue
        if b"mount" in words and view.encode() in words:
            return int(path.split("/")[2])
    raise Failed("the mount's server is not there")


def _start(scene, data, run):
    """PostgreSQL on DATA; done when it has answered a query."""
    pid = f"{data}/postmaster.pid"
    if os.path.exists(pid):
        os.unlink(pid)
    control = as_postgres(f"{scene.server.bin}/pg_ctl", "-D", data, "-w", "-s",
                          "-t", "300")
    subprocess.run(control + ["-l", f"{run}/log", "-o",
                   f"-c unix_socket_directories={run}", "start"],
                   check=True, stdin=subprocess.DEVNULL, start_new_session=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        sh(*as_postgres(f"{scene.server.bin}/psql", "-XAtq", "-h", run, "-U",
                        "postgres", "-c", "select count(*) from pg_class",
                        "postgres"))
        answered = time.perf_counter()
    except BaseException:
        subprocess.run(control + ["-m", "immediate", "stop"])
        raise
    return answered, control + ["-m", "fast", "stop"]


def boot_writable(scene, neap, top, data):
    sh(*neap.view("mount", "bank/latest", f"{top}/view", "--writable",
                  f"{top}/scratch"))
    try:
        answered, stop = _start(scene, f"{top}/view{data}", f"{top}/run")
        try:
            scratch = _scratch_bytes(_mount_pid(f"{top}/view"),
                                     f"{top}/scratch")
        finally:
            sh(*stop)
    finally:
        sh(*neap.view("unmount", f"{top}/view"))
    return answered, scratch


def boot_overlay(scene, neap, top, data):
    """How it is done without a writable mount of neap's own."""
    for d in ("upper", "work", "all"):
        os.makedirs(f"{top}/{d}")
    sh(*neap.view("mount", "bank/latest", f"{top}/view"))
    try:
        sh("mount", "-t", "overlay", "overlay", "-o",
           f"lowerdir={top}/view,upperdir={top}/upper,workdir={top}/work",
           f"{top}/all")
        try:
            answered, stop = _start(scene, f"{top}/all{data}", f"{top}/run")
            sh(*stop)
            scratch = sum(os.lstat(os.path.join(d, n)).st_blocks * 512
                          for d, _, names in os.walk(f"{top}/upper")
                          for n in names)
        finally:
            umount(f"{top}/all")
    finally:
        sh(*neap.view("unmount", f"{top}/view"))
    return answered, scratch


def boot(scene, neap, how):
    top = f"{scene.here.tmp}/boot"
    os.makedirs(f"{top}/view")
    os.makedirs(f"{top}/run")
    os.chmod(top, 0o755)
    shutil.chown(f"{top}/run", "postgres", "postgres")
    try:
        drop_caches()
        start = time.perf_counter()
        answered, scratch = how(scene, neap, top, scene.server.data)
    finally:
        sh("rm", "-rf", "--one-file-system", top)
    return {"wall": round(answered - start, 4), "cpu": 0, "rss": 0,
            "scratch": scratch}


# ---- the whole ----

def guarded(results, act):
    """What goes wrong is a row, and the run goes on with the next."""
    try:
        act()
    except OURS as e:
        print(f"bench: given up here: {e}", flush=True)
        results.add({"line": "given up", "error": str(e)[-400:]})


def scene(knobs, base, kind, scale):
    """A context: file system and server, no data yet."""
    need = kind.bytes(scale)
    wal = max(256, scale * 4096 // 300)
    return ground(base, f"{kind.name}-{scale}", need * 4 + (8 << 30), wal)


def all_lines(knobs, results, base, kind):
    with scene(knobs, base, kind, knobs.scale) as (here, server):
        s = Scene(knobs, results, here, server, kind(server, knobs.scale),
                  knobs.peers)
        s.create()
        s.first(knobs.runs)
        s.next(knobs.runs, knobs.change)
        stages = [s.nothing, s.full_scan, s.restore, s.boot]
        if knobs.plots and kind is Pgbench:
            stages.append(lambda: s.sweep_change(knobs.change))
        if kind is Pgbench:
            stages.append(lambda: s.same_here(knobs.runs, knobs.change))
        for stage in stages:
            guarded(results, stage)


def one_size(knobs, results, base, scale):
    """The same change on a smaller database."""
    with scene(knobs, base, Pgbench, scale) as (here, server):
        names = [n for n in knobs.peers if n in SWEEP]
        s = Scene(knobs, results, here, server, Pgbench(server, scale), names)
        s.create()
        s.first(1)
        s.same(knobs.runs, knobs.change)


def run(knobs, results, base):
    todo = [lambda k=k: all_lines(knobs, results, base, KINDS_OF_DATA[k])
            for k in knobs.data]
    if "pgbench" in knobs.data:
        sizes = [max(1, int(knobs.scale * s)) for s in SIZES]
        todo += [lambda n=n: one_size(knobs, results, base, n)
                 for n in (sizes if knobs.plots else sizes[:1])]
    for act in todo:
        guarded(results, act)
