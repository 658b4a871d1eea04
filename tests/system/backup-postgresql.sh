#!/bin/bash
# A live PostgreSQL under pgbench on btrfs: two backups, both restored, both
# proven. The sums over all pgbench tables agree in each (TPC-B), and what was
# committed before a snapshot is in its backup.
. "$(dirname "$0")/../lib.sh"
need_root
need_cmd mkfs.btrfs rsync
need_built neap
need_built neap-restore
pg_bin=$(pg_bin) || skip_all "no PostgreSQL server here"
neap_tmp
neap() { "$NEAP_BUILD/neap" -c "$tmp/neap.yaml" "$@"; }
restore() { "$NEAP_BUILD/neap-restore" -c "$tmp/neap.yaml" "$@"; }
member() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$@"; }

make_btrfs "$tmp/fs" 3G
btrfs subvolume create "$tmp/fs/db" >/dev/null
start_pg "$tmp/fs/db/pg" "shared_buffers = 128MB" || skip_all "PostgreSQL does not start"
as_pg "$pg_bin/pgbench" -h "$pg_dir" -U postgres -q -i -s 10 postgres >/dev/null 2>&1
pg 'create table note(text text)'

cat >"$tmp/neap.yaml" <<YAML
state_dir: $tmp/state
repository:
  url: $tmp/repo
  host_key: $tmp/host.key
  recovery_key: $tmp/recovery.key
jobs:
  bank:
    engine: postgresql
    connection: {socket: $pg_dir, user: postgres}
    run_as: postgres
    check:
      queries:
        - select (select sum(abalance) from pgbench_accounts) = (select sum(bbalance) from pgbench_branches)
        - select (select sum(tbalance) from pgbench_tellers) = (select sum(delta) from pgbench_history)
        - select (select sum(bbalance) from pgbench_branches) = (select sum(delta) from pgbench_history)
YAML
status 0 neap init
status 0 neap probe bank
like "$out" "*data*$pg_dir/data*" "probe names the data directory"
like "$out" '*"atomic"*' "and the consistency that it would have"

# At a rate: on a fast machine it would else change most of the database.
as_pg "$pg_bin/pgbench" -h "$pg_dir" -U postgres -n -c 4 -j 1 -R 300 -T 3600 postgres >/dev/null 2>&1 &
load=$!
on_exit kill "$load"
sleep 2
pg "insert into note values ('before the first')"
status 0 neap --json backup bank
echo "$out" >"$tmp/first.json"
sleep 4
pg "insert into note values ('before the second')"
status 0 neap --json backup bank
echo "$out" >"$tmp/second.json"
is "$(member "$tmp/second.json" consistency)" atomic "the second is atomic too"
is "$(member "$tmp/second.json" tracker)" btrfs-extents "and was tracked by btrfs-extents"
is "$(member "$tmp/second.json" everything_why)" None "and did not hash everything"
is "$(member "$tmp/second.json" wrong_blocks)" 0 "the cross-check found nothing wrong"
what="the second reads less than a third of the database" \
    ok [ $((3 * $(member "$tmp/second.json" read_bytes))) -lt "$(member "$tmp/second.json" logical_bytes)" ]
first=$(member "$tmp/first.json" backup)
second=$(member "$tmp/second.json" backup)

# An independent comparison with the snapshot that the host still holds.
top=$tmp/top
mkdir "$top"
mount -o subvolid=5,ro "$(findmnt -no SOURCE "$tmp/fs" | sed 's/\[.*//')" "$top"
on_exit umount "$top"
held() { (cd "$top/neap-snapshots" && printf '%s\n' */*); }
is "$(held | sed 's|.*/||')" "neap-bank-${second#bank/}" "one snapshot is held, the last backup's"
status 0 restore extract "$second" "$tmp/out"
differ=$(rsync -aHAXSn --checksum --delete --itemize-changes \
    "$top/neap-snapshots/$(held)/pg/data/" "$tmp/out$pg_dir/data/" 2>&1)
segment='^>f\+{9} pg_wal/[0-9A-F]{24}$' # of the log, not needed: log-needed.sh
is "$(grep -vE "$segment" <<<"$differ")" "" "extract equals the snapshot, byte for byte and attribute for attribute"
is "$(grep -cE "$segment" <<<"$differ")" "$(member "$tmp/second.json" left_out_files)" \
    "but for the segments that it says were left out"
what="some were" ok [ "$(member "$tmp/second.json" left_out_files)" -gt 0 ]

# In place: from the second back to the first.
status 0 restore extract "$first" "$tmp/out" --delta
status 0 restore extract "$first" "$tmp/out1"
# (The folders above the instance are left as they are by an in-place restore.)
differ=$(rsync -aHAXSn --checksum --delete --itemize-changes "$tmp/out1$pg_dir/data/" "$tmp/out$pg_dir/data/" 2>&1)
is "$differ" "" "extract --delta equals a fresh extract"

status 0 restore check "$first" --report "$tmp/report1.json"
diag "$out"
status 0 restore check "$second" --report "$tmp/report2.json"
diag "$out"
is "$(member "$tmp/report2.json" result)" passed "the report says passed"
status 0 restore dump "$second" --output "$tmp/dump.sql"
what="the dump has what was committed before the snapshot" ok grep -q 'before the second' "$tmp/dump.sql"
status 0 restore dump "$first" --output "$tmp/dump1.sql"
what="the first backup has its own note" ok grep -q 'before the first' "$tmp/dump1.sql"
what="and not the later one" ok sh -c "! grep -q 'before the second' '$tmp/dump1.sql'"
status 0 neap status --check
like "$out" "*passed*" "status shows the proven restore"
kill "$load"
wait "$load" 2>/dev/null

# A missed lock, a missing server, a wrong setting: refused, nothing left.
stop_pg
status 1 neap backup bank
like "$err" "*bank*" "the engine down: the job is named"
is "$(held | wc -l)" 1 "no snapshot is left by the failure"
start_pg "$tmp/fs/db/pg"
pg 'alter system set full_page_writes = off' 'select pg_reload_conf()'
sleep 1
status 3 neap backup bank
like "$err" "*full_page_writes*" "full_page_writes off is refused by name"
pg 'alter system reset full_page_writes' 'select pg_reload_conf()'
mkdir "$tmp/fs/ts" && chown postgres: "$tmp/fs/ts"
pg "create tablespace other location '$tmp/fs/ts'"
status 3 neap backup bank
like "$err" "*$tmp/fs/ts*" "a tablespace on another subvolume is refused by name"
pg 'drop tablespace other'
status 0 neap backup bank
done_testing
