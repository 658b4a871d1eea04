#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A live PostgreSQL under pgbench whose data and WAL lie on two thick volumes:
# frozen together, each backup (three, with LAB_CHECKS=all ten) is of one instant
# and boots. Whatever happens in the freeze, the writers go on.
# tmp and the like come from the libraries.
# shellcheck disable=SC2154,SC2034
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/lib-lab.sh"
lab 1G
need_cmd python3
need_built neap
need_built neap-restore
pg_bin=$(pg_bin) || skip_all "no PostgreSQL server here"
neap_tmp
. "$(dirname "$0")/lib-backup.sh"
make_vg
make_thick data 80M
make_thick wal 40M
put_fs ext4 data "$tmp/data"
put_fs ext4 wal "$tmp/wal"
chown postgres: "$tmp/wal"
{
    echo "state_dir: $tmp/state"
    echo "repository: {url: $tmp/repo, encryption: none}"
    echo "jobs:"
    job db "$tmp/data"
    job short "$tmp/data" | sed 's/hold_limit: 60s.*/hold_limit: 20s/'
} >"$tmp/neap.yaml"
status 0 neap init
initdb=--wal-segsize=1 cluster "$tmp/data" 8MB
stop_pg "$tmp/data/pg"
as_pg cp -a "$tmp/data/pg/data/pg_wal" "$tmp/wal/pg_wal"
rm -r "$tmp/data/pg/data/pg_wal"
as_pg ln -s "$tmp/wal/pg_wal" "$tmp/data/pg/data/pg_wal"
start_pg "$tmp/data/pg"
load 10

suspended() { dmsetup info -c --noheadings -o name,suspended | grep -c Suspended; }
notes() { find /run/neap -name 'frozen.*' 2>/dev/null; }
held=0 # of the thin one, whose last is kept from backup to backup
# Nothing is frozen, nobody guards, no snapshot is there that was not before.
as_before() {
    is "$(suspended) $(notes)" "0 " "$1: nothing is suspended, and no note says so"
    is "$(snapshots | wc -w)" "$held" "$1: no snapshot is left"
}

# ---- one instant ----
# Somebody counts on both, on the one first: at each instant that is as far as the
# other, or one ahead.
touch "$tmp/data/count" "$tmp/wal/count"
python3 -c '
import os, sys, time
files = [os.open(f, os.O_RDWR) for f in sys.argv[1:]]
n = 0
while True:
    n += 1
    for f in files:
        os.pwrite(f, b"%020d" % n, 0)
        os.fsync(f)
    time.sleep(0.1)' "$tmp/data/count" "$tmp/wal/count" &
counter=$!
longest=0
rounds=$([ "${LAB_CHECKS:-}" = all ] && echo 10 || echo 3)
for ((n = 1; n <= rounds; n++)); do
    backup db
    freeze=$(json freeze_ms <<<"$out")
    [ "$freeze" -le "$longest" ] || longest=$freeze
done
diag "frozen for $longest ms at most"
what="each freeze was shorter than its limit" ok [ "$longest" -lt 30000 ]
kill $counter $load
as_before "$rounds backups"
bad="" torn="" counts=""
mkdir "$tmp/mnt"
for t in $(neap --json list db | python3 -c 'import json, sys
for b in json.load(sys.stdin): print(b["time"])'); do
    restore check "db/$t" >"$tmp/log" 2>&1 || bad+="$t: $(tail -3 "$tmp/log"); "
    restore mount "db/$t" "$tmp/mnt" >"$tmp/log" 2>&1 || bad+="$t: $(tail -3 "$tmp/log"); "
    first=$(<"$tmp/mnt$tmp/data/count") second=$(<"$tmp/mnt$tmp/wal/count")
    counts+="$((10#$first)) "
    ahead=$((10#$first - 10#$second))
    [ $ahead = 0 ] || [ $ahead = 1 ] || torn+="$t: $first, $second; "
    restore unmount "$tmp/mnt" >"$tmp/log" 2>&1 || bad+="$t: $(tail -3 "$tmp/log"); "
done
diag "counted: $counts"
is "$bad" "" "each of the $rounds boots, with what the queries promise"
is "$torn" "" "in each of them both volumes are of one instant"

# ---- a third one, thin, with a tablespace ----
load 10
make_thin space 64M --size 100M 2>/dev/null
put_fs ext4 space "$tmp/space"
mkdir "$tmp/space/far"
chown postgres: "$tmp/space/far"
pg "create tablespace far location '$tmp/space/far'" \
    "create table far (x int) tablespace far" \
    "insert into far select generate_series(1, 10000)"
n=11
backup db
like "$(neap show db/latest)" '*frozen for*(3 volumes)*' "three volumes, one of them thin, are frozen together"
held=1
what="and it boots" status 0 restore check db/latest

# ---- what may happen in the freeze ----
# A command of lvm that hangs, as on a device that does not answer: stopped as it
# starts, while the volumes are frozen.
hang() { # JOB
    "$NEAP_BUILD/neap" -q -c "$tmp/neap.yaml" backup "$1" >"$tmp/log" 2>&1 &
    agent=$!
    lvm=
    for ((i = 0; i < 2000; i++)); do
        for p in /proc/[0-9]*; do
            { read -r name <"$p/comm"; } 2>/dev/null
            [ "$name" != lvcreate ] || lvm=${p#/proc/}
        done
        [ -z "$lvm" ] || break
    done
    what="$1: lvcreate hangs while all are frozen" ok kill -STOP "$lvm"
}
let_lvm_go() {
    kill -CONT "$lvm"
    for ((i = 0; i < 200; i++)); do
        [ -d "/proc/$lvm" ] || return 0
        sleep 0.1
    done
}
# Also on the second one, which lvcreate has not come to; before the limit of db.
writers_go_on() { # WHAT
    local v
    for v in data wal; do
        timeout 20 dd if=/dev/zero of="$tmp/$v/probe" bs=4096 count=1 conv=fsync 2>/dev/null ||
            why+="$v: nothing can be written; "
    done
    is "$why" "" "$1: the writers go on"
}

wal_is() { dmsetup info -c --noheadings -o suspended lab-wal; }

hang short
why=
is "$(notes | wc -l)" 1 "a note says what is frozen"
writers_go_on "at the limit"
like "$(</proc/$lvm/stat)" "*) T *" "while lvcreate still hangs"
let_lvm_go
wait $agent
is $? 1 "at the limit: the backup fails"
like "$(cat "$tmp/log")" "*frozen for 10000 ms, the limit*raise hold_limit*" "and says why, and what to do"
as_before "at the limit"

hang db
kill -9 $agent
wait $agent 2>/dev/null
why=
writers_go_on "the agent killed"
let_lvm_go
backup db
as_before "after the next backup"

hang db
# The guard first: it lets go as soon as it sees the agent's end.
# shellcheck disable=SC2046
kill -9 $(pgrep -f "neap.yaml backup db" | grep -vx $agent)
kill -9 $agent
wait $agent 2>/dev/null
is "$(pgrep -fc "neap.yaml backup db") $(wal_is)" "0 Suspended" "agent and guard killed: it stays frozen"
status 0 "$NEAP_BUILD/neap" -c "$tmp/neap.yaml" probe db
like "$err" "*volumes were still frozen*go on now*" "the next run says that it lets them go on"
why=
writers_go_on "after that"
let_lvm_go
backup db
as_before "after the next backup"
kill $load
done_testing
