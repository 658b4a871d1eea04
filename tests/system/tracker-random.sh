#!/bin/bash
# The whole way under random file operations: each round changes files at random, backs
# them up by what a tracker names, and has what it did not name checked (sample: 100,
# which is up to 4096 blocks). What is extracted equals the snapshot; at the end a full scan agrees.
#   TRACK_ROUNDS=12  TRACK_SEED=1
. "$(dirname "$0")/../lib.sh"
need_root
need_cmd mkfs.btrfs rsync
need_built neap
need_built neap-restore
need_built random-ops
rounds=${TRACK_ROUNDS:-12}
seed=${TRACK_SEED:-$(date +%s)}
diag "TRACK_SEED=$seed TRACK_ROUNDS=$rounds"
neap_tmp
mount -t tmpfs -o mode=755,size=3G neap-random "$tmp"
# Lazily: a mount namespace made meanwhile may hold copies of what is mounted in it.
on_exit umount -l "$tmp"
neap() { timeout 60 "$NEAP_BUILD/neap" -c "$tmp/neap.yaml" "$@"; }
restore() { timeout 60 "$NEAP_BUILD/neap-restore" -q -c "$tmp/neap.yaml" "$@"; }

make_btrfs "$tmp/fs" 1G
make_btrfs "$tmp/to" 1G # btrfs too, so that its flags can come back
data=$tmp/fs/data
btrfs subvolume create "$data" >/dev/null
top=$tmp/top
mkdir "$top"
mount -o subvolid=5,ro "$(findmnt -no SOURCE "$tmp/fs")" "$top"
on_exit umount "$top"
{
    echo "state_dir: $tmp/state"
    echo "repository: {url: $tmp/repo, encryption: none}"
    echo "jobs:"
    for t in send extents; do
        echo "  $t: {engine: files, path: $data, tracker: btrfs-$t, sample: 100}"
    done
} >"$tmp/neap.yaml"
status 0 neap init

wrong= # the first round that failed, with why
one_job() { # JOB: back it up, put it over what the last round extracted, compare
    local job=$1 json difference snapshot
    json=$(neap --json backup "$job" 2>"$tmp/err") || { wrong="backup of $job: $(cat "$tmp/err")" && return; }
    case $json in
    *'"tracker": "btrfs-'"$job"'"'*'"wrong_blocks": 0,'* | *'this is the first backup'*) ;;
    *) wrong="$job: not tracked and clean: $json" && return ;;
    esac
    snapshot=$(printf '%s\n' "$top"/neap-snapshots/*/neap-"$job"-* | tail -1)
    restore extract "$job/latest" "$tmp/to/$job" ${delta:-} 2>"$tmp/err" || { wrong="extract of $job: $(cat "$tmp/err")" && return; }
    difference=$(rsync -aHAXSn --checksum --delete --itemize-changes "$snapshot/" "$tmp/to/$job$data/" 2>&1)
    [ -z "$difference" ] || wrong="$job differs: $difference"
}

for ((n = 1; n <= rounds; n++)); do
    "$NEAP_BUILD/random-ops" "$data" $((seed * 100003 + n)) $(((seed + n * 7919) % 30 + 1)) >"$tmp/operations" ||
        { wrong="random-ops" && break; }
    for job in send extents; do
        [ -n "$wrong" ] || one_job $job
    done
    [ -z "$wrong" ] || break
    delta=--delta
done
is "$wrong" "" "$rounds rounds: each backup is its snapshot, and the cross-check of all is clean"
[ -z "$wrong" ] || diag "round $n of TRACK_SEED=$seed" "$(cat "$tmp/operations")"
for job in send extents; do
    status 0 neap --json backup $job --full-scan
    like "$out" '*"changed_bytes": 0,*' "$job: a full scan finds nothing more: the block map is the files"
    status 0 restore extract $job/latest "$tmp/to/anew-$job"
    is "$(rsync -aHAXSn --checksum --delete --itemize-changes "$tmp/to/$job$data/" "$tmp/to/anew-$job$data/" 2>&1)" "" \
        "$job: extracted anew or put over $rounds times, the same"
done
status 0 restore check send/latest
done_testing
