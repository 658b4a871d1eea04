#!/bin/bash
# Every file of the fuzz corpus goes through its target, under ASan and UBSan,
# without libFuzzer. Red when a parser crashes on what once crashed it, or
# takes what it must not. tests/fuzz/run looks for more.
. "$(dirname "$0")/../lib.sh"
cd "$NEAP_TOP" || exit 1
O=${NEAP_BUILD%/*}
neap_tmp
if ! make --no-print-directory -j"$(nproc)" O="$O" VARIANT=asan \
    fuzz-programs >"$tmp/make.log" 2>&1; then
    diag "$(tail -20 "$tmp/make.log")"
    result 1 "the targets build"
    done_testing
fi
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_stack_use_after_return=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
for source in tests/fuzz/fuzz_*.c; do
    name=${source##*/fuzz_}
    name=${name%.c}
    inputs=("tests/fuzz/corpus/$name"/*)
    what="$name has a corpus" ok [ -e "${inputs[0]}" ]
    what="$name takes its ${#inputs[@]} files" \
        ok timeout 60 "$O/asan/fuzz/$name" "${inputs[@]}"
done
for dir in tests/fuzz/corpus/*/; do
    dir=${dir%/}
    [ -e "tests/fuzz/fuzz_${dir##*/}.c" ] ||
        result 1 "$dir belongs to a target"
done
done_testing
