#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A live PostgreSQL under pgbench on XFS on a thin volume. Each backup is byte for
# byte the snapshot that it was made of, read by what the pool's metadata names;
# its check boots the engine. And a file system that does not say what it uses,
# ext4 with bigalloc: of that, what the pool does not map is left out.
# tmp and the like come from the libraries.
# shellcheck disable=SC2154,SC2034
. "$(dirname "$0")/lib-backup.sh"
after() {
    backups thin 3
    for b in $backups; do
        same_as_device "$b"
        boots "$b"
    done
    backups other 2
    for b in $backups; do
        status 0 restore extract "$b" "$keep/out" --path /neap-images
        what="$b is its snapshot, byte for byte" ok cmp "$keep/${b//\//,}.img" "$keep/out/neap-images/"*.img
        rm -r "$keep/out"
    done
    mkdir "$keep/mnt"
    what="$b: it is mounted" status 0 restore mount "$b" "$keep/mnt"
    what="$b: its files are what they were" ok sh -c "cd $keep/mnt$keep/other && sha256sum --quiet -c $keep/sums"
    what="$b: it is unmounted" status 0 restore unmount "$keep/mnt"
    like "$(restore list thin)" "*passed*passed*passed*" "thin: list has the proofs"
}
lab 2G
neap_tmp
make_vg
make_thin thin 320M --size 640M # XFS takes 300 MiB at least
make_thin other 240M
put_fs xfs thin "$tmp/thin"
put_fs ext4 other "$keep/other" -O bigalloc
configure < <(
    job thin "$tmp/thin" "sample: 1"
    echo "  other: {engine: files, path: $keep/other, sample: 1}"
)
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
for n in 1 2; do
    head -c 20000000 /dev/urandom >"$keep/other/a$n"
    head -c 9000000 /dev/urandom >"$keep/other/gone"
    sync -f "$keep/other"
    rm "$keep/other/gone"
    fstrim "$keep/other"
    backup other
    [ $n = 1 ] || tracked other lvm-thin
    fact unused_bytes
    what="other: most of it is not mapped, and left out" ok [ "$fact" -gt 120000000 ]
    what="other: it read no more than the rest" ok [ "$read" -le $((logical - fact)) ]
    is "$(held_metadata)" - "other: the pool's metadata is not held"
    keep_device other
done
(cd "$keep/other" && sha256sum a1 a2) >"$keep/sums"
keep_repo
lab_done
