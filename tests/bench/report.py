# SPDX-License-Identifier: Apache-2.0
"""docs/benchmarks.md and its plots, from the raw figures."""

import os
import statistics

import budgets
import plot
from data import KINDS_OF_DATA
from peers import PEERS

TITLE = {**{n: p.title for n, p in PEERS.items()},
         "dd": "dd of as many zeros, fsync",
         "overlayfs": "overlayfs on neap's read-only mount"}


def seconds(v):
    return "" if v is None else f"{v:.2f} s"


def megabytes(v):
    if v is None:
        return ""
    if v < 1e6:
        return f"{v / 1e3:.1f} kB"
    return f"{v / 1e6:,.0f} MB" if v >= 1e8 else f"{v / 1e6:.1f} MB"


def mebibytes(v):
    return "" if v is None else f"{v / 2 ** 20:.0f} MiB"


def rate(v):
    return "" if v is None else f"{v / 1e9:.2f} GB/s"


def factor(ours, theirs):
    if not ours or not theirs:
        return ""
    r = ours / theirs
    return f"{r:.3f}" if r < 0.1 else f"{r:.2f}"


def table(head, rows, right="---:|"):
    """A Markdown table; the first column is text, the others as RIGHT says."""
    def line(cells):
        return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"
    return [line(head), "|---|" + right * (len(head) - 1)] + \
        [line(r) for r in rows] + [""]


