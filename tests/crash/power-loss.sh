#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The power goes, not only the process: the file systems of the repository and
# of the state folder, an ext4 and an XFS and then the other way round, lose all
# that was not made durable. At each kind of step, at any call, and at random
# moments; what is listed is whole afterwards, the next backup works, is right,
# and uses what was stored. What was said to be done is there.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/lib-crash.sh"
own_mounts "$@"
need_cmd mkfs.ext4 mkfs.xfs
crash_job
interpose
keep_manifests
diag "CRASH_SEED=$seed"
rounds=${CRASH_ROUNDS:-5}

afresh_disks() { # TYPE-OF-THE-REPOSITORY'S TYPE-OF-THE-STATE'S
    rm -rf "$tmp/repo" "$tmp/state" "$tmp"/*.key
    power_disk "$tmp/disk-repo-$1" "$1"
    power_disk "$tmp/disk-state-$2" "$2"
    mkdir "$tmp/disk-repo-$1/repo" "$tmp/disk-state-$2/state"
    ln -s "$tmp/disk-repo-$1/repo" "$tmp/repo"
    ln -s "$tmp/disk-state-$2/state" "$tmp/state"
    sync -f "$tmp/disk-repo-$1"
    sync -f "$tmp/disk-state-$2"
    remember
}

# ---- what was said to be done ----
said() { # TYPE
    local b
    neap -q init >/dev/null || exit 1
    power 0
    status 0 neap list
    neap -q backup docs >/dev/null
    power 0
    what="$1: the first backup is there" same_as_snapshot
    is "$?${why:+ $why}" 0 "$1: the first backup is there after a power cut"
    b=$(last_backup)
    head -c 100000 /dev/urandom >"$data/one-more"
    sleep 1
    neap -q backup docs >/dev/null
    power 0
    what="$1: the second is another one" ok [ "$(last_backup)" != "$b" ]
    same_as_snapshot
    is "$?${why:+ $why}" 0 "$1: and is there"
    status 0 restore -q check docs/latest
    power 0
    out=$(restore --json list docs | python3 -c 'import json, sys; print(max(json.load(sys.stdin), key=lambda b: b["backup"])["proof"])')
    like "$out" "{*" "$1: the proof is there after a power cut"
    b=$(last_backup)
    status 0 restore -q extract docs/latest "$tmp/disk-repo-$1/out"
    power 0
    manifest "$tmp/disk-repo-$1/out$data" >"$tmp/extract"
    is "$(diff "$tmp/manifests/${b/\//-}" "$tmp/extract")" "" "$1: an extract is there"
    rm -rf "$tmp/disk-repo-$1/out"
}

# ---- at a step ----
steps() { # TYPE
    killed_at "$1: before the first pack" CRASH_ON="linkat packs/"
    killed_at "$1: after the first pack" CRASH_ON="linkat packs/" CRASH_AFTER=1
    killed_at "$1: before the index" CRASH_ON="linkat index/"
    killed_at "$1: after the index" CRASH_ON="linkat index/" CRASH_AFTER=1
    killed_at "$1: before the map" CRASH_ON="linkat maps/"
    killed_at "$1: the block map half prepared" CRASH_ON="renameat objects.new" CRASH_AFTER=1
    killed_at "$1: before the record" CRASH_ON="linkat backups/"
    killed_at "$1: after the record" CRASH_ON="linkat backups/" CRASH_AFTER=1
    killed_at "$1: the block map's commit begun" CRASH_ON="renameat redo
" CRASH_AFTER=1
    killed_at "$1: the block map's pages written" CRASH_ON="fdatasync "
    killed_at "$1: the block map's table put" CRASH_ON="renameat objects
" CRASH_AFTER=1
    killed_at "$1: before the old snapshot goes" CRASH_ON="ioctl remove"
    killed_at "$1: after the old snapshot went" CRASH_ON="ioctl remove" CRASH_AFTER=1
}

# ---- at random ----
random() { # TYPE
    local i n committed=0
    start_writer
    for ((i = 1; i <= rounds; i++)); do
        n=$(count_files)
        pick $((run_ms + run_ms / 10 + 1))
        power "$picked" "$NEAP" -q -c "$tmp/neap.yaml" backup docs >/dev/null 2>&1
        [ "$(count_files)" = "$n" ] || committed=$((committed + 1))
        if ! after_kill "$n"; then
            is "$why" "" "$1: round $i, cut after $picked ms (seed $seed)"
            break
        fi
    done
    stop_writer
    what="$1: $rounds power cuts within $run_ms ms, $committed of them after the record" ok [ $((i - 1)) = "$rounds" ]
    neap -q backup docs >/dev/null && same_as_snapshot
}

for kinds in "ext4 xfs" "xfs ext4"; do
    # shellcheck disable=SC2086
    set -- $kinds
    rm -rf "$tmp/manifests"
    keep_manifests
    fill_data 20 150
    afresh_disks "$1" "$2"
    said "$1"
    steps "$1"
    killed_at_calls 4
    random "$1"
    all_right
    is "$?${why:+ $why}" 0 "$1: each backup that is listed is right ($checked)"
    diag "$afresh of the next backups had to hash everything"
    remove_disks
done
done_testing
