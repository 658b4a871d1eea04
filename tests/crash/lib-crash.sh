# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # out and err are lib.sh's
# Words for the crash tests, on top of lib.sh. One job "files" of a btrfs
# subvolume, unless the script makes its own.
#
#   crash_job [SIZE]     $tmp/fs/data, neap.yaml, `neap init`; $top shows snapshots
#   neap, restore        the two commands with that configuration
#   fill_data, start_writer, stop_writer   content, and what changes it
#   field KEY            of the JSON document in $out
#   last_backup [JOB]    the newest one that `neap list` shows ("" : none)
#   held                 names of the snapshots that the host holds
#   same_as_snapshot     the last backup's extract equals its snapshot ($why)
#   clean                no process, mount, loop device or temporary file of ours
#                        that was not there when crash_job ended ($why)
#   now_ms, pick N       a clock; a number from 0 to N - 1 out of $seed
#   interpose            builds $crash_so; `crashing VAR=VALUE… CMD` runs CMD under
#                        it (interpose.c says which)
#   count                of the backups of docs
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
    on_exit umount "$1"
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

remember() {
    mounts_before=$(grep -F "$tmp" /proc/self/mountinfo)
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

same_as_snapshot() { # [JOB PATH]
    local b s
    b=$(last_backup "${1:-docs}")
    if [ -z "$b" ]; then
        why="there is no backup"
        return 1
    fi
    s=$(snapshot_of "$b")
    if [ ! -d "$s" ]; then
        why="the snapshot of $b is not held"
        return 1
    fi
    same "$b" "${2:-$data}" "$s"
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
    p=$(grep -F "$tmp" /proc/self/mountinfo)
    [ "$p" = "$mounts_before" ] || why+="mounts: $p; "
    p=$(losetup -n -O BACK-FILE | grep -cF "$tmp")
    [ "$p" = "$loops_before" ] || why+="loop devices: $p; "
    p=$(find "$tmp/state" "$tmp/repo" -name '.tmp-*' 2>/dev/null)
    [ -z "$p" ] || why+="temporary files: $p; "
    p=$(find "$tmp/state" -name '*.new' -o -name redo 2>/dev/null)
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
    on_exit stop_writer
}
stop_writer() {
    [ -n "$writer" ] || return 0
    kill "$writer"
    wait "$writer" 2>/dev/null
    writer=
}
