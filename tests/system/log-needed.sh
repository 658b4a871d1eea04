#!/bin/bash
# Of a PostgreSQL's log only what recovery needs is backed up: not the segments
# before its start, not those renamed in advance; but all that a slot holds
# back, that is not archived, or that a backup label may ask for. Each backup
# boots, and all else in it equals the snapshot. On a primary, a standby, with
# each wal_level.
. "$(dirname "$0")/../lib.sh"
need_root
need_cmd mkfs.btrfs rsync
need_built neap
need_built neap-restore
pg_bin=$(pg_bin) || skip_all "no PostgreSQL server here"
neap_tmp
neap() { "$NEAP_BUILD/neap" -c "$tmp/neap.yaml" "$@"; }
restore() { "$NEAP_BUILD/neap-restore" -c "$tmp/neap.yaml" "$@"; }
member() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1" <<<"$out"; }

make_btrfs "$tmp/fs" 3G
btrfs subvolume create "$tmp/fs/db" >/dev/null
# Segments of 1 MiB, and positions beyond 4 GiB, shortly before the names carry.
initdb=--wal-segsize=1 start_pg "$tmp/fs/db/pg" "min_wal_size = 20MB" \
    "max_replication_slots = 4" || skip_all "PostgreSQL does not start"
stop_pg
as_pg "$pg_bin/pg_resetwal" -l 000000010000000700000FFB "$pg_dir/data" >/dev/null
start_pg "$tmp/fs/db/pg"
data=$(realpath "$pg_dir/data")
job() {
    cat <<YAML
  $1:
    engine: postgresql
    connection: {socket: $2, port: $3, user: postgres}
    run_as: postgres
YAML
}
{
    echo "state_dir: $tmp/state"
    echo "repository: {url: $tmp/repo, encryption: none}"
    echo "jobs:"
    job bank "$pg_dir" 5432
    job standby "$tmp/run2" 5433
} >"$tmp/neap.yaml"
status 0 neap init
top=$tmp/top
mkdir "$top"
mount -o subvolid=5,ro "$(findmnt -no SOURCE "$tmp/fs" | sed 's/\[.*//')" "$top"
on_exit umount "$top"

pg 'create table t(x int)'
# COUNT segments, each ended early.
segments() {
    for _ in $(seq "$1"); do
        pg 'insert into t select generate_series(1, 100)' \
            'select pg_switch_wal()' >/dev/null
    done
}
segment_files() { (cd "$1/pg_wal" && printf '%s\n' *) | grep -xE '[0-9A-F]{24}'; }
# What the archiver has not had yet.
waiting() { (cd "$1/pg_wal/archive_status" && ls | sed -n 's/\.ready$//p'); }
redo_segment() {
    pg 'select pg_walfile_name(redo_lsn) from pg_control_checkpoint()'
}

