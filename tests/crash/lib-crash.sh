# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # out and err are lib.sh's
# Words for the crash tests, on top of lib.sh. One job "files" of a btrfs
# subvolume, unless the script makes its own.
#
#   own_mounts ARG…      the script runs in a mount namespace of its own: another
#                        test's, made meanwhile, cannot keep our disks in use
#   crash_job [SIZE]     $tmp/fs/data, neap.yaml, `neap init`; $top shows snapshots
#   neap, restore        the two commands with that configuration
#   fill_data, start_writer, stop_writer   content, and what changes it
#   field KEY            of the JSON document in $out
#   last_backup [JOB]    the newest one that `neap list` shows ("" : none)
#   held                 names of the snapshots that the host holds
#   same_as_snapshot     the last backup's extract equals its snapshot ($why)
#   keep_manifests       from here on same_as_snapshot remembers what was right;
#                        all_right: each backup that is listed still is ($why)
#   change SEED, die_at, killed_at   a backup that dies at a call; see there
#   clean                no process, mount, loop device or temporary file of ours
#                        that was not there when crash_job ended ($why)
#   now_ms, pick N       a clock; a number from 0 to N - 1 out of $seed
#   interpose            builds $crash_so; `crashing VAR=VALUE… CMD` runs CMD under
#                        it (interpose.c says which)
#   count                of the backups of docs; count_files: by their files, cheaper
#   power_disk DIR ext4|xfs      a file system that loses what was not made durable
#                        when the power goes: power MILLISECONDS [CMD…]
NEAP=$NEAP_BUILD/neap
RESTORE=$NEAP_BUILD/neap-restore
seed=${CRASH_SEED:-$((RANDOM * 32768 + RANDOM))}
RANDOM=$((seed % 32768))
why=

neap() { "$NEAP" -c "$tmp/neap.yaml" "$@"; }
restore() { "$RESTORE" -c "$tmp/neap.yaml" "$@"; }
now_ms() { echo $((${EPOCHREALTIME/./} / 1000)); }
# In this shell, so that $RANDOM goes on: sets $picked.
pick() { picked=$(((RANDOM * 32768 + RANDOM) % $1)); }
field() { python3 -c 'import json, sys; print(json.loads(sys.argv[1]).get(sys.argv[2]))' "$out" "$1"; }

# shellcheck disable=SC2120 # other files give it arguments
write_conf() { # [JOB-LINES]
    cat >"$tmp/neap.yaml" <<YAML
state_dir: $tmp/state
repository:
  url: $tmp/repo
  host_key: $tmp/host.key
  recovery_key: $tmp/recovery.key
jobs:
${1:-  docs: {engine: files, path: $data\}}
YAML
}

# In memory: an extract ends with syncfs, which on a busy disk waits for the
# writes of everybody else.
crash_tmp() {
    neap_tmp
    mount -t tmpfs -o mode=755,size=3G neap-crash "$tmp"
    on_exit umount "$tmp"
}

make_ext4() { # DIR SIZE
    local dev
    mkdir -p "$1" && truncate -s "$2" "$1.img" &&
        mkfs.ext4 -q -m 0 "$1.img" || return 1
    dev=$(losetup --find --show "$1.img") || return 1
    on_exit losetup -d "$dev"
    mount "$dev" "$1" || return 1
    on_exit umount_soon "$1"
}

own_mounts() {
    need_root
    if [ -z "${CRASH_OWN_MOUNTS:-}" ]; then
        trap - EXIT INT TERM HUP
        CRASH_OWN_MOUNTS=1 exec unshare --mount --propagation private bash "$0" "$@"
    fi
    unset CRASH_OWN_MOUNTS
}

show_top() {
    top=$tmp/top
    mkdir -p "$top"
    mount -o subvolid=5 "$(findmnt -no SOURCE "$tmp/fs" | sed 's/\[.*//')" "$top"
    on_exit umount "$top"
}

