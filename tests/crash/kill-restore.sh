#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# `kill -9` of neap-restore: an extract, the server of a mount, a check. What
# stays can be removed or gone on from, and nothing stays mounted or running.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/lib-crash.sh"
need_cmd sqlite3 strace
crash_job
diag "CRASH_SEED=$seed"
fill_data 30 400
sqlite3 "$data/app.db" 'create table t(x); insert into t values (1);'
status 0 neap -q backup docs
b=$(last_backup)
s=$(snapshot_of "$b")

# ---- extract ----
t=$(now_ms)
restore -q extract "$b" "$tmp/out"
run_ms=$(($(now_ms) - t))
diag "an extract takes $run_ms ms"
bad=
for ((i = 0; i < ${CRASH_ROUNDS:-8}; i++)); do
    rm -rf "$tmp/out"
    pick $((run_ms + 1))
    "$RESTORE" -q -c "$tmp/neap.yaml" extract "$b" "$tmp/out" 2>/dev/null &
    pid=$!
    sleep "0.$(printf %03d $((picked % 1000)))"
    kill -9 "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
    mkdir -p "$tmp/out"
    # Whatever is there is not taken for a whole one, and can be completed.
    if [ -n "$(ls -A "$tmp/out")" ]; then
        restore -q extract "$b" "$tmp/out" 2>"$tmp/err" && bad+="taken for empty; "
        grep -q "not empty" "$tmp/err" || bad+="$(cat "$tmp/err"); "
    fi
    restore -q extract --delta "$b" "$tmp/out" 2>"$tmp/err" || bad+="--delta: $(cat "$tmp/err"); "
    bad+=$(rsync -aHAXSn --checksum --delete --itemize-changes "$s/" "$tmp/out$data/" 2>&1)
    clean || bad+=$why
    [ -z "$bad" ] || break
done
is "$bad" "" "$i extracts killed: --delta makes each of them whole"

# ---- the server of a mount ----
mkdir "$tmp/mnt"
for how in "" "--writable $tmp/scratch"; do
    # shellcheck disable=SC2086
    status 0 restore -q mount "$b" "$tmp/mnt" $how
    server=$(pgrep -f "^$RESTORE .*mount $b $tmp/mnt")
    exec 8<"$tmp/mnt$data/d0/f0"
    [ -z "$how" ] || head -c 3000000 /dev/urandom >"$tmp/mnt$data/written"
    kill -9 "$server"
    what="its server killed${how:+, writable}: reading fails, it does not hang" ok timeout 10 sh -c "! cat '$tmp/mnt$data/app.db' >/dev/null 2>&1"
    exec 8<&-
    status 0 restore unmount "$tmp/mnt"
    clean
    is "$why" "" "and nothing of it is left"
    [ -z "$how" ] || diag "its scratch: $(ls -A "$tmp/scratch" | head -3 | tr '\n' ' ')"
    rm -rf "$tmp/scratch"
    # shellcheck disable=SC2086
    status 0 restore -q mount "$b" "$tmp/mnt" $how
    d=$(rsync -aHAXSn --checksum --delete --itemize-changes "$s/" "$tmp/mnt$data/" 2>&1)
    is "$d" "" "mounted again${how:+, writable}, it is right"
    status 0 restore unmount "$tmp/mnt"
done
# While it answers: what a dead one never says, nobody waits for, itself least of
# all. Each answer takes 0.3 s here, the first is to the kernel's greeting.
bad=
for after in 0.1 0.45 0.75; do
    strace -D -f -o "$tmp/trace" -e trace=writev -e inject=writev:delay_enter=300000 \
        "$RESTORE" -q -c "$tmp/neap.yaml" mount --foreground "$b" "$tmp/mnt" 2>"$tmp/err" &
    server=$!
    until grep -q " $tmp/mnt fuse.neap " /proc/mounts; do sleep 0.01; done
    sleep "$after"
    kill -9 "$server"
    timeout 10 stat "$tmp/mnt" >"$tmp/err" 2>&1
    [ $? != 124 ] || { bad+="killed after $after s: its mount hangs; " && umount -f -l "$tmp/mnt"; }
    restore -q unmount "$tmp/mnt" 2>"$tmp/err" || bad+="$(cat "$tmp/err"); "
    [ -z "$bad" ] || break
done
is "$bad" "" "servers killed as they answer: their mounts fail, and can be taken away"
# Over a dead one, without an unmount in between.
status 0 restore -q mount "$b" "$tmp/mnt"
kill -9 "$(pgrep -f "^$RESTORE .*mount $b $tmp/mnt")"
status 3 restore -q mount "$b" "$tmp/mnt"
like "$err" "*a backup is mounted on $tmp/mnt already*neap-restore unmount $tmp/mnt*" \
    "a mount over a dead one is refused, with what to do"
status 0 restore -q unmount "$tmp/mnt"
clean
is "$why" "" "and nothing of it is left"

# ---- check ----
sed -i "s|  docs:.*|  docs: {engine: sqlite, path: $data/app.db}|" "$tmp/neap.yaml"
sleep 1
status 0 neap -q backup docs
b=$(last_backup)
mkdir "$tmp/checks"
engines() {
    local p
    for p in $(pgrep -f "hooks/sqlite validate"); do
        tr '\0' '\n' 2>/dev/null <"/proc/$p/environ" | grep -c "NEAP_HOOK_CONFIG.*$tmp"
    done | grep -vc '^0'
}
engines_before=$(engines)
t=$(now_ms)
status 0 restore check "$b" --scratch "$tmp/checks"
run_ms=$(($(now_ms) - t))
diag "a check takes $run_ms ms"
bad=
for ((i = 0; i < ${CRASH_ROUNDS:-8}; i++)); do
    pick $((run_ms + 1))
    "$RESTORE" -q -c "$tmp/neap.yaml" check "$b" --scratch "$tmp/checks" >/dev/null 2>&1 &
    pid=$!
    sleep "$((picked / 1000)).$(printf %03d $((picked % 1000)))"
    kill -9 "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
    clean || bad+="after $picked ms: $why"
    [ "$(engines)" = "$engines_before" ] || bad+="after $picked ms: an engine runs; "
    [ -z "$bad" ] || break
done
is "$bad" "" "$i checks killed: nothing mounted, nothing running"
left=$(du -s "$tmp/checks" | cut -f1)
diag "their folders: $(ls "$tmp/checks" | wc -l), $left KiB"
status 0 restore check "$b" --scratch "$tmp/checks"
is "$(neap --json list docs | grep -c UNREADABLE)" 0 "the repository is as it was"
done_testing