class Report:
    def __init__(self, results):
        self.r = results
        self.about = results.about
        self.scale = self.about["scale"]
        self.out = []

    def say(self, *lines):
        self.out += [*lines, ""]

    def peers_of(self, line, **want):
        """Those with a row, as listed in PEERS; then the others."""
        have = {r["peer"] for r in self.r.select(line=line, **want)}
        known = [p for p in TITLE if p in have]
        return known + sorted(have - set(known))

    # ---- one table of one line on one kind of data ----

    def cells(self, peer, ours, columns, want):
        error = self.r.error(peer=peer, **want)
        name = TITLE.get(peer, peer)
        if error:
            return [f"{name} **failed**: {' '.join(error.split())[:160]}"] + \
                [""] * (len(columns) + 2)
        got = [self.r.median(c[1], peer=peer, **want) for c in columns]
        runs = len(self.r.values("wall", peer=peer, **want))
        compared = factor(ours, got[0]) if peer != "neap" else "1"
        return [name] + [c[2](v) for c, v in zip(columns, got)] + \
            [compared, str(runs)]

    def compare(self, data, line, columns, **want):
        """COLUMNS: (head, figure, how to write it); the first is compared."""
        want = {"data": data, "line": line, "scale": self.scale, **want}
        named = self.peers_of(**want)
        if not named:
            return
        ours = self.r.median(columns[0][1], peer="neap", **want)
        head = [data] + [c[0] for c in columns] + ["neap / it", "runs"]
        rows = [self.cells(p, ours, columns, want) for p in named]
        self.out += table(head, rows)

    def each_kind(self, line, columns, **want):
        for data in self.about["data"]:
            self.compare(data, line, columns, **want)

    # ---- the sections ----

    def machine(self):
        a = self.about
        self.say(f"{a['cpu']}, {a['cores']} cores, "
                 f"{a['memory'] / 2 ** 30:.0f} GiB of memory; Linux "
                 f"{a['kernel']}; databases on btrfs on a loop device "
                 f"(direct) over {a['repository_fs']}, repositories on the same "
                 f"{a['repository_fs']}. Measured {a['when']}, neap at commit "
                 f"{a['commit']}, {a.get('minutes', '?')} minutes in all.")
        self.busy()
        rows = [[TITLE.get(n, n), v, a["settings"].get(n, "")]
                for n, v in a["versions"].items()]
        self.out += table(["program", "version", "how it is run"], rows,
                          "---|")
        for n in a.get("missing", ()):
            self.say(f"{TITLE[n]} could not be installed and is missing below.")

    def busy(self):
        """A measurement by itself makes a load of 1 to 2 here."""
        load = statistics.median(r["load"] for r in self.r.rows)
        if load > 2 * self.about["cores"]:
            self.say(f"**The machine was busy with other work** (median load "
                     f"{load:.1f}): times and their ratios here are not to be "
                     f"trusted; bytes are.")

    def kinds(self):
        for name in self.about["data"]:
            rows = self.r.select(data=name, scale=self.scale, line="first")
            size = f"{rows[0]['logical'] / 1e9:.1f} GB" if rows else "?"
            self.say(f"- **{name}** ({size}): {KINDS_OF_DATA[name].about}; "
                     f"{self.change_words(name)}.")

    def change_words(self, name):
        changed = self.r.median("changed_bytes", data=name, line="next",
                                peer="neap", scale=self.scale,
                                change=self.about["change"])
        count = f"{self.about['change']:,}"
        words = f"{count} transactions" if name == "pgbench" else \
            f"{count} rows and what belongs to them"
        return words + (f", {megabytes(changed)} of changed blocks"
                        if changed else "")

    def verdicts(self):
        rows = [[v.line, v.must, v.measured, v.word]
                for v in budgets.judge(self.r)]
        self.out += table(["budget", "neap must", "measured", ""], rows,
                          "---|")
        if self.scale != budgets.REFERENCE:
            self.say(f"Scale {self.scale} is not the reference work (scale "
                     f"{budgets.REFERENCE}): budgets in bytes do not apply, "
                     f"and fixed costs weigh more.")

    def given_up(self):
        if not self.about.get("complete"):
            self.say("**The run was stopped before its end**: what is missing "
                     "was not measured.")
        rows = self.r.select(line="given up")
        if rows:
            self.say("Parts of the run were given up, and their figures are "
                     "missing:", "")
            self.say(*[f"- {' '.join(r['error'].split())}" for r in rows])

    def lines(self):
        wall = ("time", "wall", seconds)
        cpu = ("CPU", "cpu", seconds)
        rss = ("peak memory", "rss", mebibytes)
        stored = ("stored", "stored", megabytes)
        read = ("read from disk", "read", megabytes)
        self.say("## First backup")
        self.each_kind("first", [wall, cpu, rss, read])
        self.say("## Stored by the first backup")
        self.each_kind("first", [stored])
        self.say("neap leaves out the segments of pg_wal that recovery does "
                 "not need, pgBackRest all of it; the others store what the "
                 "server keeps.")
        change = self.about["change"]
        self.say("## Next backup")
        self.each_kind("next", [wall, cpu, rss, read], change=change)
        self.say("## Stored by the next backup, metadata included")
        self.each_kind("next", [stored], change=change)
        self.say("## Nothing changed", "A backup after one with nothing but a "
                 "checkpoint in between.")
        self.each_kind("nothing", [wall, cpu, rss, stored])
        self.say("And at once again, the only runs for which the caches are "
                 "not dropped: what was read a moment ago is still there.")
        self.each_kind("again", [wall, cpu, rss])
        self.say("## The same change on a database 4 times larger",
                 f"The transactions are pgbench's own, but of the accounts "
                 f"that the smaller database has: all over the larger one, "
                 f"as many of them would change more pages.")
        self.larger()
        self.say("## Full scan, nothing changed", "Everything is read and "
                 "hashed. fio reads 1 MiB blocks, 32 at a time, O_DIRECT, "
                 "through io_uring: once the largest of the same files "
                 "through the file system, once the loop device below it.")
        for data in self.about["data"]:
            self.scan(data)
        self.say("## Restore all", "Everything of the newest backup into an "
                 "empty folder on the btrfs. *Time* is until it is on the "
                 "disk (`sync -f` after the command), *returned* is when the "
                 "command ended; neap ends after its own sync. Writing as "
                 "many zeros shows what the disk takes.")
        self.each_kind("restore", [
            wall, ("returned", "returned", seconds), cpu, rss])
        self.say("## PostgreSQL answers on a mounted backup", "From the "
                 "mount's start to the answer of the first query.")
        self.each_kind("boot", [wall, ("scratch", "scratch", megabytes)])

    def thin(self):
        rows = [r for r in self.r.select(line="thin") if "error" not in r]
        if not rows:
            return
        when = self.about.get("thin", self.about)
        self.say("## What differs between two snapshots of a thin volume",
                 f"A pool's metadata with {rows[0]['mappings']:,} mappings in "
                 f"each of two devices, {rows[0]['changes']:,} of them changed. "
                 "*Shared* is what the kernel leaves: the trees share what has "
                 "not changed, and neap reads the rest only. *Restored* was "
                 "made by thin_restore, which shares nothing, so that neap "
                 "has to read both trees, too; thin_delta always does. neap "
                 "reads past the cache, leaves in a row up to 256 KiB at a "
                 "time, with memory for these and for a path of each tree. "
                 f"Cold caches; {when['when']}, commit "
                 f"{when['commit']}.")
        theirs = {"line": "thin", "data": "restored", "peer": "thin_delta"}
        cells = []
        for kind, peer in (("shared", "neap"), ("restored", "neap"),
                           ("restored", "thin_delta")):
            want = {"line": "thin", "data": kind, "peer": peer}

            def m(figure, of):
                return self.r.median(figure, **of)
            if m("wall", want) is None:
                continue
            cells.append([
                f"{peer}, {kind}", seconds(m("wall", want)),
                f"{m('rss', want) / 2 ** 20:.1f} MiB",
                megabytes(m("read", want)), f"{m('blocks', want):,.0f}",
                factor(m("wall", want), m("wall", theirs)),
                factor(m("rss", want), m("rss", theirs)),
                str(len(self.r.select(**want)))])
        self.out += table(["reader", "time", "peak memory", "read from disk",
                           "blocks named", "time / thin_delta",
                           "memory / thin_delta", "runs"], cells)

    def scan(self, data):
        rows = []
        limit = None
        want = {"data": data, "line": "scan", "scale": self.scale}
        ours = budgets.scan_rate(self.r, data)
        for peer in self.peers_of(**want):
            if error := self.r.error(peer=peer, **want):
                rows.append([f"{peer}: **failed**: {error[:160]}", "", "", "",
                             ""])
                continue
            limit = ours if peer == "neap" else \
                self.r.median("rate", peer=peer, **want)
            rows.append([peer, rate(limit), seconds(self.r.median(
                "wall", peer=peer, **want)), seconds(self.r.median(
                    "cpu", peer=peer, **want)), factor(ours, limit)])
        self.out += table([data, "rate", "time", "CPU", "neap / it"], rows)

    def larger(self):
        small = budgets.quarter(self.scale)
        rows = []
        for peer in self.peers_of("same", data="pgbench", scale=small):
            for name, figure, words in (
                    ("time", "wall", seconds), ("memory", "rss", mebibytes),
                    ("stored", "stored", megabytes),
                    ("of it metadata", "metadata", megabytes)):
                pair = [self.r.median(figure, data="pgbench", scale=s,
                                      line="same", peer=peer,
                                      change=self.about["change"])
                        for s in (small, self.scale)]
                if None not in pair:
                    rows.append([f"{TITLE[peer]}, {name}", words(pair[0]),
                                 words(pair[1]), factor(pair[1], pair[0])])
        self.out += table(["pgbench", f"scale {small}", f"scale {self.scale}",
                           "ratio"], rows)

    # ---- the plots ----

    def series(self, figure, unit, by):
        """(peer, [(x, y)…])… of the next backup; by size, or by change."""
        found = []
        line = "same" if by == "size" else "next"
        for peer in self.peers_of(line, data="pgbench"):
            rows = self.r.select(line=line, data="pgbench", peer=peer)
            if by == "size":
                points = [(self.r.median("logical", line=line,
                                         data="pgbench", scale=s) / 1e9,
                           self.r.median(figure, line=line, data="pgbench",
                                         peer=peer, scale=s))
                          for s in {r["scale"] for r in rows}]
            else:
                keys = {r["change"] for r in rows if r["scale"] == self.scale}
                points = [(c, self.r.median(figure, line=line, data="pgbench",
                                            peer=peer, scale=self.scale,
                                            change=c))
                          for c in keys]
            points = [(x, y / unit) for x, y in points if y is not None]
            if len(points) > 1:
                found.append((peer, points))
        return found

    def plot(self, name, by, xlabel, log):
        time, stored = (self.series("wall", 1, by),
                        self.series("stored", 1e6, by))
        if not time or not stored:
            return False
        names = [(p, TITLE[p]) for p, _ in time]
        plot.write(f"{os.path.dirname(self.r.path)}/{name}.svg", names, [
            plot.panel("Time of the next backup", xlabel, "seconds", time,
                       log, log),
            plot.panel("Bytes that it stores", xlabel, "MB", stored,
                       log, log)])
        return True

    def plots(self):
        if self.plot("size", "size", "size of the database, GB", False):
            self.say("## Cost against the size of the database",
                     f"{self.about['change']:,} transactions of the same "
                     f"accounts, whatever the size. A line that stays flat "
                     f"follows the change; one that rises follows the "
                     f"database.",
                     "", "![time and bytes against size](benchmarks/size.svg)")
        if self.plot("change", "change",
                     "transactions since the backup before", True):
            self.say("## Cost against the change",
                     f"At scale {self.scale}; both axes are logarithmic.",
                     "", "![time and bytes against change]"
                     "(benchmarks/change.svg)")

    def notes(self):
        """What a person wrote about the figures, kept beside them."""
        path = f"{os.path.dirname(self.r.path)}/notes.md"
        if os.path.exists(path):
            with open(path) as f:
                self.say(f.read().strip())

    def text(self):
        self.say("<!-- Written by tests/bench/run from "
                 "benchmarks/results.json: do not edit. -->", "# Benchmarks")
        self.say("neap and its peers on the same data, on one machine, in one "
                 "run: `make bench`. Figures are medians of the runs named in "
                 "each table. Absolute times drift with the machine by a "
                 "third from day to day; the ratios are what counts.")
        self.say("## Budgets", "Judged on pgbench.")
        self.verdicts()
        self.notes()
        self.say("## Machine, programs, data")
        self.machine()
        self.kinds()
        self.given_up()
        self.say("The raw figures of each run: "
                 "[benchmarks/results.json](benchmarks/results.json).")
        self.lines()
        self.thin()
        self.plots()
        self.say(HOW.strip())
        return "\n".join(self.out).rstrip() + "\n"


