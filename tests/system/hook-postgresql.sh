#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The PostgreSQL hook against a real cluster: what it finds, what it holds,
# and that a broken copy does not pass.
# tmp, out and err come from the library.
# shellcheck disable=SC2154
. "$(dirname "$0")/../lib.sh"
need_cmd jq setpriv
pg_bin=$(pg_bin) || skip_all "needs PostgreSQL 13 to 17"
[ "$(id -u)" != 0 ] || id postgres >/dev/null 2>&1 ||
    skip_all "needs the user postgres"
need_built hooks/postgresql
neap_tmp

ts=$tmp/elsewhere/ts
mkdir -p "$tmp/elsewhere"
install -d -m 700 "$ts"
[ "$(id -u)" != 0 ] || chown postgres: "$ts"
start_pg "$tmp/pg" "max_connections = 37" || {
    diag "$(tail -5 "$tmp/pg.initdb.log" "$tmp/pg/server.log")"
    exit 1
}
pg "CREATE TABLESPACE side LOCATION '$ts'" \
    "CREATE TABLE t (id int PRIMARY KEY, pad text)" \
    "INSERT INTO t SELECT i, repeat(i::text, 20) FROM generate_series(1, 20000) i" \
    "CREATE TABLE s (x int) TABLESPACE side" "INSERT INTO s VALUES (42)" \
    "CREATE UNLOGGED TABLE u (x int)"
config=$(jq -nc --arg d "$tmp/pg" \
    '{job: "t", engine: "postgresql", connection: {socket: $d, port: 5432, user: "postgres"}}')

pghook() {
    as_pg env NEAP_HOOK_CONFIG="$config" "$NEAP_BUILD/hooks/postgresql" "$@"
}
field() { jq -r "$1" <<<"$out"; }

# ---- probe ----
what="probe answers" status 0 pghook probe
probe=$out
data=$(realpath "$tmp/pg/data")
is "$(field '.paths[] | select(.role == "data") .path')" "$data" \
    "probe: the data directory"
is "$(field '.paths[] | select(.role == "wal") .path')" "$data/pg_wal" \
    "probe: the log"
is "$(field '.paths[] | select(.role == "tablespace") .path')" \
    "$(realpath "$ts")" "probe: the tablespace"
is "$(field .page_size)" 8192 "probe: page size"
is "$(field .instance)" "$(pg 'SELECT system_identifier FROM pg_control_system()')" \
    "probe: system identifier"
is "$(field '.refuse | length')" 0 "probe: nothing to refuse"
like "$(field '.notes | join(" ")')" "*1 unlogged tables*" \
    "probe: unlogged tables are noted"
is "$(field .owner.name)" "$(stat -c %U "$data")" "probe: the owner"

pg "ALTER SYSTEM SET full_page_writes = off" "SELECT pg_reload_conf()" >/dev/null
sleep 0.3
what="probe without full_page_writes answers" status 0 pghook probe
like "$(field '.refuse | join(" ")')" "*full_page_writes*" \
    "probe: full_page_writes = off is refused"
pg "ALTER SYSTEM RESET full_page_writes" "SELECT pg_reload_conf()" >/dev/null

# ---- quiesce ----
coproc Q { pghook quiesce --id t-1 --deadline-ms 20000; }
q_pid=$Q_PID
read -r -t 30 line <&"${Q[0]}"
out=$line
is "$(field '"\(.state) \(.level)"')" "quiesced atomic" "quiesce: quiesced"
position=$(jq -c .position <<<"$line")
is "$(field '.position.system_identifier')" "$(jq -r .instance <<<"$probe")" \
    "quiesce: the same system"
like "$(field '.position.durable_lsn')" "*/*" "quiesce: a durable position"
what="quiesce: writers go on meanwhile" ok pg "INSERT INTO s VALUES (43)"
echo RELEASE >&"${Q[1]}"
read -r -t 30 line <&"${Q[0]}"
out=$line
is "$(field '"\(.state) \(.still_held)"')" "released true" "quiesce: released"
wait "$q_pid"
is "$?" 0 "quiesce: ends with 0"

