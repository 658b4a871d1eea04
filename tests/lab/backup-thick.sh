#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A live PostgreSQL under pgbench on ext4 on a thick volume: by scan, with nothing
# kept, and by what a kept snapshot had to copy out. The check of each boots the
# engine.
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
make_thick thick 160M
put_fs ext4 thick "$tmp/thick"
{
    echo "state_dir: $tmp/state"
    echo "repository: {url: $tmp/repo, encryption: none}"
    echo "jobs:"
    job scanned "$tmp/thick"
    job thick "$tmp/thick" "tracker: lvm-exceptions" "sample: 1"
} >"$tmp/neap.yaml"
status 0 neap init

cluster "$tmp/thick"
load
# By scan each is as the first: two, of all three where all are to be proved.
for n in $([ "${LAB_CHECKS:-}" = all ] && echo 1 2 3 || echo 1 2); do
    sleep 1
    backup scanned
    is "$tracker" scan "scanned: by scan"
    is "$(snapshots | grep -o neap-scanned)" "" "scanned: no snapshot is kept"
    prove scanned $n 2
done
n=1
backup thick
n=2
sleep 1
backup thick
tracked thick lvm-exceptions
same_as_device thick
what="thick: its check boots it" status 0 restore check thick/latest
kill $load
is "$(snapshots | wc -w)" 1 "of all, one snapshot is held, the last of the job that asked for it"
done_testing