# Back up, restore, and compare with the held snapshot: what it lacks are
# segments, as many as it says.
compare() { # WHAT
    local held differ
    status 0 neap --json backup bank
    left_out=$(member left_out_files)
    rm -rf "$tmp/out"
    held=$(echo "$top"/neap-snapshots/*/neap-bank-*)
    is "$(wc -w <<<"$held")" 1 "$1: one snapshot is held"
    status 0 restore extract bank/latest "$tmp/out"
    differ=$(rsync -aHAXSn --checksum --delete --itemize-changes \
        "$held/pg/data/" "$tmp/out$data/" 2>&1)
    is "$(grep -cE '^>f\+{9} pg_wal/[0-9A-F]{24}$' <<<"$differ")" "$left_out" \
        "$1: as many segments are missing as it says"
    is "$(grep -vE '^>f\+{9} pg_wal/[0-9A-F]{24}$' <<<"$differ")" "" \
        "$1: all else equals the snapshot"
    status 0 restore check bank/latest
    like "$out" "*passed*" "$1: it boots"
}

segments 6
pg checkpoint
segments 3
compare "nothing holds it back"
what="segments were left out" ok [ "$left_out" -gt 0 ]
is "$(segment_files "$tmp/out$data" | wc -l)" 1 \
    "nothing holds it back: the one segment since the checkpoint is there"
is "$(segment_files "$tmp/out$data")" "$(redo_segment)" \
    "and it is the one where recovery starts"
like "$(redo_segment)" 0000000100000008* "past the carry of the names"
status 0 neap backup bank
like "$out" "*left out*recovery does not need*" "it is said"
status 0 neap show bank/latest
like "$out" "*left out*recovery does not need*" "and shown"

# A slot that nobody reads.
pg "select pg_create_physical_replication_slot('away', true)" >/dev/null
slot=$(pg "select pg_walfile_name(restart_lsn) from pg_replication_slots")
segments 4
compare "a slot"
is "$(segment_files "$tmp/out$data" | head -1)" "$slot" \
    "a slot: all since its position is there"
what="a slot: five of them" ok [ "$(segment_files "$tmp/out$data" | wc -l)" -ge 5 ]
pg "select pg_drop_replication_slot('away')" >/dev/null

# The label of a base backup.
touch "$data/backup_label"
status 0 neap --json backup bank
is "$(member left_out_files)" 0 "a backup label: nothing is left out"
rm "$data/backup_label"

# An archive that does not take them.
pg 'alter system set archive_mode = on' "alter system set archive_command = 'false'" \
    'alter system set wal_level = logical' >/dev/null
stop_pg
start_pg "$tmp/fs/db/pg"
segments 3
pg checkpoint
segments 1
waits=$(waiting "$data")
compare "not archived"
is "$(grep -cxF "$waits" <(segment_files "$tmp/out$data"))" "$(wc -l <<<"$waits")" \
    "not archived: all that waits is there"
pg "alter system set archive_command = 'true'" 'select pg_reload_conf()' >/dev/null
for _ in $(seq 100); do
    pg 'select pg_switch_wal()' >/dev/null
    [ -n "$(waiting "$data")" ] || break
    sleep 0.3
done
compare "archived"
is "$(grep -cxF "$waits" <(segment_files "$tmp/out$data"))" 0 \
    "archived: none of them is"

# A slot of logical decoding. Of what is restored it gives what it would have given.
pg "select pg_create_logical_replication_slot('decoded', 'test_decoding')" >/dev/null
slot=$(pg "select pg_walfile_name(restart_lsn) from pg_replication_slots")
segments 4
pg checkpoint
segments 1
decoded() {
    pg "select md5(string_agg(data, '.')), count(*) from pg_logical_slot_peek_changes('decoded', null, null)
        where data like 'table%'"
}
want=$(decoded)
compare "a logical slot"
is "$(segment_files "$tmp/out$data" | head -1)" "$slot" "a logical slot: all since its position is there"
away=$tmp/away
pg_home=$pg_dir
stop_pg
mv "$tmp/out$pg_dir" "$away"
rm "$away/data/postmaster.pid"
chmod 711 "$tmp"
sed -i "s|$pg_dir|$away|" "$away/data/postgresql.conf"
start_pg "$away"
is "$(decoded)" "$want" "a logical slot: the restored one gives the same changes (${want#*|})"
stop_pg
start_pg "$pg_home"
pg "select pg_drop_replication_slot('decoded')" >/dev/null

# A standby: what is newer stays, whatever it is. Its data directory is given by
# a link.
btrfs subvolume create "$tmp/fs/db2" >/dev/null
install -d -o postgres -g postgres -m 700 "$tmp/fs/db2/data"
install -d -o postgres -g postgres "$tmp/run2"
ln -s "$tmp/fs/db2/data" "$tmp/data2"
as_pg "$pg_bin/pg_basebackup" -h "$pg_dir" -U postgres -D "$tmp/data2" -R -X stream -c fast >/dev/null 2>&1
echo "archive_command = 'false'" >>"$tmp/data2/postgresql.auto.conf"
ctl2() { as_pg "$pg_bin/pg_ctl" -D "$tmp/data2" -w -s "$@" >/dev/null 2>&1; }
stop2() { [ ! -e "$tmp/data2/postmaster.pid" ] || ctl2 -m fast stop; }
ctl2 -l "$tmp/data2/log2" start -o "-c port=5433 -c unix_socket_directories=$tmp/run2 -c wal_keep_size=20MB -c archive_mode=always"
on_exit stop2
pg2() { as_pg "$pg_bin/psql" -XAtqh "$tmp/run2" -p 5433 -U postgres -c "$1" postgres; }
real2=$(realpath "$tmp/data2")
caught_up() {
    local last
    last=$(pg 'select pg_current_wal_lsn()')
    for _ in $(seq 100); do
        [ "$(pg2 "select pg_last_wal_replay_lsn() >= '$last'")" = t ] && return
        sleep 0.2
    done
}
segments 4
pg checkpoint
segments 2
caught_up
pg2 checkpoint
waits=$(waiting "$real2")
what="standby: it archives by itself, and is behind" ok [ "$(wc -w <<<"$waits")" -ge 4 ]
status 0 neap --json backup standby
status 0 restore extract standby/latest "$tmp/out2"
is "$(grep -cxF "$waits" <(segment_files "$tmp/out2$real2"))" "$(wc -l <<<"$waits")" \
    "standby: all that waits to be archived there is there"
rm -r "$tmp/out2"
pg2 "alter system set archive_command = 'true'"
ctl2 reload
for _ in $(seq 100); do
    [ -n "$(waiting "$real2")" ] || break
    sleep 0.3
done
pg2 checkpoint
status 0 neap --json backup standby
what="standby: older ones are left out" ok [ "$(member left_out_files)" -gt 0 ]
status 0 restore extract standby/latest "$tmp/out2"
is "$(segment_files "$tmp/out2$real2" | tail -1)" "$(segment_files "$real2" | tail -1)" \
    "standby: the newest file is there"
status 0 restore check standby/latest
like "$out" "*passed*" "standby: it boots"

# Promoted: the log goes on under a new timeline. As a role that may not make a
# checkpoint, so that recovery may have to start under the old one.
pg 'create role backup login' 'grant pg_monitor to backup' >/dev/null
caught_up
sed -i "s|socket: $tmp/run2, port: 5433, user: postgres|socket: $tmp/run2, port: 5433, user: backup|" "$tmp/neap.yaml"
echo 'local all all trust' | as_pg tee "$real2/pg_hba.conf" >/dev/null
ctl2 reload
ctl2 promote
pg2 'insert into t values (-7)'
status 0 neap --json backup standby
rm -rf "$tmp/out2"
status 0 restore extract standby/latest "$tmp/out2"
redo=$("$pg_bin/pg_controldata" "$tmp/out2$real2" | sed -n "s/^Latest checkpoint's REDO WAL file: *//p")
what="promoted: the segment where recovery starts is there" ok [ -e "$tmp/out2$real2/pg_wal/$redo" ]
what="promoted: and one of the new timeline" ok compgen -G "$tmp/out2$real2/pg_wal/00000002*"
status 0 restore check standby/latest
like "$out" "*passed*" "promoted: it boots"
status 0 restore dump standby/latest --output "$tmp/dump.sql"
what="promoted: with what was written last" ok grep -qx -- -7 "$tmp/dump.sql"
stop2

# The least of logs.
pg 'alter system reset archive_mode' 'alter system set wal_level = minimal' \
    'alter system set max_wal_senders = 0' >/dev/null
stop_pg
start_pg "$tmp/fs/db/pg"
segments 4
pg checkpoint
segments 2
pg 'create table bulk as select generate_series(1, 20000) y' >/dev/null
compare "wal_level minimal"
what="wal_level minimal: segments were left out" ok [ "$left_out" -gt 0 ]
done_testing
