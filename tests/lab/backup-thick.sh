#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A live PostgreSQL under pgbench on ext4 on a thick volume: by scan, with nothing
# kept, and by what a kept snapshot had to copy out. The check of each boots the
# engine.
# tmp and the like come from the libraries.
# shellcheck disable=SC2154,SC2034
. "$(dirname "$0")/lib-backup.sh"
after() {
    backups scanned 2
    for b in $backups; do boots "$b"; done
    backups thick 2
    for b in $backups; do
        boots "$b"
        same_as_device "$b"
    done
}
lab 1G
neap_tmp
make_vg
make_thick thick 160M
put_fs ext4 thick "$tmp/thick"
configure < <(
    job scanned "$tmp/thick"
    job thick "$tmp/thick" "tracker: lvm-exceptions" "sample: 1"
)
stale "$tmp/thick"
cluster "$tmp/thick"
load
for n in 1 2; do
    sleep 1
    backup scanned
    is "$tracker" scan "scanned: by scan"
    is "$(snapshots | grep -o neap-scanned)" "" "scanned: no snapshot is kept"
done
n=1
backup thick
keep_device thick
n=2
sleep 1
promise "$tmp/thick"
backup thick
tracked thick lvm-exceptions
keep_device thick
kill $load
is "$(snapshots | wc -w)" 1 "of all, one snapshot is held, the last of the job that asked for it"
keep_repo
lab_done
