#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A live PostgreSQL under pgbench on logical volumes: on XFS on a thin one, on
# ext4 on a thick one by scan and by the snapshot's own exceptions. Each backup is
# byte for byte the snapshot that it was made of, and its check boots the engine.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/lib-lab.sh"
lab 3G
need_cmd python3 thin_delta
need_built neap
need_built neap-restore
pg_bin=$(pg_bin) || skip_all "no PostgreSQL server here"
neap_tmp
neap() { "$NEAP_BUILD/neap" -q -c "$tmp/neap.yaml" "$@"; }
restore() { "$NEAP_BUILD/neap-restore" -q -c "$tmp/neap.yaml" "$@"; }
make_vg
make_thin thin 320M --size 640M # XFS takes 300 MiB at least
make_thick thick 160M
put_fs xfs thin "$tmp/thin"
put_fs ext4 thick "$tmp/thick"

job() { # NAME DIR [SETTING…]
    local name=$1 dir=$2 s
    shift 2
    cat <<YAML
  $name:
    engine: postgresql
    connection: {socket: $dir/pg, user: postgres}
    run_as: postgres
    check:
      queries:
        - select (select sum(abalance) from pgbench_accounts) = (select sum(bbalance) from pgbench_branches)
        - select (select sum(bbalance) from pgbench_branches) = (select sum(delta) from pgbench_history)
YAML
    for s; do echo "    $s"; done
}
{
    echo "state_dir: $tmp/state"
    echo "repository: {url: $tmp/repo, encryption: none}"
    echo "jobs:"
    job thin "$tmp/thin" "sample: 1"
    job scanned "$tmp/thick"
    job thick "$tmp/thick" "tracker: lvm-exceptions" "sample: 1"
} >"$tmp/neap.yaml"
status 0 neap init

snapshots() { lvs --noheadings -o lv_name lab | tr -d ' ' | grep '^neap-' | sort | tr '\n' ' '; }
# The snapshot's device, by another reader.
device_of() { # JOB
    local lv
    lv=$(lvs --noheadings -o lv_name --select "lv_name=~^neap-$1-" lab | tr -d ' ')
    echo "/dev/mapper/lab-${lv//-/--}"
}
held_metadata() { dmsetup status lab-pool-tpool | awk '{print $7}'; }
load() { # starts it on the cluster of $pg_dir
    as_pg "$pg_bin/pgbench" -h "$pg_dir" -U postgres -n -c 1 -R 40 -T 3600 postgres >/dev/null 2>&1 &
    load=$!
}
cluster() { # DIR
    diag "at $SECONDS s"
    start_pg "$1/pg" "max_wal_size = 32MB" "min_wal_size = 32MB" || skip_all "PostgreSQL does not start"
    as_pg "$pg_bin/pgbench" -h "$pg_dir" -U postgres -q -i -s 1 postgres >/dev/null 2>&1
}
backup() { # JOB; its JSON in $out
    what="$1: backup $n" status 0 neap --json backup "$1"
    diag "at $SECONDS s: $(for k in tracker read_bytes changed_bytes named_bytes hold_ms seconds; do echo "$k $(json $k <<<"$out")"; done | tr '\n' ' ')"
}
# Read less than a third, by the tracker, with nothing that it missed.
tracked() { # JOB TRACKER
    is "$(json tracker <<<"$out") $(json everything_why <<<"$out") $(json wrong_blocks <<<"$out")" "$2 None 0" \
        "$1: by $2, and nothing was missed"
    what="$1: it read less than a third" ok [ $((3 * $(json read_bytes <<<"$out"))) -lt "$(json logical_bytes <<<"$out")" ]
}
same_as_device() { # JOB
    status 0 restore extract "$1/latest" "$tmp/out" --path /neap-images
    what="$1: backup $n is its snapshot, byte for byte" ok cmp "$tmp/out/neap-images/"*.img "$(device_of "$1")"
    rm -r "$tmp/out"
}

# ---- thin ----
cluster "$tmp/thin"
load
for n in 1 2 3; do
    sleep 2
    backup thin
    [ $n = 1 ] || tracked thin lvm-thin
    is "$(snapshots | wc -w)" 1 "thin: one snapshot is held"
    is "$(held_metadata)" - "thin: the pool's metadata is not"
    same_as_device thin
    [ $n = 1 ] || what="thin: its check boots it" status 0 restore check thin/latest
done
kill $load
like "$(restore list thin)" "*passed*" "thin: list has the proof"

# ---- thick ----
cluster "$tmp/thick"
load
for n in 1 2 3; do
    sleep 1
    backup scanned
    is "$(json tracker <<<"$out") $(json wrong_blocks <<<"$out")" "scan 0" "scanned: by scan"
    is "$(snapshots | grep -o neap-scanned)" "" "scanned: no snapshot is kept"
    [ $n = 1 ] || what="scanned: its check boots it" status 0 restore check scanned/latest
done
n=1
backup thick
n=2
sleep 1
backup thick
tracked thick lvm-exceptions
same_as_device thick
what="thick: its check boots it" status 0 restore check thick/latest
kill $load
is "$(snapshots | wc -w)" 2 "of all, two snapshots are held"
done_testing
