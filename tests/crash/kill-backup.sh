#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# `kill -9` of a backup, CRASH_ROUNDS times at random moments of its whole run
# (make soak: 100), under a writer; then at each kind of step, and with the
# content held still. After each: what is listed is whole, the next backup works,
# is right, and uses what was stored, and nothing is left behind. In the end every
# one that is listed is compared with what its snapshot was.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/lib-crash.sh"
own_mounts "$@"
crash_job
rounds=${CRASH_ROUNDS:-10}
diag "CRASH_SEED=$seed"

keep_manifests
fill_data 20 150
start_writer
# The first one reads everything; the next tell how long one takes.
for i in 1 2 3; do
    t=$(now_ms)
    neap -q backup docs >/dev/null || exit 1
    run_ms=$(($(now_ms) - t))
    same_as_snapshot || is "$why" "" "backup $i"
done
diag "a backup takes $run_ms ms"

kill_after() { # MILLISECONDS
    "$NEAP" -q -c "$tmp/neap.yaml" backup docs >/dev/null 2>&1 &
    local pid=$!
    sleep "$(($1 / 1000)).$(printf %03d $(($1 % 1000)))"
    kill -9 "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
}

committed=0
for ((i = 1; i <= rounds; i++)); do
    n=$(count_files)
    pick $((run_ms + run_ms / 10 + 1))
    kill_after "$picked"
    now=$(count_files)
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
neap -q backup docs >/dev/null && same_as_snapshot || exit 1 # what the writer left is not part of what is counted
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

killed_at_calls 6
all_right
is "$?${why:+ $why}" 0 "each backup that is listed is right ($checked)"
done_testing
