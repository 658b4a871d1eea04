#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# No room, no quota, a medium that turned read-only or answers with errors, from
# any call on that a backup makes on the repository or on the state folder, or
# at just one. It fails, or it was committed already and says what is amiss;
# what is listed is whole, nothing is held that should not be, and with room
# again the next backup is right. (full-disk.sh fills real file systems.)
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/lib-crash.sh"
own_mounts "$@"
crash_job
need_cmd cc
starve_so=$tmp/starve.so
cc -D_GNU_SOURCE -shared -fPIC -O1 -o "$starve_so" "$NEAP_TOP/tests/crash/starve.c" -ldl || exit 1
keep_manifests
fill_data 20 150
diag "CRASH_SEED=$seed"
neap -q backup docs >/dev/null && same_as_snapshot || exit 1
starving() { STARVE_PROGRAM=neap LD_PRELOAD=$starve_so env "$@" "$NEAP" -c "$tmp/neap.yaml" backup docs; }

# What an update of the block map leaves unused is given back as far as that can
# be done, and pages that cannot be written in one call are written singly.
may_be_silent() { [[ $1 == pwrite*" "*/blockmap/hashes ]]; }

# Whoever asks is told, by the exit status or by a warning.
starved_at() { # NAME CALL VAR=VALUE…
    local name=$1 k=$2 n now rc said call b
    shift 2
    change "$RANDOM"
    n=$(count_files)
    rm -f "$tmp/calls.now"
    starving STARVE_AT="$k" STARVE_LOG="$tmp/calls.now" "$@" >"$tmp/starved.log" 2>&1
    rc=$?
    said=$(cat "$tmp/starved.log")
    call=$(sed -n "${k}p" "$tmp/calls.now")
    name+=" at call $k (${call//$tmp\//})"
    now=$(count_files)
    why=
    case $rc in
    0)
        [ "$now" = $((n + 1)) ] || why="it says that it is done, and is not listed"
        [ "$where" = state ] || [ -z "$call" ] || why="it says that it is done"
        [ -z "$call" ] || may_be_silent "$call" || [[ $said == *warning:*"$tmp/"* ]] ||
            why="it does not say what is amiss: $said"
        ;;
    1)
        [[ $said == *docs*"$tmp/"* ]] || why="it names no job or no path: $said"
        if [ "$now" != "$n" ]; then
            # Its name could not be made durable: that it is done is not said,
            # and the older snapshot stays the one to go on from.
            [[ $call == fsync*/repo/backups* || $call == fsync*/repo ]] || why="it failed, and is listed"
            [[ $said == *"is listed, but"* ]] || why="it does not say that it is listed: $said"
            b=$(last_backup)
            [ -n "$why" ] || ! same "$b" "$data" "$data" ||
                manifest "$data" >"$tmp/manifests/${b/\//-}"
        fi
        [ -n "$why" ] || [ "$(held)" = "neap-${before/\//-}" ] || why="snapshots: $(held)"
        ;;
    *) why="exit status $rc: $said" ;;
    esac
    all_of_it=
    [ -n "$why" ] || { [ $rc = 1 ] && [ "$now" != "$n" ]; } || after_kill "$n"
    if [ $rc = 1 ] && [ "$now" != "$n" ] && [ -z "$why" ]; then
        sleep 1
        neap -q backup docs 2>"$tmp/err" || why="the next backup: $(cat "$tmp/err")"
        [ -n "$why" ] || { same_as_snapshot && clean; }
    fi
    before=$(last_backup)
    is "$why" "" "$name: all is well ($rc${all_of_it:+, then everything is hashed: $all_of_it})"
}
before=$(last_backup)

# Each call on the repository, then on the state folder: CRASH_CALLS=all tries
# all of them with ENOSPC from there on.
for where in repo state; do
    change 0
    rm -f "$tmp/calls"
    starving STARVE_UNDER="$tmp/$where/" STARVE_LOG="$tmp/calls" >/dev/null 2>&1 || exit 1
    same_as_snapshot || is "$why" "" "a backup that is not starved"
    before=$(last_backup)
    calls=$(wc -l <"$tmp/calls")
    diag "$where: $calls calls: $(cut -d' ' -f1 "$tmp/calls" | sort | uniq -c | tr -s ' \n' ' ')"
    list=$(seq "$calls")
    [ "${CRASH_CALLS:-}" = all ] ||
        list=$(for ((i = 0; i < ${CRASH_CALLS:-10}; i++)); do pick "$calls" && echo $((picked + 1)); done)
    turn=0
    for k in $list; do
        # No space, quota, read-only, an error; for good, or once.
        errors=(28 28 122 30 5)
        errno=${errors[turn % 5]}
        [ "${CRASH_CALLS:-}" != all ] || errno=28
        once=()
        [ $((turn++ % 3)) != 2 ] || once=(STARVE_ONCE=1)
        starved_at "$where, error $errno${once:+ once}" "$k" \
            STARVE_UNDER="$tmp/$where/" STARVE_ERRNO="$errno" ${once+"${once[@]}"}
    done
    # The kernel says only once that what it had taken is lost.
    for k in $(grep -n '^fsync .*#' "$tmp/calls" | cut -d: -f1); do
        starved_at "$where, a lost write" "$k" \
            STARVE_UNDER="$tmp/$where/" STARVE_ERRNO=5 STARVE_ONCE=1
    done
done
all_right
is "$?${why:+ $why}" 0 "each backup that is listed is right ($checked)"
diag "$afresh of the next backups had to hash everything"
done_testing
