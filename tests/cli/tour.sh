#!/bin/bash
# What docs/architecture.md names as FILE:FUNCTION is there: a tour that leads
# nowhere is worse than none.
. "$(dirname "$0")/../lib.sh"
cd "$NEAP_TOP" || exit 1

mapfile -t stops < <(grep -oE '`(agent|kmod-free|tools)/[a-z_/-]+\.c:[a-z_0-9]+`' \
    docs/architecture.md | tr -d '`' | sort -u)
what="the tour has its stops" ok [ ${#stops[@]} -gt 40 ]
lost=
for s in "${stops[@]}"; do
    # Definitions stand at the start of a line.
    grep -qE "^${s#*:}\(" "${s%%:*}" 2>/dev/null || lost+=" $s"
done
is "$lost" "" "each of them is defined where it says"
for law in 1 2 3 4 5 6 7 8 9 10; do
    what="law $law has a stop" ok awk -v law="$law" '
        /^## Tour/ { on = 1; next } /^## / { on = 0 }
        on && $0 ~ "^" law "\\. " { here = 1 }
        on && $0 ~ /^[0-9]+\. / && $0 !~ "^" law "\\. " { here = 0 }
        here && /\.c:/ { found = 1 }
        END { exit !found }' docs/architecture.md
done
done_testing
