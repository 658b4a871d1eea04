#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A live PostgreSQL under pgbench on XFS on a thin volume. Each backup is byte for
# byte the snapshot that it was made of, read by what the pool's metadata names;
# its check boots the engine.
# tmp and the like come from the libraries.
# shellcheck disable=SC2154,SC2034
. "$(dirname "$0")/lib-backup.sh"
after() {
    backups thin 3
    for b in $backups; do
        same_as_device "$b"
        boots "$b"
    done
    like "$(restore list thin)" "*passed*passed*passed*" "thin: list has the proofs"
}
lab 2G
neap_tmp
make_vg
make_thin thin 320M --size 640M # XFS takes 300 MiB at least
put_fs xfs thin "$tmp/thin"
configure < <(job thin "$tmp/thin" "sample: 1")
stale "$tmp/thin"
cluster "$tmp/thin"
load
for n in 1 2 3; do
    sleep 2
    promise "$tmp/thin"
    backup thin
    [ $n = 1 ] || tracked thin lvm-thin
    is "$(snapshots | wc -w)" 1 "thin: one snapshot is held"
    is "$(held_metadata)" - "thin: the pool's metadata is not"
    keep_device thin
done
kill $load
keep_repo
lab_done
