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

fill_data
start_writer
run_ms=0
for ((i = 0; i < 3; i++)); do
    t=$(now_ms)
    neap -q backup docs >/dev/null || exit 1
    t=$(($(now_ms) - t))
    [ "$t" -le "$run_ms" ] || run_ms=$t
done
diag "a backup takes up to $run_ms ms"

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
    same_as_snapshot || return 1
    [ "$(held | wc -l)" -le 2 ] || {
        why="snapshots after the kill: $(held)"
        return 1
    }
    out=$(neap --json backup docs 2>"$tmp/err") || {
        why="the next backup: $(cat "$tmp/err")"
        return 1
    }
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
count() { neap --json list docs | python3 -c 'import json, sys; print(len(json.load(sys.stdin)))'; }

committed=0
for ((i = 1; i <= rounds; i++)); do
    n=$(count)
    pick $((run_ms + run_ms / 10 + 1))
    kill_after "$picked"
    now=$(count)
    [ "$now" = "$n" ] || committed=$((committed + 1))
    if ! after_kill "$n"; then
        is "$why" "" "round $i, killed after $picked ms (seed $seed)"
        break
    fi
done
what="$rounds kills within $run_ms ms, $committed of them after the record" ok [ $((i - 1)) = "$rounds" ]
stop_writer

# ---- content that stands still: what a killed run stored is used ----
more() { head -c 8000000 /dev/urandom >"$data/more$1"; }
# Kill as soon as repository or state show EXPRESSION (of bash) to be true.
kill_when() {
    "$NEAP" -q -c "$tmp/neap.yaml" backup docs >/dev/null 2>&1 &
    local pid=$!
    python3 - "$pid" "$1" "$tmp" <<'PY'
import glob, os, signal, sys
pid, what, tmp = int(sys.argv[1]), sys.argv[2], sys.argv[3]
names = {"pack": "/repo/packs/*/*", "index": "/repo/index/*", "map": "/repo/maps/*",
         "record": "/repo/backups/docs/*", "snapshot": "/top/neap-snapshots/*/*",
         "prepared": "/state/jobs/docs/blockmap/redo.new"}
see = lambda: len(glob.glob(tmp + names[what]))
n = see()
while see() == n:
    try:
        if os.waitpid(-1, os.WNOHANG)[0]: break
    except ChildProcessError: pass
    if not os.path.exists(f"/proc/{pid}/fd"): break
    if open(f"/proc/{pid}/stat").read().split(")")[1].split()[0] == "Z": break
os.kill(pid, signal.SIGKILL)
PY
    wait "$pid" 2>/dev/null
    [ $? = 137 ]
}
for stage in snapshot pack index map prepared record; do
    for try in 1 2 3; do
        more "$stage$try"
        n=$(count)
        before=$(du -sb "$tmp/repo/packs" | cut -f1)
        kill_when "$stage" || continue
        stored=$(($(du -sb "$tmp/repo/packs" | cut -f1) - before))
        what="killed at once after its first $stage: all is well" ok after_kill "$n" || true
        [ -z "$why" ] || diag "$why"
        new=$(field new_bytes)
        case $stage in
        snapshot) ;;
        *) what="and of $stored bytes stored, the next run has only $new new" \
            ok [ $((stored + new)) -lt 10000000 ] ;;
        esac
        break
    done
    [ "$try" -le 3 ] || skip "too quick to be caught at $stage"
done
done_testing
