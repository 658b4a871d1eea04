# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154,SC2034
# PostgreSQL under pgbench on logical volumes, backed up whole: for tests that
# have sourced lib.sh and lib-lab.sh and called lab and neap_tmp. $n is the number
# of the backup, for the names of the points.
#   job NAME DIR [SETTING…]   a job of the configuration, on the cluster in DIR/pg
#   cluster DIR [WAL-SIZE]    starts it, with a small pgbench in it
#   load [RATE], kill $load   a slow pgbench on it
#   backup JOB                sets $tracker $wrong $read $logical $why
#   tracked JOB TRACKER       it was, and read little
#   prove JOB N LAST          its check boots the engine; by default of the LAST only,
#                             with LAB_CHECKS=all of each
#   same_as_device JOB        what is extracted is the snapshot that is held
neap() { "$NEAP_BUILD/neap" -q -c "$tmp/neap.yaml" "$@"; }
restore() { "$NEAP_BUILD/neap-restore" -q -c "$tmp/neap.yaml" "$@"; }

job() { # NAME DIR [SETTING…]
    local name=$1 dir=$2 s
    shift 2
    cat <<YAML
  $name:
    engine: postgresql
    connection: {socket: $dir/pg, user: postgres}
    run_as: postgres
    hold_limit: 60s # lvcreate takes its time in the machine
    check:
      queries:
        - select (select sum(abalance) from pgbench_accounts) = (select sum(bbalance) from pgbench_branches)
        - select (select sum(bbalance) from pgbench_branches) = (select sum(delta) from pgbench_history)
YAML
    for s; do echo "    $s"; done
}
snapshots() { lvs --noheadings -o lv_name lab | tr -d ' ' | grep '^neap-' | sort | tr '\n' ' '; }
# The snapshot's device, by another reader.
device_of() { # JOB
    local lv
    lv=$(lvs --noheadings -o lv_name --select "lv_name=~^neap-$1-" lab | tr -d ' ')
    echo "/dev/mapper/lab-${lv//-/--}"
}
held_metadata() { dmsetup status lab-pool-tpool | awk '{print $7}'; }
load() {
    as_pg "$pg_bin/pgbench" -h "$pg_dir" -U postgres -n -c 1 -R "${1:-40}" -T 3600 postgres >/dev/null 2>&1 &
    load=$!
}
cluster() { # DIR [WAL-SIZE]
    diag "at $SECONDS s"
    start_pg "$1/pg" "max_wal_size = ${2:-32MB}" "min_wal_size = ${2:-32MB}" || skip_all "PostgreSQL does not start"
    as_pg "$pg_bin/pgbench" -h "$pg_dir" -U postgres -q -i -s 1 postgres >/dev/null 2>&1
}
backup() { # JOB; its JSON in $out
    what="$1: backup $n" status 0 neap --json backup "$1"
    # One Python for all: to start one takes a second in the machine.
    read -r tracker wrong read logical why < <(python3 -c '
import json, sys
j = json.load(sys.stdin)
print(*(j[k] for k in ("tracker", "wrong_blocks", "read_bytes", "logical_bytes", "everything_why")))' <<<"$out")
    diag "at $SECONDS s: $tracker, $wrong wrong, read $read of $logical, all because: $why"
}
# Read less than a third, by the tracker, with nothing that it missed.
tracked() { # JOB TRACKER
    is "$tracker $why $wrong" "$2 None 0" \
        "$1: by $2, and nothing was missed"
    what="$1: it read less than a third" ok [ $((3 * read)) -lt "$logical" ]
}
same_as_device() { # JOB
    status 0 restore extract "$1/latest" "$tmp/out" --path /neap-images
    what="$1: backup $n is its snapshot, byte for byte" ok cmp "$tmp/out/neap-images/"*.img "$(device_of "$1")"
    rm -r "$tmp/out"
}
prove() { # JOB N LAST
    [ "$2" = "$3" ] || [ "${LAB_CHECKS:-}" = all ] || return 0
    what="$1: the check of backup $2 boots it" status 0 restore check "$1/latest"
}