# End of file is the agent's death: the session must go, too.
coproc Q { pghook quiesce --id t-2 --deadline-ms 600000; }
q_pid=$Q_PID
read -r -t 30 line <&"${Q[0]}"
sessions="SELECT count(*) FROM pg_stat_activity WHERE application_name = 'neap'"
is "$(pg "$sessions")" 1 "quiesce: one session while it holds"
eval "exec ${Q[1]}>&-"
wait "$q_pid"
for _ in $(seq 50); do
    n=$(pg "$sessions")
    [ "$n" = 0 ] && break
    sleep 0.1
done
is "$n" 0 "agent gone: no session stays"

what="the deadline ends a hold" status 0 pghook quiesce --id t-3 \
    --deadline-ms 200 < <(sleep 5)
is "$(tail -1 <<<"$out" | jq -r .still_held)" false \
    "past its deadline a hold is said to be lost"
what="thaw has nothing to do" status 0 pghook thaw --id t-3

# A server that went away under the hold must not be called held.
coproc Q { pghook quiesce --id t-4 --deadline-ms 60000; }
q_pid=$Q_PID
read -r -t 30 line <&"${Q[0]}"
pg "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'neap'" >/dev/null
echo RELEASE >&"${Q[1]}"
read -r -t 30 line <&"${Q[0]}"
out=$line
is "$(field .still_held)" false "a killed session is not held"
wait "$q_pid"

# ---- stay ----
# The probe's session goes on; one that the server ended meanwhile is opened anew.
the_session="SELECT coalesce(max(pid), 0) FROM pg_stat_activity WHERE application_name = 'neap'"
for fate in kept ended; do
    coproc Q { pghook stay --id t-5 --deadline-ms 60000; }
    q_pid=$Q_PID
    read -r -t 30 line <&"${Q[0]}"
    out=$line
    is "$(field .engine)" postgresql "stay, the session $fate: it describes"
    session=$(pg "$the_session")
    [ "$fate" = kept ] || pg "SELECT pg_terminate_backend($session)" >/dev/null
    echo QUIESCE >&"${Q[1]}"
    read -r -t 30 line <&"${Q[0]}"
    out=$line
    is "$(field '"\(.state) \(.level)"')" "quiesced atomic" "stay, the session $fate: quiesced"
    same_session=ended
    [ "$(pg "$the_session")" != "$session" ] || same_session=kept
    is "$same_session" "$fate" "stay, the session $fate: it is"
    echo RELEASE >&"${Q[1]}"
    read -r -t 30 line <&"${Q[0]}"
    out=$line
    is "$(field '"\(.state) \(.still_held)"')" "released true" "stay, the session $fate: released"
    wait "$q_pid"
    is "$?" 0 "stay, the session $fate: ends with 0"
done

# ---- copies: of a crash, and of the running tablespace beside it ----
# With log to replay that takes longer than to find a process of the server.
pg "CHECKPOINT" "UPDATE t SET pad = 'new' WHERE id % 7 = 0" "INSERT INTO s VALUES (44)" \
    "CREATE TABLE log AS SELECT generate_series(1, 500000) x"
kill_pg
take_copy() { # NAME: data and tablespace below $tmp/NAME as below "/"
    mkdir -p "$tmp/$1$(dirname "$data")" "$tmp/$1$(dirname "$ts")"
    cp -a "$data" "$tmp/$1$data"
    cp -a "$ts" "$tmp/$1$ts"
    mkdir -p "$tmp/run" && chmod 755 "$tmp/run"
    [ "$(id -u)" != 0 ] || chown postgres: "$tmp/run"
}
take_copy good
take_copy late
start_pg "$tmp/pg"
live_before=$(pg "SELECT count(*), sum(x) FROM s")

config=$(jq -c --argjson p "$probe" --argjson pos "$position" \
    '. + {probe: $p, position: $pos, queries: ["select count(*) = 20000 from t", "select sum(x) = 129 from s"]}' \
    <<<"$config")
what="validate: a crash copy passes" \
    status 0 hook postgresql validate --clone "$tmp/good" --run "$tmp/run"
