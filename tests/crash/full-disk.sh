#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# No room left: in the repository, in the state folder, on the database's own
# file system, in the scratch of a writable mount, in an extract's target. It
# fails, says what is full, leaves nothing behind and nothing held; older
# backups are there; with room again the next backup works and is right.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/lib-crash.sh"
need_cmd mkfs.ext4 sqlite3
crash_job 400M
make_ext4 "$tmp/repo-fs" 48M
make_ext4 "$tmp/state-fs" 16M
sed -i "s|^state_dir:.*|state_dir: $tmp/state-fs/state|; s|url:.*|url: $tmp/repo-fs/repo|" "$tmp/neap.yaml"
rm -rf "$tmp/repo" "$tmp/host.key" "$tmp/recovery.key"
status 0 neap -q init
remember
fill_data 10 200
sqlite3 "$data/app.db" 'pragma journal_mode = wal; create table t(x); insert into t values (1);' >/dev/null
write_jobs() {
    sed -i '/^jobs:/,$d' "$tmp/neap.yaml"
    printf 'jobs:\n  docs: {engine: sqlite, path: %s, hold: true}\n' "$data/app.db" >>"$tmp/neap.yaml"
    [ "${1:-}" = sqlite ] || sed -i "s|  docs:.*|  docs: {engine: files, path: $data}|" "$tmp/neap.yaml"
}
write_jobs
status 0 neap -q backup docs

balloon() { # FOLDER KIB-LEFT
    local free
    rm -f "$1/balloon"
    sync -f "$1"
    free=$(df --output=avail -k "$1" | tail -1)
    fallocate -l $(((free - $2) * 1024)) "$1/balloon" 2>/dev/null ||
        head -c $(((free - $2) * 1024)) /dev/zero >"$1/balloon" 2>/dev/null
}
n=0
changes() { # 6 MB that do not compress
    n=$((n + 1))
    head -c 6000000 /dev/urandom >"$data/big"
    head -c 10000 /dev/urandom >"$data/small$n"
}
anchor=$(held)
first=$(last_backup)
cp -a --reflink=never "$data" "$tmp/first"

# A backup with KIB left in FOLDER: all that must hold.
fails() { # NAME FOLDER KIB WHAT-IT-SAYS
    local before
    before=$(count)
    balloon "$2" "$3"
    changes
    status 1 neap -q backup docs
    like "$err" "$4" "$1, $3 KiB left: it says what is full"
    is "$(held)" "$anchor" "$1: no new snapshot is left"
    is "$(count)" "$before" "$1: no half backup is listed"
    rm -rf "$tmp/out"
    what="$1: the older backup extracts" ok restore -q extract "$first" "$tmp/out"
    is "$(rsync -aHn --checksum --delete --itemize-changes "$tmp/first/" "$tmp/out$data/")" "" "$1: and is right"
    what="$1: the database takes writes" ok sqlite3 -cmd '.timeout 2000' "$data/app.db" 'insert into t values (2)'
    rm "$2/balloon"
    sleep 1 # the next backup's name
    out=$(neap --json backup docs 2>"$tmp/err")
    is "$?$(cat "$tmp/err")" 0 "$1: with room again, the next backup works"
    same_as_snapshot
    is "$why" "" "$1: and is right"
    clean
    is "$why" "" "$1: nothing is left behind"
    anchor=$(held)
}
# Leftover packs of each failure are in the way of the next: start it afresh.
for left in 0 200 5000; do
    fails "the repository full" "$tmp/repo-fs" "$left" "*$tmp/repo-fs/repo*full*"
done
for left in 0 8; do
    fails "the state folder full" "$tmp/state-fs" "$left" "*$tmp/state-fs/state*full*"
done

# ---- an extract's target ----
make_ext4 "$tmp/target" 8M
remember
status 1 restore -q extract docs/latest "$tmp/target/out"
like "$err" "*$tmp/target*No space left*" "an extract's target full: it says where"
like "$err" "*incomplete*" "and that what is there is incomplete"
rm -rf "$tmp/target/out"
balloon "$tmp/target" 0
status 1 restore -q extract docs/latest "$tmp/target/out"
like "$err" "*$tmp/target*" "nothing left at all: it says where"
rm -rf "$tmp/target/out" "$tmp/target/balloon"

# ---- the scratch of a writable mount ----
mkdir "$tmp/mnt"
status 0 restore -q mount docs/latest "$tmp/mnt" --writable "$tmp/target/scratch"
what="more than the scratch holds" status 1 dd if=/dev/urandom of="$tmp/mnt$data/new" bs=1M count=20
like "$err" "*No space left*" "the writer hears that there is no room"
what="what was there reads on" ok cmp "$tmp/mnt$data/big" "$data/big"
what="and a removal makes room" ok rm "$tmp/mnt$data/new"
what="for other things" ok cp "$data/d0/f0" "$tmp/mnt$data/copy"
what="which read right" ok cmp "$data/d0/f0" "$tmp/mnt$data/copy"
status 0 restore unmount "$tmp/mnt"
what="the scratch is gone" ok [ ! -e "$tmp/target/scratch" ]

# ---- a check's scratch ----
balloon "$tmp/target" 0
write_jobs sqlite
sleep 1
status 0 neap -q backup docs
status 5 restore check docs/latest --scratch "$tmp/target"
like "$err$out" "*$tmp/target*" "a check without room could not check, and says where"
rm "$tmp/target/balloon"
status 0 restore check docs/latest --scratch "$tmp/target"
clean
is "$why$(find "$tmp/target" -mindepth 1 ! -name lost+found)" "" "nothing is left behind"
write_jobs

# ---- the database's own file system ----
what="fill it" ok sh -c "head -c 600M /dev/urandom >'$data/ball' 2>/dev/null; sync -f '$data'; true"
neap -q backup docs >"$tmp/full.out" 2>&1
rc=$?
case $rc in
0) diag "a snapshot had room" ;;
*)
    is "$rc" 1 "the database's file system full: fails"
    like "$(cat "$tmp/full.out")" "*No space left*" "and says so"
    ;;
esac
rm "$data/ball"
sync -f "$data"
btrfs balance start -dusage=0 "$tmp/fs" >/dev/null # what it had taken for data is given back
sleep 1
status 0 neap -q backup docs
same_as_snapshot
is "$why" "" "the database's file system full: the next is right"
done_testing
