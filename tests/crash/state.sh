#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What the host remembers and what the repository holds drift apart: records
# removed, an old copy of the state folder put back, the data rolled back, the
# clock set back, two hosts with one name. The next backup is right each time.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/lib-crash.sh"
own_mounts "$@"
need_cmd mkfs.ext4
crash_job
# The state on a file system of its own, to roll it back as a host's disk is.
make_ext4 "$tmp/var" 64M
mkdir "$tmp/var/state" && ln -s "$tmp/var/state" "$tmp/state"
interpose
diag "CRASH_SEED=$seed"
fill_data 10 100

# A bit of everything, and one block that goes back and forth: a block map of
# another time would take it for unchanged.
flip() { # A|B
    printf '%.0s'"$1" {1..4096} | dd of="$data/flip" bs=4096 seek=3 conv=notrunc status=none
    head -c 20000 /dev/urandom >"$data/new$RANDOM"
    head -c 5000 /dev/urandom | dd of="$data/d0/f0" bs=1 seek=$((RANDOM * 2)) conv=notrunc status=none
}
back() { # NAME OF THE TEST: a backup, and it is right; the document stays in $out
    local rc
    out=$(neap --json backup docs 2>"$tmp/err")
    rc=$?
    err=$(cat "$tmp/err")
    is "$rc" 0 "$1: the next backup works"
    [ "$rc" = 0 ] || diag "$err"
    same_as_snapshot
    is "$?${why:+ $why}" 0 "$1: it is right"
    is "$(held)" "neap-$(last_backup | tr / -)" "$1: one snapshot is held"
}
keep() { rm -rf "${tmp:?}/$1" && cp -a "$tmp/var/state" "$tmp/$1"; }
put_back() { rm -rf "$tmp/var/state" && cp -a "$tmp/$1" "$tmp/var/state"; }
image() { # save|restore NAME: of the whole file system at $tmp/NAME
    local dev live i
    dev=$(losetup -n -O NAME -j "$tmp/$2.img" | tr -d ' ')
    live=/sys/fs/ext4/${dev#/dev/}
    [ "$2" != fs ] || live=/sys/fs/btrfs/$(blkid -s UUID -o value "$dev")
    sync -f "$tmp/$2"
    [ "$2" != fs ] || umount "$top"
    umount "$tmp/$2"
    # Somebody's mount namespace may hold it a little longer.
    for ((i = 0; i < 300; i++)); do
        [ -e "$live" ] || break
        sleep 0.1
    done
    [ ! -e "$live" ] || skip_all "$dev is still in use by another mount namespace"
    case $1 in
    save) cp --sparse=always "$dev" "$tmp/$2.old" ;;
    restore) cat "$tmp/$2.old" >"$dev" ;;
    esac
    mount "$dev" "$tmp/$2"
    [ "$2" != fs ] || mount -o subvolid=5 "$dev" "$top"
}

head -c 40960 /dev/zero | tr '\0' z >"$data/flip"
flip A
back "the first"
keep state1
first=$(last_backup)
flip B
back "tracked"
is "$(field tracker)" btrfs-extents "tracked: it is"

# ---- records ----
rm "$tmp/repo/backups/$(last_backup)"
flip B
back "the newest record removed"
like "$(field everything_why)" "*last backup*" "the newest record removed: it is said"
flip A
back "after that, tracked again"
is "$(field everything_why)" None "after that, tracked again: it is"

# ---- an old copy of the state folder ----
flip A
back "for the old copy"
put_back state1
back "an old copy of the state folder"
like "$(field everything_why)" "*not as state.json beside them has it*" "an old copy of the state folder: it is said"
flip B
back "tracked after that"
is "$(field everything_why)" None "tracked after that: it is"
put_back state1
rm "$tmp/repo/backups/$first"
flip A
back "an old copy, and its backup gone too"

