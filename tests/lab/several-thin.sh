#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A live PostgreSQL whose data and WAL lie on two thin volumes, a tablespace on a
# thick one: frozen together, each backup is of one instant. The thin ones'
# snapshots are made before, and anew in the freeze, past lvm: which lvm must not
# mind, whatever becomes of them in between.
# tmp and the like come from the libraries.
# shellcheck disable=SC2154,SC2034
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/lib-lab.sh"
lab 1G
need_cmd python3
need_built neap
need_built neap-restore
pg_bin=$(pg_bin) || skip_all "no PostgreSQL server here"
neap_tmp
. "$(dirname "$0")/lib-backup.sh"
make_vg
make_thin data 80M --size 300M 2>/dev/null
make_thin wal 40M
make_thick space 30M
put_fs ext4 data "$tmp/data"
put_fs ext4 wal "$tmp/wal"
put_fs ext4 space "$tmp/space"
mkdir "$tmp/space/far"
chown postgres: "$tmp/wal" "$tmp/space/far"
{
    echo "state_dir: $tmp/state"
    echo "repository: {url: $tmp/repo, encryption: none}"
    echo "jobs:"
    job db "$tmp/data" "sample: 1"
} >"$tmp/neap.yaml"
status 0 neap init
initdb=--wal-segsize=1 cluster "$tmp/data" 8MB
stop_pg "$tmp/data/pg"
as_pg cp -a "$tmp/data/pg/data/pg_wal" "$tmp/wal/pg_wal"
rm -r "$tmp/data/pg/data/pg_wal"
as_pg ln -s "$tmp/wal/pg_wal" "$tmp/data/pg/data/pg_wal"
start_pg "$tmp/data/pg"
pg "create tablespace far location '$tmp/space/far'" \
    "create table far (x int) tablespace far" \
    "insert into far select generate_series(1, 10000)"
load 10
volumes_before=$(volumes)

# ---- one instant ----
# Somebody counts on all, one after the other: at each instant each is as far as
# the one after it, or one ahead.
all="$tmp/data $tmp/wal $tmp/space"
for v in $all; do touch "$v/count"; done
python3 -c '
import os, sys, time
files = [os.open(f + "/count", os.O_RDWR) for f in sys.argv[1:]]
n = 0
while True:
    n += 1
    for f in files:
        os.pwrite(f, b"%020d" % n, 0)
        os.fsync(f)
    time.sleep(0.05)' $all &
counter=$!
for n in 1 2 3; do
    backup db
    like "$(neap show db/latest)" '*frozen for*(3 volumes)*' "backup $n: three volumes are frozen together"
    is "$(snapshots | wc -w)" 2 "backup $n: both thin ones' snapshots are held, and no other"
    [ $n = 1 ] || is "$wrong" 0 "backup $n: by what the pool names, nothing was missed"
done
kill $counter $load
bad="" torn="" counts=""
mkdir "$tmp/mnt"
for t in $(neap --json list db | python3 -c 'import json, sys
for b in json.load(sys.stdin): print(b["time"])'); do
    restore mount "db/$t" "$tmp/mnt" >"$tmp/log" 2>&1 || bad+="$t: $(tail -3 "$tmp/log"); "
    last=
    for v in $all; do
        count=$(<"$tmp/mnt$v/count")
        count=$((10#$count))
        [ -z "$last" ] || [ "$last" = $count ] || [ "$last" = $((count + 1)) ] || torn+="$t: $v $last, $count; "
        last=$count
    done
    counts+="$last "
    restore unmount "$tmp/mnt" >"$tmp/log" 2>&1 || bad+="$t: $(tail -3 "$tmp/log"); "
done
diag "counted: $counts"
is "$bad" "" "each backup can be mounted"
is "$torn" "" "in each of them the volumes are of one instant"
what="the last boots" status 0 restore check db/latest

# ---- a snapshot that the pool has lost ----
# As where a run ends between taking away what was made early and making it anew.
lost=$(snapshots | tr ' ' '\n' | head -1)
id=$(lvs --noheadings -o thin_id "lab/$lost" | tr -d ' ')
lvchange -q -an "lab/$lost"
ok dmsetup message lab-pool-tpool 0 "delete $id"
n=4
backup db
like "$why" "*thin pool has no device $id*" "lost: everything is read, and it is said why"
is "$(snapshots | wc -w)" 2 "lost: lvm has removed what was left of it"
ok lvs lab
what="lost: the pool is as it should be" status 0 lvcreate -q -y --type thin --thinpool pool --virtualsize 8M -n other lab
lvremove -q -f -y lab/other >/dev/null

# ---- killed in the freeze ----
"$NEAP_BUILD/neap" -q -c "$tmp/neap.yaml" backup db >"$tmp/log" 2>&1 &
agent=$!
for ((i = 0; i < 3000; i++)); do
    [ "$(dmsetup info -c --noheadings -o suspended lab-data 2>/dev/null)" != Suspended ] || break
done
kill -9 $agent
wait $agent 2>/dev/null
what="killed in the freeze: its writers go on" ok timeout 20 dd if=/dev/zero of="$tmp/data/probe" bs=4096 count=1 conv=fsync
n=5
backup db
is "$(snapshots | wc -w)" 2 "killed: the next backup has removed what it left"
is "$wrong" 0 "killed: and missed nothing"

# ---- what the system needs ----
cp -r /etc/lvm "$tmp/data/lvm"
mkdir "$tmp/wal/lock"
mount --bind "$tmp/data/lvm" /etc/lvm
what="one that holds what is needed meanwhile is not frozen" status 0 neap probe db
mount --bind "$tmp/wal/lock" /run/lock
what="two of them are refused" status 3 neap probe db
like "$out$err" "*lab/data) holds /etc/lvm*lab/wal) holds /run/lock*" "by name"
umount /etc/lvm /run/lock
rm -r "$tmp/data/lvm"

for s in $(snapshots); do lvremove -q -f -y "lab/$s" >/dev/null; done
is "$(volumes)" "$volumes_before" "lvs shows what it showed before"
done_testing
