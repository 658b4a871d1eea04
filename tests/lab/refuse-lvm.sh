#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What goes wrong with logical volumes, in whole backups: pools that are full,
# metadata that somebody else holds or that a dead run held, snapshots that are
# gone or overflown. Each is refused or read whole, says why, and leaves nothing.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/lib-lab.sh"
lab 1500M
need_cmd python3 flock
need_built neap
need_built neap-restore
neap_tmp
neap() { "$NEAP_BUILD/neap" -c "$tmp/neap.yaml" "$@"; }
make_vg
make_thin thin 200M --size 400M
make_thick thick 160M
put_fs ext4 thin "$tmp/thin"
put_fs ext4 thick "$tmp/thick"
cat >"$tmp/neap.yaml" <<YAML
state_dir: $tmp/state
repository: {url: $tmp/repo, encryption: none}
jobs:
  thin: {engine: files, path: $tmp/thin, hold_limit: 60s} # lvcreate takes its time in the machine
  thick: {engine: files, path: $tmp/thick, hold_limit: 60s}
  grown: {engine: files, path: $tmp/thick, hold_limit: 60s}
  kept: {engine: files, path: $tmp/thick, tracker: lvm-exceptions}
  tight: {engine: files, path: $tmp/tight}
YAML
status 0 neap init
noise() { head -c "$2" /dev/urandom >"$1" && sync -f "$1"; }
names() { lvs --noheadings -a -o lv_name lab | sort; }
held() { dmsetup status lab-pool-tpool | awk '{print $7}'; }
noise "$tmp/thin/a" 5000000
noise "$tmp/thick/a" 5000000
what="thin: the first" status 0 neap -q backup thin
all_because() { # GLOB NAME
    fact everything_why
    like "$fact" "$1" "$2"
}
tracked() { # NAME
    local all
    fact tracker && all=$fact
    fact everything_why && all+=" $fact"
    fact wrong_blocks && all+=" $fact"
    is "$all" "lvm-thin None 0" "$1"
}

# ---- the pool's metadata ----
dmsetup message lab-pool-tpool 0 reserve_metadata_snap
theirs=$(held)
noise "$tmp/thin/b" 1000000
what="held by somebody else: a backup all the same" status 0 neap --json backup thin
all_because "*somebody else holds a metadata snapshot*" "held by somebody else: all is read, and why"
is "$(held)" "$theirs" "held by somebody else: it stays theirs"
note=/var/lib/neap/pools/$(lvs --noheadings -o lv_uuid lab/pool | tr -d ' ')
echo "$theirs" >"$note"
what="held by a dead run of ours" status 0 neap --json backup thin
tracked "held by a dead run of ours: it is let go, and the tracker answers"
is "$(held)" - "and nothing is held now"
exec 8>>"$note"
flock 8
what="another process has the lock" status 0 neap --json backup thin
all_because "*another process of neap reads*" "another process has the lock: all is read, and why"
exec 8>&-
is "$(held)" - "and nothing is held"

# ---- snapshots that are gone ----
lvremove -q -f -y lab/"$(lvs --noheadings -o lv_name lab | tr -d ' ' | grep ^neap-thin-)" >/dev/null
what="the last snapshot is gone" status 0 neap --json backup thin
all_because "*snapshot of the last backup is missing*" "the last snapshot is gone: all is read, and why"
last=$(lvs --noheadings -o lv_name lab | tr -d ' ' | grep ^neap-thin-)
lvchange -q -p rw "lab/$last" >/dev/null
what="the last snapshot was made writable" status 0 neap --json backup thin
all_because "*is writable*" "the last snapshot was made writable: all is read, and why"
is "$(volumes | grep -c ' neap-\|^ *neap-')" 1 "one snapshot is held, the last backup's"

