#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Law 4 as the kernel sees it: every file of the repository is synced before it
# has its name; all packs and their folders are durable before an index names
# them, the index before a map, the maps before the record, the prepared block
# map before the record, and the record before the old snapshot goes.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/lib-crash.sh"
need_cmd strace
crash_job
fill_data 20 300
for i in 1 2; do # the first backup, and one that follows
    head -c 3000000 /dev/urandom >"$data/more$i"
    strace -f -y -qq -o "$tmp/trace" -e trace=fsync,fdatasync,linkat,renameat,unlinkat,openat,mkdirat,ioctl,write,pwrite64,pwritev \
        "$NEAP" -q -c "$tmp/neap.yaml" backup docs >"$tmp/log" 2>&1 || skip_all "strace: $(tail -1 "$tmp/log")"
    python3 - "$tmp/trace" "$tmp" "$i" >"$tmp/verdict" 2>&1 <<'PY'
import re, sys
trace, tmp, turn = open(sys.argv[1]).read().split("\n"), sys.argv[2], int(sys.argv[3])
repo = tmp + "/repo/"
# A call that was cut in two by another thread counts where it ended (a sync) or
# where it began (a link): the stricter of the two.
begun, lines = {}, []
for l in trace:
    pid, _, rest = l.partition(" ")
    rest = rest.strip()
    m = re.match(r"(.*) <unfinished \.\.\.>$", rest)
    if m:
        begun[pid] = m.group(1)
        if re.match(r"linkat|renameat|ioctl", rest): lines.append((pid, m.group(1), "begin"))
        continue
    m = re.match(r"<\.\.\. \w+ resumed>(.*)", rest)
    if m:
        whole = begun.pop(pid, "") + m.group(1)
        if re.match(r"f(data)?sync", whole): lines.append((pid, whole, "end"))
        continue
    lines.append((pid, rest, ""))
bad, dirty_folders, looked, made, synced, named = [], set(), set(), set(), set(), {"packs": 0, "index": 0, "maps": 0, "backups": 0}
prepared = dropped = record_durable = False
at_step, hashes_dirty, commits = "", False, 0
order = []
# The folder of a file, and those above it up to one whose own name is durable: the
# one above that was synced since it was made.
def above(path): return path.rpartition("/")[0]
def folders(path):
    while path:
        path = above(path)
        yield path
        if path not in made and above(path) in looked: return
for pid, l, part in lines:
    m = re.match(r"f(?:data)?sync\(\d+<([^>]*)>", l)
    if m:
        p = m.group(1)
        if p.startswith(repo) or p + "/" == repo:
            rel = p[len(repo):]
            if "(deleted)" in rel or rel.startswith("#"): synced.add(rel.split(" ")[0])
            else:
                rel = rel.rstrip("/")
                looked.add(rel)
                made = {d for d in made if above(d) != rel}
                dirty_folders = {d for d in dirty_folders if d[0] != rel}
        if p.endswith("/blockmap"):
            if prepared == "named": prepared = "durable"
            at_step = {"redo": "redo durable", "objects": "done"}.get(at_step, at_step)
        if p.endswith("/blockmap/hashes"): hashes_dirty = False
        continue
    m = re.match(r"mkdirat\(\d+<([^>]*)>, \"([^\"]*)\", \d+\) += 0", l)
    if m and m.group(1) + "/" == repo: made.add(m.group(2))
    # The commit of the block map: redo has its name for good, the pages, the
    # table has its name for good, redo goes.
    m = re.match(r"renameat\(\d+<[^>]*/blockmap>, \"([^\"]*)\", \d+<[^>]*>, \"(redo|objects)\"", l)
    if m and m.group(1) == m.group(2) + ".new":
        commits += m.group(2) == "redo"
        if m.group(2) == "objects" and (at_step != "redo durable" or hashes_dirty):
            bad.append("the table is put before the pages are durable")
        at_step = m.group(2)
    if re.match(r"pwrite(64|v)\(\d+<[^>]*/blockmap/hashes>", l):
        hashes_dirty = True
        if at_step not in ("redo durable", "done"): bad.append("a page is written before redo is durable")
    if re.match(r"unlinkat\(\d+<[^>]*/blockmap>, \"redo\"", l) and at_step not in ("done", ""):
        bad.append("redo goes before the table is durable")
    m = re.match(r"renameat\(\d+<[^>]*>, \"[^\"]*\", \d+<([^>]*)>, \"redo\.new\"", l)
    if m: prepared = "named"
    # linkat(AT_FDCWD, "/proc/self/fd/9", 4</…/repo>, "packs/ab/…", AT_SYMLINK_FOLLOW)
    m = re.match(r"linkat\(.*, \d+<([^>]*)>, \"((packs|index|maps|backups)/[^\"]*)\"", l)
    if m and m.group(1) + "/" == repo:
        name, kind = m.group(2), m.group(3)
        order.append(kind)
        named[kind] += 1
        before = {"packs": (), "index": ("packs",), "maps": ("packs", "index"),
                  "backups": ("packs", "index", "maps")}[kind]
        for f, why in sorted(dirty_folders):
            if why in before: bad.append(f"{name} is named while folder {f or '.'} is not synced since one of {why}")
        if kind == "backups" and prepared != "durable": bad.append("the record is named before the block map's update is durable")
        dirty_folders.update((f, kind) for f in folders(name))
        continue
    if "BTRFS_IOC_SNAP_DESTROY" in l:
        dropped = True
        if any(why == "backups" for _, why in dirty_folders) or not named["backups"]:
            bad.append("a snapshot goes before the record is durable")
# Each named file was synced while it had no name.
n = sum(named.values())
if len(synced) < n: bad.append(f"{n} files were named, {len(synced)} synced before")
if not all(named.values()): bad.append(f"not seen: {named}")
if dirty_folders: bad.append(f"not synced at the end: {sorted(dirty_folders)}")
if not commits: bad.append("no commit of the block map was seen")
if turn > 1 and not dropped: bad.append("no snapshot was seen to go")
last = {k: max(i for i, o in enumerate(order) if o == k) for k in set(order)}
if last["backups"] != len(order) - 1: bad.append(f"the record is not the last: {order}")
print("; ".join(bad) or "in order")
PY
    is "$(cat "$tmp/verdict")" "in order" "backup $i: $(grep -c fsync "$tmp/trace") syncs"
    sleep 1
done
done_testing
