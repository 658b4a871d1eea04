# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154,SC2034
# PostgreSQL under pgbench on logical volumes, backed up whole. Source it first of
# all; $n is the number of the backup, for the names of the points. Before the
# machine:
#   before            makes a cluster with a small pgbench, and little WAL
# In it:
#   job NAME DIR [SETTING…]   a job of the configuration, on the cluster in DIR/pg
#   configure         takes the jobs from stdin, and makes the repository
#   cluster DIR       puts the cluster there and starts it
#   wal_to DIR        moves its WAL
#   stale DIR         leaves bytes in what is free, for promise and for whoever is next
#   promise DIR       takes some of it into use without writing it
#   load, kill $load  a slow pgbench on it: each transaction is dear in the machine,
#                     ten a second take a third of it
#   count_on DIR…, kill $counter   counts in DIR/count of each, one after the other
#   backup JOB        sets $tracker $wrong $read $logical $why
#   tracked JOB TRACKER       it was, and read little
#   keep_device JOB   the snapshot that is held, for same_as_device
#   keep_repo         for all that comes after
# After it:
#   backups JOB N     that there are so many; their names in $backups
#   boots BACKUP      its check boots the engine
#   same_as_device BACKUP     what is extracted is the snapshot that was held, but for
#                     what its file system does not use, which is zeros
#   of_one_instant BACKUP DIR…     by what was counted there
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
. "$(dirname "${BASH_SOURCE[0]}")/lib-lab.sh"
neap() { "$NEAP_BUILD/neap" -q -c "$tmp/neap.yaml" "$@"; }
restore() { "$NEAP_BUILD/neap-restore" -q -c "$keep/neap.yaml" "$@"; }

before() {
    need_cmd python3
    need_built neap
    need_built neap-restore
    pg_bin=$(pg_bin) || skip_all "no PostgreSQL server here"
    initdb=--wal-segsize=1
    start_pg "$keep/pg" "max_wal_size = 8MB" "min_wal_size = 8MB" || skip_all "PostgreSQL does not start"
    as_pg "$pg_bin/pgbench" -h "$pg_dir" -U postgres -q -i -s 1 postgres >/dev/null 2>&1
    stop_pg
}

# ---- in the machine ----
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
        - select (select sum(bbalance) from pgbench_branches) = (select coalesce(sum(delta), 0) from pgbench_history)
YAML
    for s; do echo "    $s"; done
}
configure() {
    {
        echo "state_dir: $tmp/state"
        echo "repository: {url: $tmp/repo, encryption: none}"
        echo "jobs:"
        cat
    } >"$tmp/neap.yaml"
    status 0 neap init
}
snapshots() { lvs --noheadings -o lv_name lab | tr -d ' ' | grep '^neap-' | sort | tr '\n' ' '; }
held_metadata() { dmsetup status lab-pool-tpool | awk '{print $7}'; }
cluster() { # DIR
    diag "at $SECONDS s"
    cp -a "$keep/pg" "$1/pg"
    sed -i "s|$keep/pg|$1/pg|" "$1/pg/data/postgresql.conf"
    start_pg "$1/pg" || skip_all "PostgreSQL does not start"
    on_exit stop_pg "$1/pg"
}
wal_to() { # DIR
    stop_pg
    as_pg cp -a "$pg_dir/data/pg_wal" "$1/pg_wal"
    rm -r "$pg_dir/data/pg_wal"
    as_pg ln -s "$1/pg_wal" "$pg_dir/data/pg_wal"
    start_pg "$pg_dir"
}
stale() { # DIR
    head -c 60000000 /dev/urandom >"$1/stale"
    sync -f "$1"
    rm "$1/stale"
    sync -f "$1"
}
promise() { # DIR
    fallocate -l 6M "$1/promised.$n"
    sync -f "$1"
}
load() {
    as_pg "$pg_bin/pgbench" -h "$pg_dir" -U postgres -n -c 1 -R 2 -T 3600 postgres >/dev/null 2>&1 &
    load=$!
}
count_on() { # DIR…
    local d
    for d; do touch "$d/count"; done
    python3 -c '
import os, sys, time
files = [os.open(f + "/count", os.O_RDWR) for f in sys.argv[1:]]
n = 0
while True:
    n += 1
    for f in files:
        os.pwrite(f, b"%020d" % n, 0)
        os.fsync(f)
    time.sleep(0.5)' "$@" &
    counter=$!
}
backup() { # JOB; its JSON in $out
    what="$1: backup $n" status 0 neap --json backup "$1"
    fact tracker && tracker=$fact
    fact wrong_blocks && wrong=$fact
    fact read_bytes && read=$fact
    fact logical_bytes && logical=$fact
    fact backup && last=$fact
    fact everything_why && why=$fact
    diag "at $SECONDS s: $tracker, $wrong wrong, read $read of $logical, all because: $why"
}
# Read less than a third, by the tracker, with nothing that it missed.
tracked() { # JOB TRACKER
    is "$tracker $why $wrong" "$2 None 0" \
        "$1: by $2, and nothing was missed"
    what="$1: it read less than a third" ok [ $((3 * read)) -lt "$logical" ]
}
# The device, by another reader.
keep_device() { # JOB
    local lv
    lv=$(lvs --noheadings -o lv_name --select "lv_name=~^neap-$1-" lab | tr -d ' ')
    cp --sparse=always "/dev/mapper/lab-${lv//-/--}" "$keep/${last//\//,}.img"
}
keep_repo() {
    cp -r "$tmp/repo" "$keep/repo"
    sed "s|$tmp/repo|$keep/repo|; s|$tmp/state|$keep/state|" "$tmp/neap.yaml" >"$keep/neap.yaml"
}

# ---- after it ----
backups() { # JOB N
    backups=$(restore --json list "$1" | python3 -c 'import json, sys
for b in json.load(sys.stdin): print(b["backup"])')
    is "$(wc -w <<<"$backups")" "$2" "$1: all $2 backups are in the repository"
}
boots() { # BACKUP
    what="${1%/*}: the check of ${1#*/} boots it" status 0 restore check "$1"
}
same_as_device() { # BACKUP
    status 0 restore extract "$1" "$keep/out" --path /neap-images
    what="$1 is its snapshot, byte for byte, without what is free" \
        status 0 "$NEAP_TOP/tests/reader/free_blocks.py" "$keep/${1//\//,}.img" --image "$keep/out/neap-images/"*.img
    diag "$out"
    rm -r "$keep/out"
}
# At each instant each is as far as the one after it, or one ahead.
of_one_instant() { # BACKUP DIR…
    local b=$1 d count last="" torn="" all=""
    shift
    mkdir -p "$keep/mnt"
    what="$b: it is mounted" status 0 restore mount "$b" "$keep/mnt"
    for d; do
        count=$(<"$keep/mnt$d/count")
        count=$((10#$count))
        [ -z "$last" ] || [ "$last" = $count ] || [ "$last" = $((count + 1)) ] || torn=1
        last=$count
        all+="$count "
    done
    is "$torn" "" "$b: all volumes are of one instant (counted: $all)"
    what="$b: it is unmounted" status 0 restore unmount "$keep/mnt"
}
