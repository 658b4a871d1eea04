#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# `kill -9` of the agent, and of the hook, while a database is held: it takes
# writes again at once, the next backup works and no snapshot stays.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/lib-crash.sh"
need_cmd sqlite3
crash_job 2G
interpose
mkdir "$data/app"
db=$data/app/app.db
sqlite3 "$db" 'pragma journal_mode = wal; create table t(x); insert into t values (1);' >/dev/null
jobs="  lite: {engine: sqlite, path: $db, hold: true}"
pg_bin=$(pg_bin)
if [ -n "$pg_bin" ] && start_pg "$data/pg"; then
    pg 'create table t(x int)'
    jobs+="
  pg: {engine: postgresql, connection: {socket: $pg_dir, user: postgres}, run_as: postgres}"
else
    pg_bin=
fi
write_conf "$jobs"
remember

writes_sqlite() { sqlite3 -cmd '.timeout 2000' "$db" 'insert into t values (2)'; }
is_held_sqlite() { ! sqlite3 -cmd '.timeout 50' "$db" 'begin immediate; rollback' 2>/dev/null; }
writes_pg() { pg "set lock_timeout = '2s'" 'insert into t values (2)' 'checkpoint'; }
# It locks nothing; that it is held is that the hook's session is there.
is_held_pg() { [ "$(pg "select count(*) from pg_stat_activity where datname is not null and pid <> pg_backend_pid()")" -gt 0 ]; }

# The agent waits before the snapshot, with the database held.
hold() { # JOB
    rm -f "$tmp/reached"
    env LD_PRELOAD="$crash_so" CRASH_PROGRAM=neap CRASH_WAIT="ioctl snapshot" CRASH_REACHED="$tmp/reached" \
        "$NEAP" -q -c "$tmp/neap.yaml" backup "$1" >"$tmp/held.out" 2>"$tmp/held.err" &
    agent=$!
    for ((i = 0; i < 200; i++)); do
        [ ! -e "$tmp/reached" ] || break
        sleep 0.05
    done
    hook_pid=$(pgrep -P "$agent" -f "hooks/.* stay")
}

each() { # JOB PATH: for one engine
    local job=$1 path=$2 w=writes_$3 h=is_held_$3
    hold "$job"
    what="$job: it is held" ok "$h"
    kill -9 "$agent"
    wait "$agent" 2>/dev/null
    what="$job, the agent killed: writes at once" ok "$w"
    clean
    is "$why" "" "$job, the agent killed: the hook is gone too"

    hold "$job"
    kill -9 "$hook_pid"
    what="$job, the hook killed: writes at once" ok "$w"
    rm "$tmp/reached"
    wait "$agent"
    is "$?" 3 "$job, the hook killed: what was snapshot meanwhile is refused"
    like "$(cat "$tmp/held.err")" "*hold was lost*" "$job, the hook killed: it says so"
    clean
    is "$why" "" "$job, the hook killed: nothing is left"

    # Hung, not dead: the hook lets go by itself, and the agent finds out.
    sed -i "s|\(  $job: {engine: [a-z]*\), |\1, hold_limit: 1s, |" "$tmp/neap.yaml"
    hold "$job"
    kill -STOP "$agent"
    sleep 1.5
    what="$job, the agent hangs: writes after hold_ms" ok "$w"
    rm "$tmp/reached"
    kill -CONT "$agent"
    wait "$agent"
    is "$?" 3 "$job, the agent hangs: what was snapshot too late is refused"
    like "$(cat "$tmp/held.err")" "*hold*" "$job, the agent hangs: it says so"

    is "$(held)" "" "$job: at most the killed run's snapshot was left, and it is gone"
    status 0 neap --json backup "$job"
    is "$(held)" "neap-$(last_backup | tr / -)" "$job: the next backup holds one snapshot"
    same "$(last_backup)" "$path" "$(snapshot_of "$(last_backup)")${path#"$data"}"
    # (What SQLite makes anew, the -shm, is not backed up.)
    is "$(grep -v 'app.db-shm$' <<<"${why##*: }")" "" "$job: and is right"
    rm -f "$tmp/repo/backups/$job"/*
    btrfs subvolume delete "$top"/neap-snapshots/*/* >/dev/null
}
each lite "$data/app" sqlite
[ -z "$pg_bin" ] || each pg "$pg_dir/data" pg
[ -n "$pg_bin" ] || skip "no PostgreSQL server here"
done_testing
