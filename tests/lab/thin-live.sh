#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What a live thin pool's metadata says of a volume with a random life: writes,
# discards, growing, shrinking, snapshots of snapshots.
#   TRACK_ROUNDS=100  TRACK_SEED=1
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/lib-lab.sh"
lab 16M 160M
need_cmd thin_delta
need_built thin-live
rounds=${TRACK_ROUNDS:-100}
seed=${TRACK_SEED:-$(date +%s)}
diag "TRACK_SEED=$seed TRACK_ROUNDS=$rounds"
status 0 "$NEAP_BUILD/thin-live" "${disk[@]}" "$rounds" "$seed"
done_testing
