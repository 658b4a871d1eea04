#!/bin/bash
# Law 1 with a tracker that lies (neap-faulty, see tracker_fault.c): its answer lacks an
# extent, or what became a hole. The cross-check finds it by its sample, or in the 16th
# backup by the second opinion; names it; hashes everything; the backup is right.
. "$(dirname "$0")/../lib.sh"
need_root
need_cmd mkfs.btrfs rsync python3
need_built neap
need_built neap-faulty
need_built neap-restore
neap_tmp
mount -t tmpfs -o mode=755,size=2G neap-fault "$tmp" # a busy disk makes it minutes
# Lazily: a mount namespace made meanwhile may hold copies of what is mounted in it.
on_exit umount -l "$tmp"
neap() { timeout 60 "$NEAP_BUILD/neap" -c "$tmp/neap.yaml" "$@"; }
faulty() { NEAP_FAULT=$fault timeout 60 "$NEAP_BUILD/neap-faulty" -c "$tmp/neap.yaml" "$@"; }
restore() { timeout 60 "$NEAP_BUILD/neap-restore" -q -c "$tmp/neap.yaml" "$@"; }

like "$(grep -c NEAP_FAULT "$NEAP_BUILD/neap"),$(grep -c NEAP_FAULT "$NEAP_BUILD/neap-faulty")" "0,[1-9]*" \
    "neap itself has no such switch, neap-faulty has"

make_btrfs "$tmp/fs" 1G
top=$tmp/top
mkdir "$top"
mount -o subvolid=5,ro "$(findmnt -no SOURCE "$tmp/fs")" "$top"
on_exit umount "$top"
# 8 MiB are 2048 blocks; of them 64, the least, are sampled: one in each part of 32, so an
# extent of 8 is seen with probability 1/4.
{
    echo "state_dir: $tmp/state"
    echo "repository: {url: $tmp/repo, encryption: none}"
    echo "jobs:"
    for job in drop hole; do
        for sample in 1 0; do
            echo "  $job$sample: {engine: files, path: $tmp/fs/$job$sample, tracker: btrfs-extents, sample: $sample}"
        done
    done
} >"$tmp/neap.yaml"
status 0 neap init
for job in drop1 hole1 drop0 hole0; do
    btrfs subvolume create "$tmp/fs/$job" >/dev/null
    head -c 8M /dev/urandom >"$tmp/fs/$job/data"
    status 0 neap backup $job
done

field() { echo "$out" | json "$1"; }
small() { # a change that the tracker does name
    printf 'change %s' "$1" | dd of="$tmp/fs/$job/data" bs=1 seek=$(($1 * 4096 + 77)) conv=notrunc status=none
}
at_block=1000
large() { # the change that it leaves out: blocks 1000 to 1007, then 1100 to 1107…
    if [ "$fault" = hole ]; then
        fallocate -p -o $((at_block * 4096)) -l 32768 "$tmp/fs/$job/data"
    else
        head -c 32768 /dev/urandom | dd of="$tmp/fs/$job/data" bs=4k seek=$at_block conv=notrunc status=none
    fi
    at_block=$((at_block + 100))
}
differs() { # from its snapshot, after being extracted; prints what
    local snapshot
    snapshot=$(printf '%s\n' "$top"/neap-snapshots/*/neap-"$job"-* | tail -1)
    rm -rf "$tmp/out"
    restore extract "$job/latest" "$tmp/out" && [ -e "$snapshot/data" ] &&
        rsync -aHAXSn --checksum --delete --itemize-changes "$snapshot/" "$tmp/out$tmp/fs/$job/" 2>&1
}
# Until the lie is found. The fault goes on, as that of a broken tracker would.
until_found() { # BACKUPS-AT-MOST
    for ((n = 1; n <= $1; n++)); do
        small "$n"
        out=$(faulty --json backup $job 2>"$tmp/err") || break
        [ "$(field wrong_blocks)" = 0 ] || break
    done
    err=$(cat "$tmp/err")
}

found_and_right() {
    what="$name: found (backup $n; wrong: $(field wrong_blocks), sampled: $(field sampled_blocks))" \
        ok [ "$(field wrong_blocks)" -gt 0 ]
    like "$err" "*job $job: ALERT: the tracker btrfs-extents did not name * checked blocks that changed (first: $tmp/fs/$job/data, offset *): it is put in quarantine*neap backup $job --trust-tracker*" \
        "$name: the alert names job, tracker, path, offset and what to do"
    at=$(echo "$err" | sed -n 's/.*data, offset \([0-9]*\)).*/\1/p')
    is "$(field everything_why)" "the cross-check found a wrong block" "$name: everything was hashed, and it says why"
    is "$(differs)" "" "$name: and the backup is right, byte for byte"
}

in_quarantine() {
    status 1 neap status $job --check
    like "$out" "*tracker btrfs-extents is in quarantine*$tmp/fs/$job/data, offset $at*" "$name: status says so"
    large
    status 0 faulty --json backup $job
    is "$(field everything_why)" "the tracker is in quarantine" "$name: it is not asked again"
    is "$(differs)" "" "$name: and the next backup is right too"
    small 200
    status 0 neap --json backup $job --trust-tracker
    is "$(field tracker),$(field everything_why),$(field wrong_blocks)" "btrfs-extents,None,0" \
        "$name: lifted, with a tracker that is well: tracked and clean"
    is "$(differs)" "" "$name: and right"
}

for fault in drop hole; do
    name="$fault, by the sample"
    job=${fault}1
    large
    # (1 - 1/4)^15 = 1.3 % are left to the second opinion.
    until_found 16
    found_and_right
    # Where nothing else changed, "drop" leaves out the small change as well.
    left_out=$((at / 4096 >= 1000))
    [ $fault = hole ] || left_out=$((left_out || at / 4096 <= n))
    what="$name: the block named is one that was left out ($at)" ok [ $left_out = 1 ]
    in_quarantine

    # Nothing but the second opinion looks. First proof that the fault is one.
    name="$fault, by the second opinion"
    job=${fault}0
    large
    small 300
    status 0 faulty --json backup $job
    is "$(field wrong_blocks),$(field sampled_blocks)" "0,0" "$name: nobody looked"
    like "$(differs)" "*data*" "$name: and the backup is wrong: the fault is one"
    for ((n = 3; n < 16; n++)); do
        small "$n"
        faulty -q backup $job || break
    done
    is "$n" 16 "$name: 15 backups are made"
    large
    small 400
    status 0 faulty --json backup $job
    found_and_right
done
done_testing
