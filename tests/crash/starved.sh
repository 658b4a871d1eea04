#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# No room, no quota, a medium that turned read-only or answers with errors, from
# any call on that a backup makes on the repository or on the state folder, or
# at just one. It fails, or it was committed already and says what is amiss;
# what is listed is whole, nothing is held that should not be, and with room
# again the next backup is right. (full-disk.sh fills real file systems.)
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/lib-crash.sh"
crash_job
need_cmd cc
starve_so=$tmp/starve.so
cc -D_GNU_SOURCE -shared -fPIC -O1 -o "$starve_so" "$NEAP_TOP/tests/crash/starve.c" -ldl || exit 1
keep_manifests
fill_data 20 150
diag "CRASH_SEED=$seed"
neap -q backup docs >/dev/null && same_as_snapshot || exit 1
starving() { STARVE_PROGRAM=neap LD_PRELOAD=$starve_so env "$@" "$NEAP" -q -c "$tmp/neap.yaml" backup docs; }

# Whoever asks is told, by the exit status or by a warning.
starved_at() { # NAME VAR=VALUE…
    local name=$1 n now rc said
    shift
    change "$RANDOM"
    n=$(count)
    starving "$@" >"$tmp/starved.log" 2>&1
    rc=$?
    said=$(cat "$tmp/starved.log")
    why=
    now=$(count)
    case $rc in
    0) [ "$now" = $((n + 1)) ] || why="it said that it was done, and is not listed" ;;
    # Only the last sync can fail with the record there.
    1) [ "$now" = "$n" ] || [ -n "$said" ] || why="it failed and is listed, without a word" ;;
    *) why="exit status $rc" ;;
    esac
    [ $rc = 0 ] || [ -n "$said" ] || why="it failed without a word"
    [ -n "$why" ] || [ $rc = 0 ] || case $said in
    *docs*"$tmp/"*) ;;
    *) why="it names no job or no path: $said" ;;
    esac
    [ -n "$why" ] || [ $rc = 0 ] || [ "$now" != "$n" ] ||
        [ "$(held)" = "neap-$(last_backup | tr / -)" ] || why="snapshots: $(held)"
    [ -n "$why" ] || after_kill "$n"
    is "$why" "" "$name: all is well ($rc${said:+, $(head -1 <<<"$said" | cut -c1-150)})"
}

# Each call on the repository, then on the state folder: CRASH_CALLS=all tries
# all of them with ENOSPC from there on.
for where in repo state; do
    change 0
    rm -f "$tmp/calls"
    starving STARVE_UNDER="$tmp/$where/" STARVE_LOG="$tmp/calls" >/dev/null 2>&1 || exit 1
    same_as_snapshot || is "$why" "" "a backup that is not starved"
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
        starved_at "$where, error $errno${once:+ once} at call $k ($(sed -n "${k}p" "$tmp/calls" | sed "s|$tmp/||"))" \
            STARVE_UNDER="$tmp/$where/" STARVE_AT="$k" STARVE_ERRNO="$errno" ${once+"${once[@]}"}
    done
done
all_right
is "$?${why:+ $why}" 0 "each backup that is listed is right ($checked)"
diag "$afresh of the next backups had to hash everything"
done_testing
