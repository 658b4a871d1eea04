#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# `kill -9` of a backup, CRASH_ROUNDS times at random moments of its whole run,
# under a writer; then at each kind of step, and with the content held still.
# After each: what is listed is whole, the next backup works, is right, and
# uses what was stored, and nothing is left behind.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/lib-crash.sh"
crash_job
rounds=${CRASH_ROUNDS:-25}
diag "CRASH_SEED=$seed"

fill_data 20 150
start_writer
# The first one reads everything; the next tell how long one takes.
for i in 1 2 3; do
    t=$(now_ms)
    neap -q backup docs >/dev/null || exit 1
    run_ms=$(($(now_ms) - t))
done
diag "a backup takes $run_ms ms"

kill_after() { # MILLISECONDS
    "$NEAP" -q -c "$tmp/neap.yaml" backup docs >/dev/null 2>&1 &
    local pid=$!
    sleep "$(($1 / 1000)).$(printf %03d $(($1 % 1000)))"
    kill -9 "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
}

# All that must hold after a kill; says the first thing that does not.
after_kill() { # BACKUPS-BEFORE
    local n all
    all=$(neap --json list docs) || {
        why="list fails"
        return 1
    }
    n=$(python3 -c 'import json, sys
l = json.loads(sys.argv[1]); print(len(l), sum("error" in b for b in l))' "$all")
    [ "$n" = "$1 0" ] || [ "$n" = "$(($1 + 1)) 0" ] || {
        why="list shows $n backups (all, unreadable), there were $1"
        return 1
    }
    # Otherwise it is the one that was compared before the kill.
    if [ "$n" != "$1 0" ]; then same_as_snapshot || return 1; fi
    [ "$(held | wc -l)" -le 2 ] || {
        why="snapshots after the kill: $(held)"
        return 1
    }
    local t
    t=$(now_ms)
    out=$(neap --json backup docs 2>"$tmp/err") || {
        why="the next backup: $(cat "$tmp/err")"
        return 1
    }
    run_ms=$(((3 * run_ms + $(now_ms) - t) / 4)) # what else the machine does varies
    [ "$(field wrong_blocks)" = 0 ] || {
        why="the next backup found wrong blocks: $(cat "$tmp/err")"
        return 1
    }
    [ "$(held)" = "neap-$(last_backup docs | tr / -)" ] || {
        why="snapshots after the next backup: $(held)"
        return 1
    }
    same_as_snapshot && clean
}

committed=0
for ((i = 1; i <= rounds; i++)); do
    n=$(count)
    pick $((run_ms + run_ms / 10 + 1))
    kill_after "$picked"
    now=$(count)
    [ "$now" = "$n" ] || committed=$((committed + 1))
    if ! after_kill "$n"; then
        is "$why" "" "kill round $i, killed after $picked ms (seed $seed)"
        break
    fi
done
what="$rounds kills within $run_ms ms, $committed of them after the record" ok [ $((i - 1)) = "$rounds" ]
stop_writer
[ $((i - 1)) = "$rounds" ] || done_testing

# ---- at each kind of call that makes something durable ----
interpose
neap -q backup docs >/dev/null # what the writer left is not part of what is counted
change() { # the same of each kind, and 2 MB that are new
    rm -f "$data"/d0/gone* "$data"/d1/moved*
    head -c 2000000 /dev/urandom >"$data/more"
    head -c 9000 /dev/urandom >"$data/d0/gone$1"
    head -c 9000 /dev/urandom >"$data/d1/moved$1"
    head -c 5000 /dev/urandom | dd of="$data/d2/f2" bs=1 seek=$((RANDOM * 4)) conv=notrunc status=none
}
die_at() { # VAR=VALUE…; the backup dies by the signal
    local st
    crashing "$@" "$NEAP" -q -c "$tmp/neap.yaml" backup docs >"$tmp/killed.log" 2>&1
    st=$?
    # One backup makes a few calls more than another: a number may be past its end.
    case $1 in CRASH_AT=*) [ $st != 0 ] || return 0 ;; esac
    [ $st = 137 ]
}
killed_at() { # NAME VAR=VALUE…
    local name=$1 n before stored
    shift
    change "$RANDOM"
    n=$(count)
    before=$(du -sb "$tmp/repo/packs" | cut -f1)
    if ! die_at "$@"; then
        is "not killed: $(cat "$tmp/killed.log")" "" "$name"
        return
    fi
    stored=$(($(du -sb "$tmp/repo/packs" | cut -f1) - before))
    after_kill "$n"
    is "$?${why:+ $why}" 0 "$name: all is well"
    # Whole packs that were stored are used, not stored again.
    stored=$((stored + $(field new_bytes)))
    [ "$stored" -lt 3500000 ] || is "$stored bytes were stored in all" "" "$name"
}

killed_at "before the snapshot" CRASH_ON="ioctl snapshot"
killed_at "after the snapshot" CRASH_ON="ioctl snapshot" CRASH_AFTER=1
killed_at "before the first pack" CRASH_ON="linkat packs/"
killed_at "after the first pack" CRASH_ON="linkat packs/" CRASH_AFTER=1
killed_at "before the index" CRASH_ON="linkat index/"
killed_at "after the index" CRASH_ON="linkat index/" CRASH_AFTER=1
killed_at "before the map" CRASH_ON="linkat maps/"
killed_at "after the map" CRASH_ON="linkat maps/" CRASH_AFTER=1
killed_at "the block map half prepared" CRASH_ON="renameat objects.new" CRASH_AFTER=1
killed_at "the block map prepared" CRASH_ON="renameat redo.new" CRASH_AFTER=1
killed_at "before the record" CRASH_ON="linkat backups/"
killed_at "after the record" CRASH_ON="linkat backups/" CRASH_AFTER=1
killed_at "the block map's commit begun" CRASH_ON="renameat redo
" CRASH_AFTER=1
killed_at "a page of the block map torn" CRASH_ON="pwrite "
killed_at "the block map's pages written" CRASH_ON="fdatasync "
killed_at "the block map's table about to be put" CRASH_ON="renameat objects
"
killed_at "before the old snapshot goes" CRASH_ON="ioctl remove"
killed_at "after the old snapshot went" CRASH_ON="ioctl remove" CRASH_AFTER=1

# And at any of them: CRASH_CALLS=all tries every one (minutes).
change 0
rm -f "$tmp/calls"
crashing CRASH_LOG="$tmp/calls" "$NEAP" -q -c "$tmp/neap.yaml" backup docs >/dev/null
calls=$(wc -l <"$tmp/calls")
diag "$calls calls in a backup: $(cut -d' ' -f1 "$tmp/calls" | sort | uniq -c | tr -s ' \n' ' ')"
if [ "${CRASH_CALLS:-}" = all ]; then
    list=$(seq "$calls")
else
    list=$(for ((i = 0; i < ${CRASH_CALLS:-8}; i++)); do pick "$calls" && echo $((picked + 1)); done)
fi
for k in $list; do
    killed_at "at call $k ($(sed -n "${k}p" "$tmp/calls" | sed "s|$tmp/||"))" CRASH_AT="$k"
done
done_testing