# ---- thick ----
# Its room is 64 MiB; stopped between snapshot and reading, and once it was given more.
"$NEAP_BUILD/neap" -c "$tmp/neap.yaml" backup grown >"$tmp/log" 2>&1 &
agent=$!
until_there() { # COMMAND…
    for ((i = 0; i < 6000; i++)); do
        ! "$@" >/dev/null 2>&1 || return 0
        sleep 0.01
    done
}
# Of JOB: without a process for each look, as reading may be done in 0.1 s.
listed() { compgen -G "/dev/mapper/lab-neap--$1--*cow"; }
until_there listed grown
kill -STOP $agent
noise "$tmp/thick/c" 45000000
kill -CONT $agent
until_there grep -q extended "$tmp/log"
kill -STOP $agent
noise "$tmp/thick/d" 40000000
kill -CONT $agent
wait $agent
is $? 0 "thick: more is overwritten than it had room for: it is given more in time"
like "$(cat "$tmp/log")" "*job grown: the room of snapshot lab/neap-grown-* was 60 % full: extended by 67.1 MB*" "thick: and says so"
rm "$tmp/thick/c" "$tmp/thick/d"
sync -f "$tmp/thick"
room=$(vgs --noheadings --units m --nosuffix -o vg_free lab | cut -d. -f1)
lvcreate -q -y -Wn -L $((room - 200))M -n filler lab >/dev/null
what="thick: the first, kept" status 0 neap -q backup kept
noise "$tmp/thick/a" 90000000
what="thick: the kept snapshot overflowed" status 0 neap --json backup kept
all_because "*the snapshot is invalid*" "thick: the kept snapshot overflowed: all is read, and why"
lvextend -q -L +$(($(vgs --noheadings --units m --nosuffix -o vg_free lab | cut -d. -f1) - 84))M lab/filler >/dev/null
before=$(names)
"$NEAP_BUILD/neap" -c "$tmp/neap.yaml" -q backup thick >"$tmp/log" 2>&1 &
agent=$!
until_there listed thick
kill -STOP $agent
dd if=/dev/urandom of="$tmp/thick/a" bs=1M count=85 conv=notrunc,fsync status=none
kill -CONT $agent
wait $agent
is $? 1 "thick: overflow while it is read"
like "$(cat "$tmp/log")" "*was lost: more was overwritten*" "thick: overflow while it is read: by name"
is "$(names)" "$before" "thick: the overflown snapshot is removed"
lvremove -q -f -y lab/filler >/dev/null
what="thick: there is no backup" status 0 neap --json list thick
is "$out" "[]" "thick: the list is empty"

# ---- a pool nearly full ----
used=$(lvs --noheadings -o data_percent lab/pool | cut -d. -f1)
lvcreate -q -y --type thin --thinpool pool --virtualsize 400M -n other lab >/dev/null 2>&1
dd if=/dev/urandom of=/dev/lab/other bs=1M count=$((4 * (93 - used))) status=none
before=$(volumes)
what="the pool is nearly full" status 3 neap backup thin
like "$err" "*pool lab/pool is nearly full*lvextend*" "the pool is nearly full: with the way out"
is "$(volumes)" "$before" "the pool is nearly full: nothing is made or lost"
lvremove -q -f -y lab/other >/dev/null
fstrim "$tmp/thin"
what="with room again it goes on" status 0 neap --json backup thin
tracked "with room again it goes on where it was"

# ---- a pool whose metadata is nearly full ----
# By snapshots that lvm knows nothing of; each makes what is written next copy its
# nodes.
lvcreate -q -y --type thin-pool --name tight --poolmetadatasize 2M --size 260M lab >/dev/null
lvcreate -q -y --type thin --thinpool tight --virtualsize 240M --name tight1 lab >/dev/null
put_fs ext4 tight1 "$tmp/tight"
noise "$tmp/tight/a" 150000000
python3 - "$tmp/tight/a" <<'PY'
import os, subprocess, sys
def dmsetup(*args):
    return subprocess.run(("dmsetup",) + args, check=True, capture_output=True, text=True).stdout
fd = os.open(sys.argv[1], os.O_RDWR)
for device in range(100, 400):
    used, size = map(int, dmsetup("status", "lab-tight-tpool").split()[4].split("/"))
    if used > size * .82:
        break
    dmsetup("message", "lab-tight-tpool", "0", f"create_snap {device} 1")
    for at in range(0, 150_000_000, 10_000_000):
        os.pwrite(fd, os.urandom(4096), at)
    os.fsync(fd)
PY
before=$(volumes)
what="the pool's metadata is nearly full" status 3 neap backup tight
like "$err" "*pool lab/tight is nearly full*metadata 8?.? % (limit 80)*--poolmetadatasize*" "the pool's metadata is nearly full: with the way out"
is "$(volumes)" "$before" "the pool's metadata is nearly full: nothing is made or lost"
done_testing
