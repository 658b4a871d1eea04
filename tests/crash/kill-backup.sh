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
count() { neap --json list docs | python3 -c 'import json, sys; print(len(json.load(sys.stdin)))'; }

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

# ---- content that stands still: what a killed run stored is used ----
more() { head -c 4000000 /dev/urandom >"$data/more$1"; }
# Kill as soon as there is one more file of this kind than before.
kill_when() { # KIND; 1: the backup was quicker
    python3 - "$1" "$tmp" "$NEAP" <<'PY'
import os, signal, subprocess, sys
kind, tmp, neap = sys.argv[1:]
def count(dirs): # of plain folders; one that is not there yet has nothing
    n = 0
    for d in dirs:
        try: n += len(os.listdir(d))
        except FileNotFoundError: pass
    return n
folders = {"pack": [f"{tmp}/repo/packs/{i:02x}" for i in range(256)],
           "index": [f"{tmp}/repo/index"], "map": [f"{tmp}/repo/maps"],
           "record": [f"{tmp}/repo/backups/docs"],
           "snapshot": [d.path for d in os.scandir(f"{tmp}/top/neap-snapshots")],
           "run": [f"{tmp}/state/jobs/docs"], "prepared": [f"{tmp}/state/jobs/docs/blockmap"]}[kind]
n = count(folders)
p = subprocess.Popen([neap, "-q", "-c", f"{tmp}/neap.yaml", "backup", "docs"],
                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
while count(folders) <= n and p.poll() is None: pass
p.kill()
sys.exit(p.wait() != -signal.SIGKILL)
PY
}
for stage in run snapshot pack index map prepared record; do
    for try in 1 2 3 ""; do
        [ -n "$try" ] || break
        more "$stage$try"
        n=$(count)
        before=$(du -sb "$tmp/repo/packs" | cut -f1)
        kill_when "$stage" || continue
        stored=$(($(du -sb "$tmp/repo/packs" | cut -f1) - before))
        after_kill "$n"
        is "$?${why:+ $why}" 0 "killed after its first $stage: all is well"
        new=$(field new_bytes)
        case $stage in
        run | snapshot) ;;
        *) what="and of $stored bytes stored, the next run has only $new new" \
            ok [ $((stored + new)) -lt 4200000 ] ;;
        esac
        break
    done
    [ -n "$try" ] || diag "too quick to be caught at its first $stage"
done
done_testing
