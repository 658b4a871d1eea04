#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A live PostgreSQL under pgbench on XFS on a thin volume. Each backup is byte for
# byte the snapshot that it was made of, read by what the pool's metadata names;
# its check boots the engine.
# tmp and the like come from the libraries.
# shellcheck disable=SC2154,SC2034
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/lib-lab.sh"
lab 2G
need_cmd python3
need_built neap
need_built neap-restore
pg_bin=$(pg_bin) || skip_all "no PostgreSQL server here"
neap_tmp
. "$(dirname "$0")/lib-backup.sh"
make_vg
make_thin thin 320M --size 640M # XFS takes 300 MiB at least
put_fs xfs thin "$tmp/thin"
{
    echo "state_dir: $tmp/state"
    echo "repository: {url: $tmp/repo, encryption: none}"
    echo "jobs:"
    job thin "$tmp/thin" "sample: 1"
} >"$tmp/neap.yaml"
status 0 neap init

cluster "$tmp/thin"
load
for n in 1 2 3; do
    sleep 2
    backup thin
    [ $n = 1 ] || tracked thin lvm-thin
    is "$(snapshots | wc -w)" 1 "thin: one snapshot is held"
    is "$(held_metadata)" - "thin: the pool's metadata is not"
    same_as_device thin
    prove thin $n 3
done
kill $load
like "$(restore list thin)" "*passed*" "thin: list has the proof"
done_testing
