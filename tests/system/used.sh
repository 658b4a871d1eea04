#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What a file system says that it uses, against e2fsprogs and xfsprogs: of
# devices that were copied while they were frozen, as a snapshot is, after many
# files have come and gone; and of those that must not be believed.
# shellcheck disable=SC2154
. "$(dirname "$0")/../lib.sh"
need_root
need_cmd losetup mkfs.btrfs mkfs.xfs mkfs.ext4 dumpe2fs xfs_db fsfreeze python3
need_built used-of
neap_tmp
size=400M
mkdir "$tmp/mnt"
# However this ends, nothing stays frozen.
on_exit sh -c "! mountpoint -q $tmp/mnt || { fsfreeze -u $tmp/mnt; umount $tmp/mnt; }"

# OpenSSL's is three times as fast as that of coreutils.
digest() { python3 -c 'import hashlib, sys; print(hashlib.file_digest(open(sys.argv[1], "rb"), "sha256").hexdigest())' "$1"; }
attach() { # FILE
    dev=$(losetup --find --show "$1") || return 1
    on_exit sh -c "losetup -d $dev 2>/dev/null || :"
}
# Files of all sizes, half of them removed; some that were never written.
churn() { # DIR
    python3 - "$1" <<'PY'
import os, random, sys
random.seed(4)
os.chdir(sys.argv[1])
data = os.urandom(200000)
for i in range(3000):
    with open(f"f{i}", "wb") as f:
        f.write(data[:random.choice([100, 5000, 30000, 200000])])
    if i % 50 == 0:
        os.sync()
for i in random.sample(range(3000), 1700):
    os.remove(f"f{i}")
for i in range(20):
    with open(f"p{i}", "wb") as f:
        os.posix_fallocate(f.fileno(), 0, 1000000)
os.sync()
PY
}
# Sets $dev, a device as the file system was when it was frozen.
frozen_copy() { # NAME MKFS…
    local name=$1
    shift
    head -c "$size" /dev/urandom >"$tmp/$name"
    "$@" "$tmp/$name" >/dev/null 2>&1 || return 1
    mount -o loop "$tmp/$name" "$tmp/mnt" || return 1
    churn "$tmp/mnt"
    fsfreeze -f "$tmp/mnt"
    cp "$tmp/$name" "$tmp/$name.copy"
    fsfreeze -u "$tmp/mnt"
    umount "$tmp/mnt"
    rm "$tmp/$name"
    attach "$tmp/$name.copy"
}
good() { # NAME MKFS…
    local name=$1
    shift
    frozen_copy "$name" "$@" || { result 1 "$name: could not be made" && return; }
    before=$(digest "$dev")
    what="$name: it can be asked" status 0 "$NEAP_BUILD/used-of" "$dev"
    echo "$out" >"$tmp/ranges"
    what="$name: all that is used is named, and little else" \
        status 0 "$NEAP_TOP/tests/reader/free_blocks.py" "$dev" --used "$tmp/ranges"
    diag "$name, $(wc -l <"$tmp/ranges") ranges: $out"
    is "$(digest "$dev")" "$before" "$name: nothing was written to it"
    losetup -d "$dev"
    rm "$tmp/$name.copy"
}
good ext4 mkfs.ext4 -qF -b 4096
good ext4-1k mkfs.ext4 -qF -b 1024
good ext4-small-groups mkfs.ext4 -qF -g 1024
good ext4-no-journal mkfs.ext4 -qF -O '^has_journal'
good ext4-plain-groups mkfs.ext4 -qF -O '^flex_bg,^uninit_bg,^metadata_csum'
good xfs mkfs.xfs -qf
good xfs-1k mkfs.xfs -qf -b size=1024
good xfs-rmapbt mkfs.xfs -qf -m rmapbt=1,reflink=1

refused() { # NAME WHY
    what="$1: refused" status 1 "$NEAP_BUILD/used-of" "$dev"
    like "$err" "$2" "$1: and why"
}
frozen_copy bigalloc mkfs.ext4 -qF -O bigalloc
refused "ext4 with bigalloc" "*bigalloc*"
# As it is on the disk while it is mounted: the journal holds what counts.
truncate -s 100M "$tmp/live"
mkfs.ext4 -qF "$tmp/live"
mount -o loop "$tmp/live" "$tmp/mnt"
touch "$tmp/mnt/some"
sync -f "$tmp/mnt"
cp "$tmp/live" "$tmp/live.copy"
umount "$tmp/mnt"
attach "$tmp/live.copy"
refused "ext4 that was not frozen" "*journal*"
truncate -s 400M "$tmp/none"
attach "$tmp/none"
refused "no file system" "*cannot tell*"
mkfs.btrfs -q "$dev"
refused "another file system" "*btrfs*cannot tell*"
is "$(grep -c "$tmp" /proc/self/mounts)" 0 "nothing is mounted any more"
done_testing