# ---- no state folder ----
flip A
back "for the lost state"
before=$(held)
rm -rf "${tmp:?}/var/state"/*
flip B
crashing CRASH_ON="linkat backups/" "$NEAP" -q -c "$tmp/neap.yaml" backup docs 2>/dev/null
like "$(held | tr '\n' ' ')" "*$before*" \
    "the state folder lost: the last backup's snapshot stays until the next is durable"
back "the state folder lost"

# A mixture of two times, as from a copy made while a backup ran. Each file is
# put over the other, which keeps even the inode.
for file in hashes objects; do
    flip A
    back "for the mixture"
    keep old
    flip B
    back "for the mixture, later"
    cp "$tmp/old/jobs/docs/blockmap/$file" "$tmp/state/jobs/docs/blockmap/$file"
    flip A
    back "old $file among new files"
    like "$(field everything_why)" "*not as state.json beside them has it*" "old $file among new files: it is said"
    flip B
    back "old $file among new files, and then"
done
# The same after a run that was killed, from a copy.
flip A
crashing CRASH_ON="linkat packs/" "$NEAP" -q -c "$tmp/neap.yaml" backup docs 2>/dev/null
cp "$tmp/old/jobs/docs/blockmap/hashes" "$tmp/new-hashes"
mv "$tmp/new-hashes" "$tmp/state/jobs/docs/blockmap/hashes"
flip B
back "other hashes after a kill"

# ---- the host rolled back with its data and its state; the repository is not ----
flip A
back "before the rollback"
stop=$(last_backup)
image save fs
image save var
flip B
back "the later that is undone"
flip B
back "and one more"
image restore fs
image restore var
is "$(held)" "neap-$(echo "$stop" | tr / -)" "the host rolled back: it holds the old snapshot"
head -c 30000 /dev/urandom >"$data/other-history"
back "the host rolled back"
is "$(field everything_why)" None "the host rolled back: tracked from the old snapshot on"
flip A
back "the host rolled back, and on"

# Only the data, and only the state.
image restore fs
flip B
back "only the data rolled back"
like "$(field everything_why)" "*snapshot of the last backup is missing*" "only the data rolled back: it is said"
image restore var
flip A
back "only the state rolled back"
like "$(field everything_why)" "*snapshot of the last backup is missing*" "only the state rolled back: it is said"
status 0 restore -q extract "$stop" "$tmp/out2"

# ---- the repository is an older copy ----
cp -a "$tmp/repo" "$tmp/repo.old"
flip A
back "beyond the old copy"
flip B
back "beyond the old copy, twice"
rm -rf "$tmp/repo" && mv "$tmp/repo.old" "$tmp/repo"
flip A
back "an older repository put back"
like "$(field everything_why)" "*last backup*" "an older repository put back: it is said"

# ---- the clock ----
sleep 1
flip B
out=$(crashing CRASH_CLOCK=-86400 "$NEAP" -c "$tmp/neap.yaml" --json backup docs 2>"$tmp/err")
is "$?" 0 "the clock a day behind: the backup works"
like "$(cat "$tmp/err")" "*clock*behind*" "the clock a day behind: it is said"
same_as_snapshot
is "$?${why:+ $why}" 0 "the clock a day behind: it is right"
flip A
back "the clock is right again"
flip B
out=$(crashing CRASH_CLOCK=31536000 "$NEAP" -c "$tmp/neap.yaml" --json backup docs 2>"$tmp/err")
is "$?" 0 "the clock a year ahead: the backup works"
future=$(last_backup)
flip A
back "after a year ahead"
what="after a year ahead: the next is named later" ok [ "$(last_backup)" \> "$future" ]
flip B
back "after a year ahead, and on"
last_rehash=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["last_rehash_s"])' \
    "$tmp/state/jobs/docs/state.json")
what="the re-hash does not wait until that year is over" ok [ "$last_rehash" -le "$(date +%s)" ]
while [ "$(last_backup)" \> "docs/$(date -u +%Y%m%dT%H%M%SZ)" ]; do rm "$tmp/repo/backups/$(last_backup)"; done
flip A
back "those of next year removed"

# ---- two hosts of one name ----
# A clone committed a backup of the very second for which we were killed with a
# prepared update: its record must not vouch for our hashes.
flip A
crashing CRASH_ON="linkat backups/" "$NEAP" -q -c "$tmp/neap.yaml" backup docs 2>/dev/null
is "$?" 137 "two hosts: ours is killed before its record"
second=$(held | tail -1)
second=${second#neap-docs-}
btrfs subvolume delete "$top"/neap-snapshots/*/"neap-docs-$second" >/dev/null # the clone's disk has no such
sed "s|^state_dir:.*|state_dir: $tmp/var/clone|" "$tmp/neap.yaml" >"$tmp/clone.yaml"
flip B
at=$(date -u -d "$(sed -E 's/(....)(..)(..)T(..)(..)(..)Z/\1-\2-\3 \4:\5:\6/' <<<"$second")" +%s)
crashing CRASH_CLOCK="@$at" "$NEAP" -q -c "$tmp/clone.yaml" backup docs 2>"$tmp/clone.log" >/dev/null
is "$?$(cat "$tmp/clone.log")" 0 "two hosts: the clone makes its own"
is "$(last_backup)" "docs/$second" "two hosts: of the same second"
flip A
back "two hosts"
flip B
back "two hosts, and on"
done_testing
