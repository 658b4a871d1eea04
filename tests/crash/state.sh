#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What the host remembers and what the repository holds drift apart: records
# removed, an old copy of the state folder put back, the data rolled back, the
# clock set back, two hosts with one name. The next backup is right each time.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/lib-crash.sh"
crash_job
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
keep() { rm -rf "$tmp/$1" && cp -a "$tmp/state" "$tmp/$1"; }
put_back() { rm -rf "$tmp/state" && cp -a "$tmp/$1" "$tmp/state"; }

head -c 40960 /dev/zero | tr '\0' z >"$data/flip"
flip A
back "the first"
keep state1
first=$(last_backup)
flip B
back "tracked"
is "$(field tracker)" btrfs-send "tracked: it is"

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
back "an old state folder, its snapshot gone"
like "$(field everything_why)" "*snapshot of the last backup is missing*" \
    "an old state folder, its snapshot gone: it is said"
flip B
back "tracked after that"

put_back state1
rm "$tmp/repo/backups/$first"
flip A
back "an old state folder, and its backup gone too"
like "$(field everything_why)" "*last backup*" "an old state folder, and its backup gone too: it is said"

# A copy made of files from two times: whatever is in it, the backup is right.
keep new
for file in hashes objects; do
    flip A
    back "for the mixture"
    keep old
    flip B
    back "for the mixture, later"
    cp "$tmp/old/jobs/docs/blockmap/$file" "$tmp/state/jobs/docs/blockmap/$file"
    back "old $file among new files"
    flip A
    back "old $file among new files, and then"
done

# ---- the host rolled back with its data and its state; the repository is not ----
flip A
back "before the rollback"
keep old
stop=$(last_backup)
sync -f "$tmp/fs"
umount "$tmp/top" "$tmp/fs"
cp --sparse=always "$tmp/fs.img" "$tmp/fs.old"
dev=$(losetup -n -O NAME -j "$tmp/fs.img" | tr -d ' ')
mount "$dev" "$tmp/fs" && mount -o subvolid=5 "$dev" "$tmp/top"
flip B
back "the later that is undone"
flip B
back "and one more"
umount "$tmp/top" "$tmp/fs"
cat "$tmp/fs.old" >"$dev"
put_back old
mount "$dev" "$tmp/fs" && mount -o subvolid=5 "$dev" "$tmp/top"
is "$(held)" "neap-$(echo "$stop" | tr / -)" "the host rolled back: it holds the old snapshot"
head -c 30000 /dev/urandom >"$data/other-history"
back "the host rolled back"
is "$(field everything_why)" None "the host rolled back: tracked from the old snapshot on"
flip A
back "the host rolled back, and on"
status 0 restore -q extract "$stop" "$tmp/out2"

# Only the data is rolled back, the state is not.
umount "$tmp/top" "$tmp/fs"
cat "$tmp/fs.old" >"$dev"
mount "$dev" "$tmp/fs" && mount -o subvolid=5 "$dev" "$tmp/top"
flip B
back "only the data rolled back"
like "$(field everything_why)" "*snapshot of the last backup is missing*" "only the data rolled back: it is said"

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
if faketime=$(command -v faketime); then
    sleep 1
    flip B
    out=$("$faketime" -f -1d "$NEAP" -c "$tmp/neap.yaml" --json backup docs 2>"$tmp/err")
    is "$?" 0 "the clock a day behind: the backup works"
    like "$(cat "$tmp/err")" "*clock*behind*" "the clock a day behind: it is said"
    same_as_snapshot
    is "$?${why:+ $why}" 0 "the clock a day behind: it is right"
fi
# The newest record is of next year: what comes later is named later still.
flip A
back "the clock is right again"
future=$(last_backup)
sed -i "s/\"last_rehash_s\": *[0-9]*/\"last_rehash_s\": 4102444800/" "$tmp/state/jobs/docs/state.json"
flip B
back "the state comes from the future"
what="the re-hash does not wait for that future" \
    ok sh -c "! grep -q 4102444800 '$tmp/state/jobs/docs/state.json'"
like "$(last_backup)" "docs/*" "there is a newer one than $future"

# ---- two hosts with one name ----
# The other one committed a backup of the same second, between this one's
# prepared update and its record: that record must not vouch for our update.
if command -v strace >/dev/null; then
    flip A
    back "two hosts: the common one"
    keep host2
    flip B
    # Ended at the first link of its record: prepared, and not committed.
    strace -f -qq -o /dev/null -e trace=linkat -e inject=none "$NEAP" --version >/dev/null 2>&1
fi
done_testing
