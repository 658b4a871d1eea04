# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Words for test scripts that speak TAP. Source it; end with done_testing.
#
#   ok CMD…            one test, named by $what (set with `what=…`) or by CMD
#   is GOT WANT NAME   · like GOT GLOB NAME · status WANT CMD…
#   skip REASON        one test that cannot run; a failure with NEAP_NO_SKIP=1
#   skip_all REASON    the whole script
#   need_root, need_cmd CMD…     skip_all where missing
#   on_exit CMD…       clean-up, run in reverse order however the script ends
#   neap_tmp           a fresh folder in $tmp, removed at the end
#   make_btrfs DIR SIZE          loop device, btrfs, mounted at DIR
#   start_pg DIR [SETTING…]      a cluster of our own: data in DIR/data, socket
#                      in DIR; pg SQL…, stop_pg, kill_pg speak to it
set -u
export LC_ALL=C

NEAP_TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
NEAP_BUILD=${NEAP_BUILD:-build/release}
case $NEAP_BUILD in /*) ;; *) NEAP_BUILD=$NEAP_TOP/$NEAP_BUILD ;; esac

# The program itself: a version manager's python3 is a script that takes half a
# second to find it, and tests call it often.
python_at=$(python3 -c 'import sys; print(sys.executable)' 2>/dev/null) && PATH=${python_at%/*}:$PATH

tap_n=0
tap_bad=0
tap_done=
what=
out=      # of the last `status`
err=
tmp=      # of the last neap_tmp
config=   # what `hook` hands over
cleanups=()

# What commands say goes through files of one name and this depth, and is read
# without a process: to start one takes a tenth of a second in tests/lab/machine.
# Without a name, tap_finish would remove what lies around.
tap_said=$(mktemp) || exit 1
tap_depth=0

# FILE VARIABLE: as $(cat FILE) would set it
slurp() {
    local text=
    IFS= read -rd '' text <"$1"
    while [[ $text == *$'\n' ]]; do text=${text%$'\n'}; done
    printf -v "$2" %s "$text"
}

diag() { printf '%s\n' "$*" | sed 's/^/# /'; }

on_exit() {
    local c
    printf -v c '%q ' "$@"
    cleanups+=("$c")
}

tap_finish() {
    local rc=$? i
    trap - EXIT
    trap '' INT TERM HUP
    for ((i = ${#cleanups[@]} - 1; i >= 0; i--)); do
        eval "${cleanups[i]}" >/dev/null 2>&1 ||
            echo "# clean-up failed: ${cleanups[i]}"
    done
    rm -f "$tap_said"*
    if [ -z "$tap_done" ]; then
        echo "Bail out! ended early with status $rc"
        exit 1
    fi
    exit "$tap_bad"
}
trap tap_finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

result() { # STATUS NAME
    tap_n=$((tap_n + 1))
    if [ "$1" = 0 ]; then
        echo "ok $tap_n - $2"
    else
        echo "not ok $tap_n - $2"
        tap_bad=1
    fi
    what=
    return 0
}

# In this very shell, not in a substitution: what CMD registers with on_exit
# and the variables that it sets must stay.
ok() {
    local rc name=${what:-$*} f=$tap_said.$((++tap_depth))
    "$@" >"$f" 2>&1
    rc=$?
    tap_depth=$((tap_depth - 1))
    result "$rc" "$name"
    [ "$rc" = 0 ] || diag "status $rc: $(cat "$f")"
}

is() {
    if [ "$1" = "$2" ]; then
        result 0 "$3"
    else
        result 1 "$3"
        diag "got:    $1"
        diag "wanted: $2"
    fi
}

like() {
    # The pattern is meant to be one.
    # shellcheck disable=SC2053
    if [[ $1 == $2 ]]; then
        result 0 "$3"
    else
        result 1 "$3"
        diag "got:         $1"
        diag "wanted like: $2"
    fi
}

# status WANT CMD…: the exit status is WANT. Output stays in $out and $err.
status() {
    local want=$1 rc name f=$tap_said.$((++tap_depth))
    shift
    name=${what:-exit status $want: $*}
    "$@" >"$f" 2>"$f.err"
    rc=$?
    tap_depth=$((tap_depth - 1))
    slurp "$f" out
    slurp "$f.err" err
    is "$rc" "$want" "$name"
    [ "$rc" = "$want" ] || diag "stdout: $out" "stderr: $err"
}

skip() {
    if [ "${NEAP_NO_SKIP:-}" = 1 ]; then
        result 1 "${what:-cannot run}: $1"
    else
        tap_n=$((tap_n + 1))
        echo "ok $tap_n - ${what:-} # SKIP $1"
        what=
    fi
}

skip_all() {
    tap_done=1
    if [ "${NEAP_NO_SKIP:-}" = 1 ]; then
        echo "1..1"
        echo "not ok 1 - cannot run: $1"
        tap_bad=1
    else
        echo "1..0 # SKIP $1"
    fi
    exit
}

done_testing() {
    tap_done=1
    echo "1..$tap_n"
    exit
}

need_root() {
    [ "$(id -u)" = 0 ] || skip_all "needs root"
}

need_cmd() {
    local c
    for c; do
        command -v "$c" >/dev/null || skip_all "needs the command $c"
    done
}

need_built() { # PROGRAM below the build folder
    [ -x "$NEAP_BUILD/$1" ] || skip_all "$NEAP_BUILD/$1 is not built"
}

# FIELD of the JSON object on standard input
json() { python3 -c 'import json, sys; print(json.load(sys.stdin).get(sys.argv[1]))' "$1"; }

# Sets $tmp: a command substitution could not register the clean-up.
neap_tmp() {
    tmp=$(mktemp -d /tmp/neap-test.XXXXXX) || exit 1
    chmod 755 "$tmp"
    on_exit rm -rf --one-file-system "$tmp"
}

# pg_ctl waits for a server's process file, not for the server: for a moment
# longer it is at home in its data.
umount_soon() { # DIR
    local i
    for i in {1..50}; do
        umount "$1" && return
        sleep 0.1
    done
    return 1
}

make_btrfs() { # DIR SIZE
    local img=$1.img dev
    mkdir -p "$1" && truncate -s "$2" "$img" &&
        mkfs.btrfs -q "$img" >/dev/null || return 1
    dev=$(losetup --find --show "$img") || return 1
    on_exit rm -f "$img"
    on_exit losetup -d "$dev"
    mount "$dev" "$1" || return 1
    on_exit umount_soon "$1"
}

# ---- a PostgreSQL cluster of our own, never the distribution's ----
pg_bin() {
    local d
    for d in "${PG_BIN:-}" /usr/lib/postgresql/{17,16,15,14,13}/bin; do
        if [ -n "$d" ] && [ -x "$d/initdb" ]; then
            echo "$d"
            return
        fi
    done
    return 1
}

as_pg() {
    if [ "$(id -u)" = 0 ]; then
        setpriv --reuid postgres --regid postgres --init-groups \
            env HOME=/ "$@"
    else
        "$@"
    fi
}

start_pg() { # DIR [SETTING…]; a cluster that is there is started again; $initdb more options
    local dir=$1 s
    shift
    pg_dir=$dir
    [ -n "${pg_bin:=$(pg_bin)}" ] || return 1
    mkdir -p "$dir"
    [ "$(id -u)" != 0 ] || chown postgres: "$dir"
    if [ ! -e "$dir/data" ]; then
        # shellcheck disable=SC2086
        as_pg "$pg_bin/initdb" -D "$dir/data" -U postgres -A peer -N -k ${initdb:-} \
            >"$dir.initdb.log" 2>&1 || return 1
        {
            echo "listen_addresses = ''"
            echo "unix_socket_directories = '$dir'"
            echo "shared_buffers = 16MB"
            for s; do echo "$s"; done
        } | as_pg tee -a "$dir/data/postgresql.conf" >/dev/null
        on_exit stop_pg "$dir"
    fi
    as_pg "$pg_bin/pg_ctl" -D "$dir/data" -l "$dir/server.log" -w -s start
}

stop_pg() { # [DIR]
    local dir=${1:-$pg_dir}
    [ -e "$dir/data/postmaster.pid" ] || return 0
    as_pg "$pg_bin/pg_ctl" -D "$dir/data" -m fast -w -s stop
}

kill_pg() { # [DIR]: as a crash
    local dir=${1:-$pg_dir}
    as_pg "$pg_bin/pg_ctl" -D "$dir/data" -m immediate -w -s stop
}

pg() { # SQL…: psql against it, values only
    local s args=()
    for s; do args+=(-c "$s"); done
    as_pg "$pg_bin/psql" -XAtq -v ON_ERROR_STOP=1 -h "$pg_dir" -U postgres \
        "${args[@]}" postgres
}

# hook NAME VERB [OPTION…], settings from $config
hook() {
    local name=$1
    shift
    NEAP_HOOK_CONFIG=$config "$NEAP_BUILD/hooks/$name" "$@"
}
