#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# SIGINT and SIGTERM at each stage of backup, extract and check: it ends soon,
# says why, cleans up, and the next run works. Then two at once.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/lib-crash.sh"
crash_job
fill_data 20 300
interpose
status 0 neap -q backup docs
anchor=$(held)

# CALL is held up by a library (interpose.c) until the signal was sent.
stopped() { # SIGNAL NAME CALL CMD…
    local sig=$1 name=$2 call=$3 pid t i
    shift 3
    rm -f "$tmp/reached"
    env LD_PRELOAD="$crash_so" CRASH_PROGRAM="${1##*/}" CRASH_WAIT="$call" CRASH_REACHED="$tmp/reached" \
        "$@" >"$tmp/stop.out" 2>"$tmp/stop.err" &
    pid=$!
    for ((i = 0; i < 200; i++)); do
        [ ! -e "$tmp/reached" ] || break
        sleep 0.05
    done
    kill "-$sig" "$pid"
    rm -f "$tmp/reached"
    t=$(now_ms)
    wait "$pid"
    rc=$?
    t=$(($(now_ms) - t))
    [ "$i" -lt 200 ] || is "never came there" "" "$name"
    is "$rc" 1 "$name: exit status"
    like "$(cat "$tmp/stop.err")" "*told to stop by a signal*" "$name: it says so"
    [ "$t" -lt 10000 ] || is "$t ms" "" "$name: ends soon"
    clean
    is "$why" "" "$name: nothing is left"
}

more() { head -c 3000000 /dev/urandom >"$data/more"; }
n=$(count)
for sig in INT TERM; do
    more
    stopped $sig "SIG$sig right after the snapshot" "ioctl snapshot" "$NEAP" -c "$tmp/neap.yaml" backup docs
    is "$(held)" "$anchor" "SIG$sig right after the snapshot: it is gone again"
    stopped $sig "SIG$sig while it copies" "linkat packs/" "$NEAP" -c "$tmp/neap.yaml" backup docs
    is "$(held)" "$anchor" "SIG$sig while it copies: the snapshot is gone again"
    stopped $sig "SIG$sig before the record" "renameat redo.new" "$NEAP" -c "$tmp/neap.yaml" backup docs
    is "$(held)" "$anchor" "SIG$sig before the record: the snapshot is gone again"
done
is "$(count)" "$n" "none of them is a backup"
like "$(neap --json status docs)" '*told to stop*' "status says what happened to the last run"
out=$(neap --json backup docs)
is "$(field new_bytes)" 0 "the next run has all of it stored already"
same_as_snapshot
is "$why" "" "and is right"

# ---- while a hook is waited for ----
cat >"$tmp/slow-hook" <<HOOK
#!/bin/bash
# Says nothing for a long time in the verb that \$tmp/slow names.
if [ "\$1" = "\$(cat $tmp/slow)" ]; then
    echo "\$\$" >$tmp/reached
    exec sleep 300
fi
exec $NEAP_BUILD/hooks/files "\$@"
HOOK
chmod 755 "$tmp/slow-hook"
write_conf "  docs: {engine: files, path: $data}
  slow: {engine: script, hook: $tmp/slow-hook, path: $data}"
for verb in probe quiesce; do
    echo "$verb" >"$tmp/slow"
    rm -f "$tmp/reached"
    "$NEAP" -c "$tmp/neap.yaml" backup slow >"$tmp/stop.out" 2>"$tmp/stop.err" &
    pid=$!
    for ((i = 0; i < 100; i++)); do
        [ ! -s "$tmp/reached" ] || break
        sleep 0.05
    done
    kill -TERM "$pid"
    t=$(now_ms)
    wait "$pid"
    is "$?" 1 "a hook that does not answer to $verb: exit status"
    what="and it ended soon" ok [ $(($(now_ms) - t)) -lt 15000 ]
    like "$(cat "$tmp/stop.err")" "*told to stop*" "and says so"
    what="and the hook is gone" ok sh -c "! kill -0 $(cat "$tmp/reached") 2>/dev/null"
