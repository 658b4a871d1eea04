#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Snapshots of logical volumes, thin and thick: the view is the device as it
# was, it stays so while the origin is written, it goes and comes again, and
# what cannot be is refused before lvm has made anything.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/lib-lab.sh"
lab 1G
neap_tmp
make_vg
make_thin thin 96M --size 200M # of all, all is read: no more than is needed
make_thick thick 160M
put_fs ext4 thin "$tmp/thin"
put_fs ext4 thick "$tmp/thick"
ctl() { "$NEAP_BUILD/snap-ctl" "$@"; }
scribble() { # DIR: some data on the disk
    head -c 8000000 /dev/urandom >"$1/f$RANDOM" && sync -f "$1"
}
# The same file system image, but for what the kernel's log replay would touch:
# the snapshot's device by another reader.
device_of() { # NAME: of a snapshot, by its lvm name
    local lv
    lv=$(lvs --noheadings -o lv_name --select "lv_name=~^$1" lab | tr -d ' ')
    echo "/dev/mapper/lab-${lv//-/--}"
}

for kind in thin thick; do
    dir=$tmp/$kind driver=lvm_$kind
    before=$(volumes)
    scribble "$dir"
    like "$(ctl $driver "$dir" id)" "lvm:*-*:*-*" "$kind: its id has the UUIDs of group and volume"
    is "$(ctl auto "$dir" id)" "$(ctl $driver "$dir" id)" "$kind: auto finds it"
    mkdir -p "$dir/sub/deep"
    is "$(ctl $driver "$dir" locate "$dir/sub/deep")" sub/deep "$kind: a path inside"
    what="$kind: a snapshot is made" status 0 ctl $driver "$dir" create neap-a-1
    is "$(ctl $driver "$dir" list)" neap-a-1 "$kind: it is listed"
    ctl $driver "$dir" cat neap-a-1 >"$tmp/one"
    what="$kind: the view is the device" ok cmp "$tmp/one" "$(device_of neap-a-1)"
    scribble "$dir"
    ctl $driver "$dir" cat neap-a-1 >"$tmp/two"
    what="$kind: it does not change when the origin does" ok cmp "$tmp/one" "$tmp/two"
    what="$kind: and is intact" status 0 ctl $driver "$dir" intact neap-a-1
    what="$kind: the origin did change" status 1 cmp -s "$tmp/one" "/dev/lab/$kind"
    what="$kind: no second one of that name" status 1 ctl $driver "$dir" create neap-a-1
    like "$err" "*already exists*" "$kind: it says so"
    if [ $kind = thin ]; then # a thick one goes with its origin only
        lvchange -q -an "lab/$(lvs --noheadings -o lv_name --select 'lv_name=~^neap-a-1' lab | tr -d ' ')"
        ctl $driver "$dir" cat neap-a-1 >"$tmp/two"
        what="$kind: made inactive, it is made active again" ok cmp "$tmp/one" "$tmp/two"
    fi
    what="$kind: there is no other" status 1 ctl $driver "$dir" cat neap-b-1
    like "$err" "*no such snapshot*" "$kind: it says so"
    what="$kind: what is not there is removed at once" status 0 ctl $driver "$dir" remove neap-b-1
    what="$kind: removed" status 0 ctl $driver "$dir" remove neap-a-1
    is "$(ctl $driver "$dir" list)" "" "$kind: none is left"
    is "$(volumes)" "$before" "$kind: lvs shows what it showed before"
done

what="thin: refused by the thick provider" status 1 ctl lvm_thick "$tmp/thin" id
what="thick: refused by the thin provider" status 1 ctl lvm_thin "$tmp/thick" id
what="no logical volume: it is said" status 1 ctl lvm_thin / id
like "$err" "*not a logical volume*" "no logical volume: by name"

# A volume of the same name that is somebody else's.
mark=$(lvs --noheadings -o lv_uuid lab/thick | tr -d ' ' | cut -c1-6)
lvcreate -q -y -Wn -L 8M -n "neap-a-1.$mark" lab >/dev/null
what="not ours: not removed" status 3 ctl lvm_thick "$tmp/thick" remove neap-a-1
like "$err" "*is not a snapshot of lab/thick*" "not ours: it is said"
lvremove -q -f -y "lab/neap-a-1.$mark" >/dev/null

# ---- too full ----
before=$(volumes)
what="thick: overflow" status 0 ctl lvm_thick "$tmp/thick" create neap-full-1
head -c 100000000 /dev/urandom >"$tmp/thick/big" 2>/dev/null
sync -f "$tmp/thick"
what="thick: an overflown snapshot is not intact" status 1 ctl lvm_thick "$tmp/thick" intact neap-full-1
like "$err" "*was lost: more was overwritten*" "thick: it says why"
what="thick: nor can it be read" status 1 ctl lvm_thick "$tmp/thick" cat neap-full-1
what="thick: it can be removed" status 0 ctl lvm_thick "$tmp/thick" remove neap-full-1
is "$(volumes)" "$before" "thick: lvs shows what it showed before"
rm "$tmp/thick"/big*
lvcreate -q -y -Wn -l 99%FREE -n filler lab >/dev/null
before=$(volumes)
what="thick: no room in the group" status 3 ctl lvm_thick "$tmp/thick" create neap-full-2
like "$err" "*volume group lab has room for*vgextend lab*" "thick: it says what to do"
is "$(volumes)" "$before" "thick: nothing was made"

lvcreate -q -y --type thin --thinpool pool --virtualsize 200M -n other lab >/dev/null
used=$(lvs --noheadings -o data_percent lab/pool | cut -d. -f1)
dd if=/dev/urandom of=/dev/lab/other bs=1M count=$((2 * (93 - used))) status=none
sync
before=$(volumes)
what="thin: the pool is nearly full" status 3 ctl lvm_thin "$tmp/thin" create neap-full-3
like "$err" "*pool lab/pool is nearly full*lvextend*" "thin: it says what to do"
is "$(volumes | sed 's/ [0-9.]*%//')" "$(sed 's/ [0-9.]*%//' <<<"$before")" "thin: nothing was made"
done_testing
