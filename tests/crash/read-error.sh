#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The database's own disk cannot be read: a block of a file, or of the tree that
# says where files are, is overwritten below btrfs, which finds the sum wrong
# and answers EIO, as of a disk that rots. The backup fails and says which job,
# file and offset; none is listed, its snapshot is released, the older ones
# extract; once the file is written anew the next backup is right.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/lib-crash.sh"
own_mounts "$@"
need_cmd filefrag btrfs-map-logical
crash_job 600M
keep_manifests
dev=$(findmnt -no SOURCE "$tmp/fs" | sed 's/\[.*//')
fill_data 8 300
for i in {1..400}; do echo "$i" >"$data/small$i"; done # a tree of many leaves

# Where FILE's block at OFFSET lies, by btrfs's own addresses.
address() { # FILE OFFSET
    sync -f "$1"
    filefrag -b4096 -v "$1" | awk -v at=$(($2 / 4096)) '
        $1 ~ /^[0-9]+:$/ { gsub(/[.:]/, " "); if (at >= $2 && at <= $3) print ($4 + at - $2) * 4096 }'
}
# The same of a leaf of the subvolume's tree: a middle one.
leaf() {
    btrfs inspect-internal dump-tree -t "$(btrfs inspect-internal rootid "$data")" "$dev" |
        awk '/^leaf/ { l[n++] = $2 } END { if (n > 2) print l[int(n / 2)] }'
}
mirrors() { btrfs-map-logical -l "$1" "$dev" | sed -n 's/.*physical \([0-9]*\) device.*/\1/p'; }

# Nothing of it stays in memory, and all copies go bad, or as they were.
rotten() { # ADDRESS
    local p
    p=$(mirrors "$1")
    umount "$top" && umount "$tmp/fs" || exit 1
    places=$p
    for p in $places; do
        dd if="$dev" of="$tmp/was.$p" bs=4096 count=1 skip=$((p / 4096)) status=none
        head -c 4096 /dev/zero | tr '\0' R | dd of="$dev" bs=4096 seek=$((p / 4096)) conv=fsync status=none
    done
    on_again
}
mended() {
    local p
    umount "$top" && umount "$tmp/fs" || exit 1
    for p in $places; do
        dd if="$tmp/was.$p" of="$dev" bs=4096 seek=$((p / 4096)) conv=fsync status=none
    done
    on_again
}
on_again() {
    blockdev --flushbufs "$dev"
    mount "$dev" "$tmp/fs" && mount -o subvolid=5 "$dev" "$top" || exit 1
    remember
}

fails() { # NAME WHAT-IT-SAYS [OPTION…]
    local name=$1 says=$2 n
    shift 2
    n=$(count)
    what="$name: the backup fails" status 1 neap -q backup docs "$@"
    like "$err" "$says" "$name: it says what"
    is "$(count)" "$n" "$name: no backup is listed for it"
    is "$(held)" "neap-$(last_backup | tr / -)" "$name: its snapshot is released, the last backup's held"
    all_right
    is "$?${why:+ $why}" 0 "$name: the older backups are right ($checked)"
    clean
    is "$why" "" "$name: nothing is left behind"
    what="$name: the state of the job is not green" status 1 neap status --check
}
works() { # NAME
    sleep 1 # its name
    what="$1: the next backup works" status 0 neap --json backup docs
    same_as_snapshot
    is "$?${why:+ $why}" 0 "$1: and is right"
}

works "before"

# ---- a block that changed ----
f=$data/d0/f0
head -c 100000 /dev/urandom | dd of="$f" bs=4096 seek=20 conv=notrunc status=none
rotten "$(address "$f" $((33 * 4096)))"
what="it cannot be read" status 1 dd if="$f" of=/dev/null bs=4096 skip=33 count=1
fails "a changed block" "*docs*d0/f0*offset $((33 * 4096))*Input/output error*"
fails "a changed block, again" "*docs*d0/f0*offset $((33 * 4096))*Input/output error*"
head -c 300000 /dev/urandom >"$f.new" && mv "$f.new" "$f"
works "the file written anew"
is "$(field everything_why)" None "and from what the last backup left"

# ---- one that did not change ----
f=$data/d1/f1
rotten "$(address "$f" $((7 * 4096)))"
fails "an unchanged block, in a full scan" "*docs*d1/f1*offset $((7 * 4096))*Input/output error*" --full-scan
head -c 4096 /dev/urandom | dd of="$f" bs=4096 seek=7 conv=notrunc,fsync status=none
works "the block written anew"

# ---- the first backup of all ----
rm -rf "$tmp/state.was" && mv "$tmp/state" "$tmp/state.was"
f=$data/d2/f2
rotten "$(address "$f" 0)"
what="nothing known: the backup fails" status 1 neap -q backup docs
like "$err" "*docs*d2/f2*offset 0*Input/output error*" "nothing known: it says what"
mended
works "the disk mended"

# ---- a tree block ----
at=$(leaf)
if [ -z "$at" ]; then
    what="a block of the tree" skip "the tree has too few leaves"
else
    rotten "$at"
    fails "a block of the tree" "*docs*Input/output error*" --full-scan
    mended
    works "the tree mended"
fi
all_right
is "$?${why:+ $why}" 0 "all are right ($checked)"
done_testing