done
write_conf
is "$(held)" "neap-$(last_backup | tr / -)" "no snapshot of them is left"

# ---- extract and check ----
for sig in INT TERM; do
    rm -rf "$tmp/out"
    stopped $sig "SIG$sig in an extract" "pwrite out/" "$RESTORE" -c "$tmp/neap.yaml" extract docs/latest "$tmp/out"
    like "$(cat "$tmp/stop.err")" "*incomplete*" "SIG$sig in an extract: what is there is called incomplete"
done
same_as_snapshot
is "$why" "" "a whole extract after that"
mkdir "$tmp/checks"
for sig in INT TERM; do
    "$RESTORE" -c "$tmp/neap.yaml" check docs/latest --scratch "$tmp/checks" >"$tmp/stop.out" 2>"$tmp/stop.err" &
    pid=$!
    for ((i = 0; i < 400; i++)); do
        ! grep -q "$tmp/checks.*fuse.neap" /proc/self/mountinfo || break
        sleep 0.01
    done
    kill -$sig "$pid"
    wait "$pid"
    rc=$?
    case $rc in
    0) diag "the check was quicker than SIG$sig" ;;
    *)
        is "$rc" 1 "SIG$sig in a check: exit status"
        like "$(cat "$tmp/stop.err")" "*told to stop*" "SIG$sig in a check: it says so"
        ;;
    esac
    clean
    # Its own folder, empty, may stay: the next check there removes it.
    is "$why$(find "$tmp/checks" -mindepth 2)" "" "SIG$sig in a check: nothing is left"
done
status 0 restore check docs/latest

# ---- two at once ----
more
"$NEAP" -q -c "$tmp/neap.yaml" backup docs >/dev/null 2>"$tmp/first.err" &
pid=$!
for ((i = 0; i < 200; i++)); do
    [ ! -e "$tmp/state/jobs/docs/running" ] || break
    sleep 0.005
done
kill -STOP "$pid"
status 3 neap backup docs
like "$err" "*another backup of it is running (process $pid)*" "the same job twice: the second is refused by name"
kill -CONT "$pid"
wait "$pid"
is "$?$(cat "$tmp/first.err")" 0 "the first goes on to its end"

# Two hosts: two state folders, two jobs, one repository, again and again.
btrfs subvolume create "$tmp/fs/other" >/dev/null
cp -a "$data/." "$tmp/fs/other"
head -c 3000000 /dev/urandom >"$tmp/fs/other/own"
sed "s|^state_dir:.*|state_dir: $tmp/state2|; s|  docs:.*|  other: {engine: files, path: $tmp/fs/other}|" \
    "$tmp/neap.yaml" >"$tmp/other.yaml"
bad=
for ((i = 0; i < 6; i++)); do
    head -c 1000000 /dev/urandom | tee "$data/both$i" >"$tmp/fs/other/both$i"
    head -c 300000 /dev/urandom >"$data/mine$i"
    head -c 300000 /dev/urandom >"$tmp/fs/other/its$i"
    "$NEAP" -q -c "$tmp/neap.yaml" backup docs >/dev/null 2>"$tmp/a.err" &
    a=$!
    "$NEAP" -q -c "$tmp/other.yaml" backup other >/dev/null 2>"$tmp/b.err" &
    wait $! || bad+="other: $(cat "$tmp/b.err") "
    wait "$a" || bad+="docs: $(cat "$tmp/a.err") "
    [ -z "$bad" ] || break
done
is "$bad" "" "two hosts into one repository, $i times"
same_as_snapshot
is "$why" "" "one of them is right"
same_as_snapshot other "$tmp/fs/other"
is "$why" "" "and so is the other"
for i in 0 3; do
    restore -q extract "docs/$(neap --json list docs | python3 -c 'import json, sys; print(sorted(b["time"] for b in json.load(sys.stdin))[int(sys.argv[1])])' $((i + 2)))" "$tmp/out$i" 2>"$tmp/err"
    is "$?$(cat "$tmp/err")" 0 "an older one of docs extracts"
done
done_testing