crash_job() { # [SIZE]
    need_root
    need_cmd mkfs.btrfs rsync python3
    need_built neap
    need_built neap-restore
    crash_tmp
    make_btrfs "$tmp/fs" "${1:-1G}"
    data=$tmp/fs/data
    btrfs subvolume create "$data" >/dev/null
    write_conf
    neap init >/dev/null 2>&1 || exit 1
    show_top
    remember
}

our_mounts() { grep -F "$tmp" /proc/self/mountinfo | cut -d' ' -f3-5 | sort; }
remember() {
    mounts_before=$(our_mounts)
    loops_before=$(losetup -n -O BACK-FILE | grep -cF "$tmp")
}

interpose() {
    need_cmd cc
    crash_so=$tmp/interpose.so
    cc -D_GNU_SOURCE -shared -fPIC -O1 -o "$crash_so" \
        "$NEAP_TOP/tests/crash/interpose.c" -ldl || exit 1
}
crashing() { CRASH_PROGRAM=${CRASH_PROGRAM:-neap} LD_PRELOAD=$crash_so env "$@"; }
count() { neap --json list docs | python3 -c 'import json, sys; print(len(json.load(sys.stdin)))'; }

count_files() { find -H "$tmp/repo/backups/docs" -type f ! -name '.*' 2>/dev/null | wc -l; }