HOW = """
## How it is measured

- Each round makes one state of the database; every peer works on it, one
  after the other, in an order that turns from round to round. Before each
  measurement the kernel's caches are dropped, programs included.
- neap and pgBackRest back up the running server, so their time holds the
  engine's checkpoint, and neap's its own snapshot. The others read a snapshot
  that was made before, at a path that stays the same: for a real backup their
  snapshot, and whatever makes it consistent, come on top.
- *Time* is from start to end of the command. neap, restic, borg and pgBackRest
  end when their data are on the disk; nobody asked the pipes and casync to.
- *CPU* is user and system time of the command and of all processes below it.
  The kernel's own threads (writing back, the loop device) and the database
  server are not in it.
- *Peak memory* is the sum of what all processes of the command have resident,
  looked at every 20 ms; pages that they share count twice.
- *Stored* is by how much the files of the repository grew. neap's block map
  and the caches of restic and borg lie outside the repositories and are in
  nobody's figure.
- *Read from disk* is what the kernel counted for the command and the processes
  below it.
- The server runs without autovacuum and timed checkpoints, so that nothing but
  the measured change happens between two backups; tools that go by a file's
  time stamp profit from that as much as neap.
"""


def write(results):
    """The document beside the folder of results.json, the plots in it."""
    folder = os.path.dirname(os.path.dirname(os.path.abspath(results.path)))
    path = f"{folder}/benchmarks.md"
    text = Report(results).text()
    with open(path, "w") as f:
        f.write(text)
    print(f"bench: wrote {path}", flush=True)
