#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A live PostgreSQL whose data and WAL lie on two thin volumes, a tablespace on a
# thick one: frozen together, each backup is of one instant. The thin ones'
# snapshots are made before, and anew in the freeze, past lvm: which lvm must not
# mind, whatever becomes of them in between.
# tmp and the like come from the libraries.
# shellcheck disable=SC2154,SC2034
. "$(dirname "$0")/lib-backup.sh"
after() {
    backups db 4
    for b in $backups; do
        boots "$b"
        of_one_instant "$b" "$keep/data" "$keep/wal" "$keep/space"
    done
}
lab 1G
neap_tmp
make_vg
make_thin data 80M --size 300M
make_thin wal 40M
make_thick space 30M
put_fs ext4 data "$keep/data"
put_fs ext4 wal "$keep/wal"
put_fs ext4 space "$keep/space"
mkdir "$keep/space/far"
chown postgres: "$keep/wal" "$keep/space/far"
configure < <(job db "$keep/data" "sample: 1")
cluster "$keep/data"
wal_to "$keep/wal"
pg "create tablespace far location '$keep/space/far'" \
    "create table far (x int) tablespace far" \
    "insert into far select generate_series(1, 10000)"
load
volumes_before=$(volumes)

# ---- one instant ----
count_on "$keep/data" "$keep/wal" "$keep/space"
for n in 1 2; do
    backup db
    like "$(neap show db/latest)" '*frozen for*(3 volumes)*' "backup $n: three volumes are frozen together"
    is "$(snapshots | wc -w)" 2 "backup $n: both thin ones' snapshots are held, and no other"
    [ $n = 1 ] || is "$tracker $why $wrong" "lvm-thin None 0" "backup $n: by what the pool names, nothing was missed"
done

# ---- a snapshot that the pool has lost ----
# As where a run ends between taking away what was made early and making it anew.
lost=$(snapshots | tr ' ' '\n' | head -1)
id=$(lvs --noheadings -o thin_id "lab/$lost" | tr -d ' ')
lvchange -q -an "lab/$lost"
ok dmsetup message lab-pool-tpool 0 "delete $id"
n=3
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
    state=$(dmsetup info -c --noheadings -o suspended lab-data)
    [ "$state" != Suspended ] || break
done
is "$state" Suspended "killed in the freeze"
kill -9 $agent
wait $agent 2>/dev/null
what="killed in the freeze: its writers go on" ok timeout 20 dd if=/dev/zero of="$keep/data/probe" bs=4096 count=1 conv=fsync
n=4
backup db
is "$(snapshots | wc -w)" 2 "killed: the next backup has removed what it left"
is "$wrong" 0 "killed: and missed nothing"

# ---- what the system needs ----
cp -r /etc/lvm "$keep/data/lvm"
mkdir "$keep/wal/lock"
mount --bind "$keep/data/lvm" /etc/lvm
what="one that holds what is needed meanwhile is not frozen" status 0 neap probe db
mount --bind "$keep/wal/lock" /run/lock
what="two of them are refused" status 3 neap probe db
like "$out$err" "*lab/data) holds /etc/lvm*lab/wal) holds /run/lock*" "by name"
umount /etc/lvm /run/lock
rm -r "$keep/data/lvm"

kill $counter $load
keep_repo
for s in $(snapshots); do lvremove -q -f -y "lab/$s" >/dev/null; done
is "$(volumes)" "$volumes_before" "lvs shows what it showed before"
lab_done
