#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The SQLite hook against real databases, WAL mode and a writer included.
# tmp, out and err come from the library.
# shellcheck disable=SC2154
. "$(dirname "$0")/../lib.sh"
need_cmd jq sqlite3 python3
need_built hooks/sqlite
neap_tmp
field() { jq -r "$1" <<<"$out"; }

db=$tmp/live/app.db
mkdir "$tmp/live"
sqlite3 "$db" >/dev/null <<'SQL'
PRAGMA journal_mode = wal;
CREATE TABLE parent (id INTEGER PRIMARY KEY);
CREATE TABLE child (id INTEGER PRIMARY KEY, p REFERENCES parent (id), pad TEXT);
INSERT INTO parent VALUES (1), (2);
CREATE INDEX child_p ON child (p, pad);
SQL

# A writer that stays: its rows are in the -wal, not in the database file.
mkfifo "$tmp/to" "$tmp/from"
python3 -uc '
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("pragma wal_autocheckpoint = 0")
db.execute("insert into child (p, pad) with recursive n(i) as "
    "(values(1) union all select i + 1 from n where i < 5000) "
    "select 1 + i % 2, hex(zeroblob(20)) from n")
print("ready")
for line in sys.stdin:
    try:
        db.execute(line)
        print("done")
    except sqlite3.OperationalError as e:
        print("error:", e)
' "$db" <"$tmp/to" >"$tmp/from" &
w_pid=$!
on_exit kill "$w_pid"
exec {to}>"$tmp/to" {from}<"$tmp/from"
read -r -t 20 line <&"$from"
is "$line" ready "the writer is up"
ask() {
    echo "$1" >&"$to"
    read -r -t 20 line <&"$from"
}

config=$(jq -nc --arg p "$db" '{job: "t", engine: "sqlite", path: $p}')
sums() { (cd "$tmp/live" && sha256sum app.db app.db-wal && ls); }

# ---- probe ----
before=$(sums)
what="probe answers" status 0 hook sqlite probe
probe=$out
is "$(field .settings.journal_mode)" wal "probe: journal mode"
is "$(field .page_size)" 4096 "probe: page size"
is "$(field '[.paths[].path] | join(" ")')" \
    "$db $db-wal $db-journal" "probe: the database and its logs, not the -shm"
is "$(field '.refuse | length')" 0 "probe: nothing to refuse"
is "$(sums)" "$before" "probe: touched nothing"

ln -s "$db" "$tmp/link.db"
config=$(jq -c --arg p "$tmp/link.db" '.path = $p' <<<"$config")
what="probe of a link answers" status 0 hook sqlite probe
is "$(field '.paths[0].path')" "$db" "probe: the real path"

echo "not a database, but long enough to have a header of a hundred bytes; more text follows here until then" \
    >"$tmp/live/text"
config=$(jq -c --arg p "$tmp/live/text" '.path = $p' <<<"$config")
what="probe of a text file answers" status 0 hook sqlite probe
like "$(field '.refuse[0]')" "*not a SQLite database*" "probe: and refuses it"
rm "$tmp/live/text"

cp "$db" "$tmp/side.db"
ln -s "$db-wal" "$tmp/side.db-wal"
config=$(jq -c --arg p "$tmp/side.db" '.path = $p' <<<"$config")
what="probe with a linked -wal answers" status 0 hook sqlite probe
like "$(field '.refuse[0]')" "*-wal is a link*" "probe: and refuses it"
config=$(jq -c --arg p "$tmp/none.db" '.path = $p' <<<"$config")
what="probe of nothing fails" status 1 hook sqlite probe
like "$err" "*none.db*" "probe: and names it"
config=$(jq -c --arg p "$db" '.path = $p' <<<"$config")

# ---- quiesce ----
hold() { # sets line to the answer; the hook goes on as coprocess Q
    coproc Q { NEAP_HOOK_CONFIG=$config exec "$NEAP_BUILD/hooks/sqlite" \
        quiesce --id t-1 --deadline-ms 60000; }
    q_pid=$Q_PID
    read -r -t 20 out <&"${Q[0]}"
}
end_hold() {
    echo RELEASE >&"${Q[1]}"
    read -r -t 20 out <&"${Q[0]}"
    wait "$q_pid"
}
hold
is "$(field .level)" atomic "quiesce: nothing is locked"
ask "insert into child (p) values (1)"
is "$line" "done" "quiesce: the writer goes on"
end_hold
is "$(field .still_held)" true "quiesce: released"