held() {
    local p
    for p in "$top"/neap-snapshots/*/neap-*; do
        [ ! -e "$p" ] || echo "${p##*/}"
    done
}
snapshot_of() { printf '%s\n' "$top"/neap-snapshots/*/neap-"${1/\//-}"; }

# With a job: also one that the configuration does not have.
last_backup() { neap --json list | python3 -c '
import json, sys
print(max((b["backup"] for b in json.load(sys.stdin) if sys.argv[1] in ("", b["job"])),
          key=lambda n: n.split("/")[1], default=""))' "${1:-}"; }

same() { # BACKUP PATH SNAPSHOT-FOLDER
    rm -rf "$tmp/out"
    if ! why=$(restore -q extract "$1" "$tmp/out" 2>&1); then
        why="extract $1: $why"
        return 1
    fi
    if ! why=$(rsync -aHAXSn --checksum --delete --itemize-changes "$3/" "$tmp/out$2/" 2>&1); then
        why="rsync: $why"
        return 1
    fi
    [ -z "$why" ] || why="$1 differs from $3: $why"
    [ -z "$why" ]
}

same_as_snapshot() { # [JOB [PATH [BACKUP]]]
    local b=${3:-} s
    [ -n "$b" ] || b=$(last_backup "${1:-docs}")
    if [ -z "$b" ]; then
        why="there is no backup"
        return 1
    fi
    s=$(snapshot_of "$b")
    if [ ! -d "$s" ]; then
        why="the snapshot of $b is not held"
        return 1
    fi
    same "$b" "${2:-$data}" "$s" || return 1
    [ ! -d "$tmp/manifests" ] || manifest "$s" >"$tmp/manifests/${b/\//-}"
}

manifest() { # FOLDER: all that an extract has to bring back
    python3 - "$1" <<'PY'
import hashlib, os, stat, sys
top, first = os.path.abspath(sys.argv[1]), {}
def show(path, name):
    s = os.lstat(path)
    what = ""
    if stat.S_ISREG(s.st_mode):
        what = hashlib.sha256(open(path, "rb").read()).hexdigest()
    elif stat.S_ISLNK(s.st_mode):
        what = os.readlink(path)
    print(repr(name), oct(s.st_mode), s.st_uid, s.st_gid, s.st_mtime_ns,
          s.st_size if not stat.S_ISDIR(s.st_mode) else "-",
          first.setdefault(s.st_ino, name) if s.st_nlink > 1 and what else "-", what)
for folder, folders, files in os.walk(top):
    folders.sort()
    show(folder, os.path.relpath(folder, top))
    for f in sorted(files):
        show(f"{folder}/{f}", os.path.relpath(f"{folder}/{f}", top))
PY
}

keep_manifests() { mkdir -p "$tmp/manifests"; }

all_right() {
    local b m
    checked=0
    for b in $(neap --json list docs | python3 -c 'import json, sys
for b in json.load(sys.stdin): print(b["backup"])'); do
        m=$tmp/manifests/${b/\//-}
        if [ ! -s "$m" ]; then
            why="$b is listed and was never compared"
            return 1
        fi
        rm -rf "$tmp/out"
        if ! why=$(restore -q extract "$b" "$tmp/out" 2>&1); then
            why="extract $b: $why"
            return 1
        fi
        if ! why=$(manifest "$tmp/out$data" | diff "$m" -); then
            why="$b is not what it was: $(head -5 <<<"$why")"
            return 1
        fi
        checked=$((checked + 1))
    done
    why=
}

# Programs of neap that work for this test: a hook has its settings in the
# environment, the others have them in their arguments.
ours() {
    local p
    for p in $(pgrep -f "^$NEAP_BUILD/"); do
        if tr '\0' ' ' 2>/dev/null <"/proc/$p/cmdline" | grep -qF "$tmp" ||
            tr '\0' '\n' 2>/dev/null <"/proc/$p/environ" | grep -q "NEAP_HOOK_CONFIG.*$tmp"; then
            echo "$p $(tr '\0' ' ' 2>/dev/null <"/proc/$p/cmdline")"
        fi
    done
}

clean() {
    local i p
    why=
    for ((i = 0; i < 50; i++)); do
        p=$(ours)
        [ -n "$p" ] || break
        sleep 0.1
    done
    [ -z "$p" ] || why+="process: $p; "
    p=$(our_mounts)
    [ "$p" = "$mounts_before" ] || why+="mounts: $p; "
    p=$(losetup -n -O BACK-FILE | grep -cF "$tmp")
    [ "$p" = "$loops_before" ] || why+="loop devices: $p; "
    p=$(find -H "$tmp/state" "$tmp/repo" -name '.tmp-*' 2>/dev/null)
    [ -z "$p" ] || why+="temporary files: $p; "
    p=$(find -H "$tmp/state" -name '*.new' -o -name redo 2>/dev/null)
    [ -z "$p" ] || why+="an update of the block map: $p; "
    [ -z "$why" ]
}

fill_data() { # [FILES [KIB-EACH]]
    python3 - "$data" "${1:-40}" "${2:-400}" <<'PY'
import os, random, sys
top, n, kib = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for i in range(n):
    d = f"{top}/d{i % 5}"
    os.makedirs(d, exist_ok=True)
    with open(f"{d}/f{i}", "wb") as f:
        f.write(os.urandom(kib * 1024 + i * 77))
PY
}

# Files of $data change all the time, in all ways, but do not grow for ever.
start_writer() {
    python3 - "$data" "$seed" <<'PY' &
import os, random, sys, time
top, r = sys.argv[1], random.Random(int(sys.argv[2]))
names = [f"{top}/d{i % 5}/f{i}" for i in range(60)]
while True:
    a, b = r.choice(names), r.choice(names)
    what = r.random()
    try:
        if what < .70:
            with open(a, "r+b" if os.path.exists(a) else "wb") as f:
                f.seek(r.randrange(600) * 1024)
                f.write(r.randbytes(r.choice((1, 100, 4096, 30000))))
        elif what < .78: os.truncate(a, r.randrange(500000))
        elif what < .84: os.rename(a, b)
        elif what < .88: os.unlink(a)
        elif what < .92: os.link(a, b)
        elif what < .95: os.chmod(a, r.choice((0o600, 0o644)))
        else: os.utime(a)
    except OSError:
        pass
    time.sleep(.004)
PY
    writer=$!
    # Until it is python: what is killed on the way there still has our traps.
    while [ "/proc/$writer/exe" -ef /proc/$$/exe ]; do sleep 0.02; done
    on_exit stop_writer
}
stop_writer() {
    [ -n "$writer" ] || return 0
    kill "$writer"
    wait "$writer" 2>/dev/null
    writer=
}

# ---- a backup that dies at a call ----
# All that must hold after a kill; says the first thing that does not.
after_kill() { # BACKUPS-BEFORE
    local all n bad last t wrong
    why=
    all=$(neap --json list docs 2>&1) || {
        why="list fails: $all"
        return 1
    }
    read -r n bad last < <(python3 -c 'import json, sys
l = json.loads(sys.argv[1])
print(len(l), sum("error" in b for b in l), max((b["backup"] for b in l), default=""))' "$all")
    [ "$bad" = 0 ] && { [ "$n" = "$1" ] || [ "$n" = "$(($1 + 1))" ]; } || {
        why="list shows $n backups, $bad of them unreadable; there were $1"
        return 1
    }
    # Its snapshot is there whichever that is (law 2).
    [ -z "$last" ] || [ -d "$(snapshot_of "$last")" ] || {
        why="the last backup is $last; snapshots held: $(held)"
        return 1
    }
    # Otherwise it is the one that was compared before the kill.
    if [ "$n" != "$1" ]; then same_as_snapshot docs "$data" "$last" || return 1; fi
    [ "$(held | wc -l)" -le 2 ] || {
        why="snapshots after the kill: $(held)"
        return 1
    }
    t=$(now_ms)
    out=$(neap --json backup docs 2>"$tmp/err") || {
        why="the next backup: $(cat "$tmp/err")"
        return 1
    }
    run_ms=$(((3 * run_ms + $(now_ms) - t) / 4)) # what else the machine does varies
    read -r last wrong new_bytes all_of_it < <(python3 -c 'import json, sys
d = json.loads(sys.argv[1])
print(d["backup"], d["wrong_blocks"], d["new_bytes"], d["everything_why"] or "")' "$out")
    [ "$wrong" = 0 ] || {
        why="the next backup found wrong blocks: $(cat "$tmp/err")"
        return 1
    }
    [ -z "$all_of_it" ] || afresh=$((afresh + 1))
    [ "$(held)" = "neap-${last/\//-}" ] || {
        why="snapshots after the next backup: $(held)"
        return 1
    }
    same_as_snapshot docs "$data" "$last" && clean
}
new_bytes=0
all_of_it= # why the next backup had to hash everything
run_ms=0
flip=0
afresh=0 # of the next backups, those that had to hash everything

# SEED: the same of each kind, and 2 MB that are new. The blocks of "flip" go
# back and forth: a hash that was left behind takes them for unchanged.
change() {
    flip=$((1 - flip))
    head -c 40960 /dev/zero | tr '\0' $flip | dd of="$data/flip" conv=notrunc status=none
    rm -f "$data"/d0/gone* "$data"/d1/moved*
    head -c 2000000 /dev/urandom >"$data/more"
    head -c 9000 /dev/urandom >"$data/d0/gone$1"
    head -c 9000 /dev/urandom >"$data/d1/moved$1"
    head -c 5000 /dev/urandom | dd of="$data/d2/f2" bs=1 seek=$((RANDOM * 4)) conv=notrunc status=none
}

die_at() { # VAR=VALUE…; the backup dies by the signal
    local st
    if [ ${#disks[@]} != 0 ]; then
        CRASH_PROGRAM=neap power -1 env CRASH_STOP=1 LD_PRELOAD="$crash_so" "$@" \
            "$NEAP" -q -c "$tmp/neap.yaml" backup docs >"$tmp/killed.log" 2>&1
    else
        crashing "$@" "$NEAP" -q -c "$tmp/neap.yaml" backup docs >"$tmp/killed.log" 2>&1
    fi
    st=$?
    # One backup makes a few calls more than another: a number may be past its end.
    case $1 in CRASH_AT=*) [ $st != 0 ] || return 0 ;; esac
    [ $st = 137 ]
}

killed_at() { # NAME VAR=VALUE…
    local name=$1 n before stored
    shift
    change "$RANDOM"
    n=$(count_files)
    before=$(du -sb "$tmp/repo/packs" | cut -f1)
    if ! die_at "$@"; then
        is "not killed: $(cat "$tmp/killed.log")" "" "$name"
        return
    fi
    stored=$(($(du -sb "$tmp/repo/packs" | cut -f1) - before))
    after_kill "$n"
    is "$?${why:+ $why}" 0 "$name: all is well"
    # Whole packs that were stored are used, not stored again.
    stored=$((stored + new_bytes))
    [ "$stored" -lt 3500000 ] || is "$stored bytes were stored in all" "" "$name"
}

list_calls() { # sets $calls: how many a backup makes; $tmp/calls names them
    change 0
    rm -f "$tmp/calls"
    crashing CRASH_LOG="$tmp/calls" "$NEAP" -q -c "$tmp/neap.yaml" backup docs >/dev/null || exit 1
    # What came of it is compared as every other.
    if ! same_as_snapshot; then is "$why" "" "a backup that was not killed"; fi
    calls=$(wc -l <"$tmp/calls")
    diag "$calls calls in a backup: $(cut -d' ' -f1 "$tmp/calls" | sort | uniq -c | tr -s ' \n' ' ')"
}

# At any of them: CRASH_CALLS=all tries every one (minutes).
killed_at_calls() { # NUMBER
    local k list i
    list_calls
    if [ "${CRASH_CALLS:-}" = all ]; then
        list=$(seq "$calls")
    else
        list=$(for ((i = 0; i < ${CRASH_CALLS:-$1}; i++)); do pick "$calls" && echo $((picked + 1)); done)
    fi
    for k in $list; do
        killed_at "at call $k ($(sed -n "${k}p" "$tmp/calls" | sed "s|$tmp/||"))" CRASH_AT="$k"
    done
}

# ---- power ----
# The kernel's own way to pretend it: from that ioctl on the file system writes
# nothing more, not even its journal, and the next mount finds what was durable.
# Lazy about all that nobody asked for, so that much is lost.
disks=()
power_disk() { # DIR ext4|xfs
    mkdir -p "$1"
    case $2 in
    ext4) truncate -s 1G "$1.img" && mkfs.ext4 -q -m 0 "$1.img" ;;
    xfs) truncate -s 1G "$1.img" && mkfs.xfs -q "$1.img" ;;
    esac || exit 1
    local dev
    dev=$(losetup --find --show "$1.img") || exit 1
    [ ${#disks[@]} != 0 ] || on_exit remove_disks
    [ -x "$tmp/power" ] ||
        cc -D_GNU_SOURCE -O1 -o "$tmp/power" "$NEAP_TOP/tests/crash/power.c" || exit 1
    disks+=("$1 $2 $dev")
    power_mount "$1" "$2" "$dev" || exit 1
}

remove_disks() {
    local d dir dev
    for d in "${disks[@]}"; do
        read -r dir _ dev <<<"$d"
        umount "$dir"
        losetup -d "$dev"
        rm -f "$dir.img"
    done
    disks=()
}

power_mount() { # DIR TYPE DEVICE
    local how=rw
    [ "$2" != ext4 ] || how=commit=300,noauto_da_alloc
    mount -t "$2" -o "$how" "$3" "$1"
}

# CMD in the foreground (power.c says more); the power went: its status is 137,
# and the disks are back.
power() { # MILLISECONDS|-1 [CMD…]
    local d dir type dev i rc ms=$1
    shift
    "$tmp/power" "$ms" "${disks[@]%% *}" -- "$@"
    rc=$?
    [ $rc = 137 ] || [ $# = 0 ] || return $rc
    for d in "${disks[@]}"; do
        read -r dir type dev <<<"$d"
        for ((i = 0; i < 100; i++)); do
            umount "$dir" 2>/dev/null && break
            sleep 0.05
        done
        # Somebody's mount namespace may hold it a little longer.
        for ((i = 0; i < 300; i++)); do
            [ -e "/sys/fs/$type/${dev#/dev/}" ] || break
            sleep 0.1
        done
        [ ! -e "/sys/fs/$type/${dev#/dev/}" ] || skip_all "$dev is still in use by another mount namespace"
        power_mount "$dir" "$type" "$dev" || exit 1
    done
    return $rc
}