is "$(field .state)" passed "validate: says so"
diag "$(field '"boot \(.boot_ms) ms, recovery \(.recovery_ms) ms"')"
for step in control boot position amcheck stop "server log" checksums; do
    is "$(field ".steps[] | select(.name == \"$step\") .result")" passed \
        "validate: $step passed"
done
is "$(field '[.steps[] | select(.name | startswith("query")) .result] | join(" ")')" \
    "passed passed" "validate: both queries passed"
is "$(readlink "$tmp/good$data"/pg_tblspc/*)" "$tmp/good$(realpath "$ts")" \
    "validate: the tablespace link leads into the copy"
is "$(pg "SELECT count(*), sum(x) FROM s")" "$live_before" \
    "validate: the live tablespace is as it was"
is "$(pgrep -f "postgres -D $tmp/good" | wc -l)" 0 \
    "validate: no server is left"

# The server's log is written by a process of its own: one that is late is waited
# for, and makes no failure of a good copy.
mkdir "$tmp/late-bin" && ln -s "$pg_bin"/* "$tmp/late-bin/" && rm "$tmp/late-bin/postgres"
cc -D_GNU_SOURCE -shared -fPIC -O1 -o "$tmp/late_log.so" "$NEAP_TOP/tests/system/late_log.c" -ldl || exit 1
cat >"$tmp/late-bin/postgres" <<X
#!/bin/sh
LD_PRELOAD=$tmp/late_log.so exec $pg_bin/postgres "\$@"
X
chmod +x "$tmp/late-bin/postgres"
good=$config
config=$(jq -c --arg b "$tmp/late-bin" '.connection.bindir = $b' <<<"$good")
what="validate: a log that is written late" \
    status 0 hook postgresql validate --clone "$tmp/late" --run "$tmp/run"
config=$good
like "$(cat "$tmp/late$data/late")" "ready*" "validate: it was late: the server was ready before its log said so"
is "$(field '.steps[] | select(.name == "boot") .result')" passed \
    "validate: it was waited for"

# The same copy again, in order this time: nothing to recover.
what="validate: a stopped copy passes" \
    status 0 hook postgresql validate --clone "$tmp/good" --run "$tmp/run"
is "$(field .recovery_ms)" 0 "validate: no recovery was due"

config=$(jq -c '.queries = ["select false"]' <<<"$good")
what="validate: a false query fails" \
    status 4 hook postgresql validate --clone "$tmp/good" --run "$tmp/run"
config=$(jq -c '.queries = ["select count(*) from no_such_table"]' <<<"$good")
what="validate: a query that errors fails" \
    status 4 hook postgresql validate --clone "$tmp/good" --run "$tmp/run"
config=$(jq -c '.position.durable_lsn = "FF/0"' <<<"$good")
what="validate: a log that ends too early fails" \
    status 4 hook postgresql validate --clone "$tmp/good" --run "$tmp/run"
like "$err" "*log is missing*" "validate: and says so"
config=$(jq -c '.probe.instance = "1"' <<<"$good")
what="validate: another system's copy fails" \
    status 4 hook postgresql validate --clone "$tmp/good" --run "$tmp/run"
config=$good
what="validate: no copy at all could not be checked" \
    status 5 hook postgresql validate --clone "$tmp/nowhere" --run "$tmp/run"

# ---- without pg_amcheck, by the extension's functions ----
mkdir "$tmp/bin" && ln -s "$pg_bin"/* "$tmp/bin/" && rm "$tmp/bin/pg_amcheck"
config=$(jq -c --arg b "$tmp/bin" '.connection.bindir = $b' <<<"$good")
what="validate: passes without pg_amcheck" \
    status 0 hook postgresql validate --clone "$tmp/good" --run "$tmp/run"
like "$(field '.steps[] | select(.name == "amcheck") .detail')" \
    "bt_index_parent_check*" "validate: the indexes were checked all the same"
config=$good

# ---- dump, and back in ----
pg "CREATE DATABASE again"
what="dump one database" status 0 hook postgresql dump --clone "$tmp/good" \
    --run "$tmp/run" --output "$tmp/one.dump" --database postgres
chmod 644 "$tmp/one.dump"
what="the dump restores" ok as_pg "$pg_bin/pg_restore" -h "$tmp/pg" \
    -U postgres -d again --no-owner "$tmp/one.dump"
is "$(as_pg "$pg_bin/psql" -XAtq -h "$tmp/pg" -U postgres -c 'SELECT count(*) FROM t' again)" \
    20000 "the restored table is whole"
what="dump the cluster" status 0 hook postgresql dump --clone "$tmp/good" \
    --run "$tmp/run" --output "$tmp/all.sql"
like "$(tail -3 "$tmp/all.sql")" "*database cluster dump complete*" \
    "the cluster's dump is whole"
is "$(pgrep -f "postgres -D $tmp/good" | wc -l)" 0 "dump: no server is left"

# ---- damage ----
table=$(pg "SELECT pg_relation_filepath('t')")
cp -a "$tmp/good" "$tmp/bad"
dd if=/dev/urandom of="$tmp/bad$data/$table" bs=8192 seek=3 count=1 \
    conv=notrunc status=none
what="validate: a page of garbage is damage" \
    status 4 hook postgresql validate --clone "$tmp/bad" --run "$tmp/run"
is "$(field .state)" failed "validate: the report says failed"
is "$(field '.steps[] | select(.name == "checksums") .result')" failed \
    "validate: the checksums see it"
is "$(field '.steps[] | select(.name == "amcheck") .result')" failed \
    "validate: amcheck sees it"

cp -a "$tmp/good" "$tmp/ctl"
printf '\377' | dd of="$tmp/ctl$data/global/pg_control" bs=1 seek=60 \
    conv=notrunc status=none
what="validate: a broken control file is damage" \
    status 4 hook postgresql validate --clone "$tmp/ctl" --run "$tmp/run"

kill_pg
take_copy nowal
rm -f "$tmp/nowal$data"/pg_wal/0*
what="validate: a copy without its log is damage" \
    status 4 hook postgresql validate --clone "$tmp/nowal" --run "$tmp/run"
start_pg "$tmp/pg"

# ---- a copy that would reach the live tablespace ----
pg "CHECKPOINT"
install -d -m 700 "$ts-2"
[ "$(id -u)" != 0 ] || chown postgres: "$ts-2"
pg "CREATE TABLESPACE later LOCATION '$ts-2'"
kill_pg
take_copy armed
cp -a "$ts-2" "$tmp/armed$ts-2"
start_pg "$tmp/pg"
what="validate: a log that makes a tablespace is not replayed outside the sandbox" \
    status 5 hook postgresql validate --clone "$tmp/armed" --run "$tmp/run"
like "$err" "*live path*" "validate: and says why"

# ---- ended in the middle ----
end_by() { # SIGNAL: then count the servers that are left
    local v
    NEAP_HOOK_CONFIG=$(jq -c '.queries = ["select pg_sleep(60) is not null"]' <<<"$good") \
        "$NEAP_BUILD/hooks/postgresql" validate --clone "$tmp/good" \
        --run "$tmp/run" >/dev/null 2>&1 &
    v=$!
    for _ in $(seq 200); do
        grep -qs ready "$tmp/good$data/postmaster.pid" && break
        sleep 0.1
    done
    shm=$(sed -n 7p "$tmp/good$data/postmaster.pid")
    kill "-$1" "$v"
    wait "$v" 2>/dev/null
    for _ in $(seq 100); do
        pgrep -f "postgres -D $tmp/good" >/dev/null || break
        sleep 0.1
    done
    n=$(pgrep -f "postgres -D $tmp/good" | wc -l)
}
end_by TERM
is "$n" 0 "SIGTERM to the hook ends its server"
is "$(ipcs -m | awk -v id="${shm##* }" '$2 == id' | wc -l)" 0 \
    "in order: no shared memory is left"
end_by KILL
is "$n" 0 "kill -9 of the hook takes its server along"
# What the sandbox's IPC namespace would have taken along, too.
ipcrm -m "${shm##* }" 2>/dev/null

stop_pg
config=$(jq -c 'del(.probe)' <<<"$good")
what="probe: no server is an error" status 1 pghook probe
like "$err" "*connect to PostgreSQL*" "probe: which names the socket"
done_testing
