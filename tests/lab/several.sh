#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A live PostgreSQL under pgbench whose data and WAL lie on two thick volumes:
# frozen together, each backup is of one instant and boots. Whatever happens in
# the freeze, the writers go on.
#   LAB_ROUNDS=4   backups before anything happens
# tmp and the like come from the libraries.
# shellcheck disable=SC2154,SC2034
. "$(dirname "$0")/lib-backup.sh"
rounds=${LAB_ROUNDS:-4}
after() {
    backups db $((rounds + 2))
    for b in $backups; do
        boots "$b"
        of_one_instant "$b" "$keep/data" "$keep/wal"
    done
}
lab 1G
neap_tmp
make_vg
make_thick data 80M
make_thick wal 40M
put_fs ext4 data "$keep/data"
put_fs ext4 wal "$keep/wal"
chown postgres: "$keep/wal"
configure < <(
    job db "$keep/data"
    job short "$keep/data" | sed 's/hold_limit: 60s.*/hold_limit: 20s/'
)
cluster "$keep/data"
wal_to "$keep/wal"
load

suspended() { dmsetup info -c --noheadings -o name,suspended | grep -c Suspended; }
notes() { find /run/neap -name 'frozen.*' 2>/dev/null; }
# Nothing is frozen, nobody guards, no snapshot is there that was not before.
as_before() {
    is "$(suspended) $(notes)" "0 " "$1: nothing is suspended, and no note says so"
    is "$(snapshots)" "" "$1: no snapshot is left"
}

# ---- one instant ----
count_on "$keep/data" "$keep/wal"
longest=0
for ((n = 1; n <= rounds; n++)); do
    backup db
    fact freeze_ms
    [ "$fact" -le "$longest" ] || longest=$fact
done
diag "frozen for $longest ms at most"
what="each freeze was shorter than its limit" ok [ "${longest/#0/none}" -lt 30000 ]
like "$(neap show db/latest)" '*frozen for*(2 volumes)*' "both volumes are frozen together"
as_before "$rounds backups"

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
        timeout 20 dd if=/dev/zero of="$keep/$v/probe" bs=4096 count=1 conv=fsync 2>/dev/null ||
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
kill $counter $load
keep_repo
lab_done
