# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# For tests that need device-mapper. Source it behind lib.sh, and call first of
# all
#   lab SIZE…    runs the script where device-mapper is (here, or in
#                tests/lab/machine) with blank disks of these sizes in ${disk[@]}
# What needs none is done on this host, which is much faster: a script may have the
# functions
#   before       is called first; what it leaves in $keep is there from then on
#   after        is called when all else is done, and has $keep as that left it
# and then ends with lab_done instead of done_testing.
#   make_vg      all of them into one volume group named lab
#   make_thin LV SIZE [POOL-OPTION…]   a thin volume in the pool lab/pool
#   make_thick LV SIZE
#   put_fs xfs|ext4 LV DIR [OPTION…]   mkfs, mount
#   volumes      what lvs shows, one line each: to be compared before and after
#   fact KEY     sets $fact, of the JSON object in $out (None: it has no such):
#                to start a Python takes a second in the machine
disk=()
keep="" # folder that is there before, in, and after the machine

lab() {
    local size i sizes=()
    if [ -n "${NEAP_LAB:-}" ]; then
        read -ra disk <<<"$NEAP_LAB"
        keep=$NEAP_KEEP
        return
    fi
    need_root
    need_cmd lvcreate mkfs.xfs
    neap_tmp
    keep=$tmp
    if declare -F before >/dev/null; then before; fi
    if dmsetup version >/dev/null 2>&1; then
        for size in "$@"; do
            i=${#disk[@]}
            truncate -s "$size" "$tmp/disk$i"
            disk+=("$(losetup -f --show "$tmp/disk$i")")
            on_exit losetup -d "${disk[i]}"
        done
        return
    fi
    need_cmd linux.uml
    for size in "$@"; do
        sizes+=(-d "$size")
        disk+=("/dev/ubd$(printf "\\$(printf %o $((98 + ${#disk[@]})))")")
    done
    "$NEAP_TOP/tests/lab/machine" -m "${LAB_MEMORY:-2G}" -t $((${TEST_SECONDS:-1200} - 50)) -k "$keep" \
        "${sizes[@]}" -- env NEAP_LAB="${disk[*]}" NEAP_KEEP="$keep" \
        NEAP_BUILD="$NEAP_BUILD" NEAP_NO_SKIP="${NEAP_NO_SKIP:-0}" LC_ALL=C \
        TRACK_SEED="${TRACK_SEED:-}" TRACK_ROUNDS="${TRACK_ROUNDS:-}" \
        LAB_ROUNDS="${LAB_ROUNDS:-}" bash "$0"
    tap_bad=$?
    tap_done=1
    [ -e "$keep/points" ] || exit "$tap_bad"
    tap_n=$(<"$keep/points")
    after
    done_testing
}

lab_done() {
    if [ -n "${NEAP_LAB:-}" ]; then
        echo "$tap_n" >"$keep/points"
        tap_done=1
        exit
    fi
    after
    done_testing
}

make_vg() {
    vgcreate -q lab "${disk[@]}" >/dev/null || skip_all "no volume group could be made"
    on_exit vgremove -q -ff -y lab
}

make_thin() { # LV SIZE [POOL-OPTION…]
    local lv=$1 size=$2
    shift 2
    if ! lvs lab/pool >/dev/null 2>&1; then
        [ $# -gt 0 ] || set -- --extents 80%FREE
        lvcreate -q -y --type thin-pool --name pool --poolmetadatasize 64M \
            "$@" lab >/dev/null
    fi
    lvcreate -q -y --type thin --thinpool pool --virtualsize "$size" \
        --name "$lv" lab >/dev/null
}

make_thick() { # LV SIZE
    lvcreate -q -y -Wn --size "$2" --name "$1" lab >/dev/null
}

put_fs() { # xfs|ext4 LV DIR [OPTION…]
    local fs=$1 lv=$2 dir=$3
    shift 3
    case $fs in
    xfs) mkfs.xfs -q -f "$@" "/dev/lab/$lv" ;;
    ext4) mkfs.ext4 -q -F "$@" "/dev/lab/$lv" ;;
    esac
    mkdir -p "$dir"
    mount "/dev/lab/$lv" "$dir"
    on_exit umount_soon "$dir"
}

volumes() { lvs --noheadings -a -o lv_name,lv_attr,lv_size lab 2>/dev/null | sort; }

fact() { # KEY
    local line
    fact=None
    while read -r line; do
        [[ $line == "\"$1\": "* ]] || continue
        fact=${line#*: }
        fact=${fact%,}
        fact=${fact#\"}
        fact=${fact%\"}
        [ "$fact" != null ] || fact=None
        return
    done <<<"$out"
}