plain=$config
config=$(jq -c '.hold = true' <<<"$config")
hold
is "$(field .level)" locked "hold: locked"
ask "pragma busy_timeout = 100"
ask "insert into child (p) values (1)"
like "$line" "error: database is locked" "hold: no writer in"
ask "select count(*) from child"
is "$line" "done" "hold: readers go on"
wal=$(stat -c %s "$db-wal")
end_hold
is "$(field .still_held)" true "hold: it was still there"
ask "insert into child (p) values (1)"
is "$line" "done" "hold: afterwards writers are in again"
is "$([ "$(stat -c %s "$db-wal")" -ge "$wal" ] && echo yes)" yes \
    "hold: the log was not checkpointed"

hold
eval "exec ${Q[1]}>&-" # the agent dies
wait "$q_pid"
ask "insert into child (p) values (2)"
is "$line" "done" "agent gone: nothing is held"

ask "begin immediate"
what="hold: busy while another writes" status 75 hook sqlite quiesce \
    --id t-2 --deadline-ms 1000 </dev/null
ask "commit"
config=$plain

# ---- a crash copy: database and log, without the -shm ----
take_copy() {
    mkdir -p "$tmp/$1$tmp/live" "$tmp/run"
    cp -a "$db" "$db-wal" "$tmp/$1$tmp/live/"
}
take_copy good
copy=$tmp/good$db
config=$(jq -c --argjson p "$probe" \
    '. + {probe: $p, queries: ["select count(*) > 5000 from child"]}' <<<"$config")
what="validate: a copy with its log passes" \
    status 0 hook sqlite validate --clone "$tmp/good" --run "$tmp/run"
for step in recover integrity_check foreign_key_check; do
    is "$(field ".steps[] | select(.name == \"$step\") .result")" passed \
        "validate: $step passed"
done

mkdir -p "$tmp/nowal$tmp/live"
cp -a "$db" "$tmp/nowal$tmp/live/"
what="validate: without its log the query finds the rows missing" \
    status 4 hook sqlite validate --clone "$tmp/nowal" --run "$tmp/run"

good=$config
config=$(jq -c '.queries = ["select nothing"]' <<<"$good")
what="validate: a query that errors fails" \
    status 4 hook sqlite validate --clone "$tmp/good" --run "$tmp/run"
config=$(jq -c '.queries = ["delete from child"]' <<<"$good")
what="validate: a query that writes fails" \
    status 4 hook sqlite validate --clone "$tmp/good" --run "$tmp/run"
config=$good
what="validate: no copy could not be checked" \
    status 5 hook sqlite validate --clone "$tmp/nowhere" --run "$tmp/run"

# ---- dump, and back in ----
what="dump" status 0 hook sqlite dump --clone "$tmp/good" --run "$tmp/run" \
    --output "$tmp/o ut\"put.sql"
what="the dump restores" ok sh -c 'sqlite3 "$1" <"$2"' - "$tmp/again.db" \
    "$tmp/o ut\"put.sql"
is "$(sqlite3 "$tmp/again.db" 'select count(*) from child')" \
    "$(sqlite3 "$copy" 'select count(*) from child')" \
    "the restored table is whole"
what="dump to where there is no folder fails" status 1 hook sqlite dump \
    --clone "$tmp/good" --run "$tmp/run" --output "$tmp/none/x.sql"

# ---- damage ----
cp -a "$tmp/good" "$tmp/bad"
sqlite3 "$tmp/bad$db" 'pragma wal_checkpoint(truncate)' >/dev/null
pages=$(($(stat -c %s "$tmp/bad$db") / 4096))
dd if=/dev/urandom of="$tmp/bad$db" bs=4096 seek=$((pages / 2)) count=2 \
    conv=notrunc status=none
what="validate: pages of garbage are damage" \
    status 4 hook sqlite validate --clone "$tmp/bad" --run "$tmp/run"
is "$(field .state)" failed "validate: the report says failed"
what="dump of a damaged copy fails" \
    status 4 hook sqlite dump --clone "$tmp/bad" --run "$tmp/run" \
    --output "$tmp/bad.sql"
cp -a "$tmp/good" "$tmp/orphan"
sqlite3 "$tmp/orphan$db" 'insert into child (p) values (99)'
what="validate: a missing parent is damage" \
    status 4 hook sqlite validate --clone "$tmp/orphan" --run "$tmp/run"
mkdir -p "$tmp/odd$tmp/live"
ln -s "$db" "$tmp/odd$db"
before=$(sums)
what="validate: a link in place of the copy is not followed" \
    status 5 hook sqlite validate --clone "$tmp/odd" --run "$tmp/run"
is "$(sums)" "$before" "validate: the live database is as it was"
done_testing
