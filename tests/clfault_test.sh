#!/usr/bin/env bash
# The layer clfault catches what it is there for, and passes what is right.
#   clfault_test.sh LAYER PROBE
set -euo pipefail
layer=$1 probe=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
log=$work/log

under() { # MODE [VARIABLE=VALUE ...]: runs the probe under the layer; $status is its exit status
    status=0
    env OPENCL_LAYERS="$layer" CLFAULT_LOG="$log" "${@:2}" "$probe" "$1" >"$work/out" 2>&1 ||
        status=$?
}
expect() { # STATUS [PATTERN]: of the last run and a line of its report
    if [ "$status" != "$1" ] || ! grep -q -- "${2:-}" "$log"; then
        echo "expected exit status $1 and \"${2:-}\"; got $status and"
        cat "$work/out" "$log"
        exit 1
    fi
}

under clean CLFAULT_GUARD=1 CLFAULT_POISON=1
expect 0 '^calls clEnqueueNDRangeKernel 1$'
under overrun CLFAULT_GUARD=1
expect 86 '^guard of a buffer of 256 bytes overwritten at byte 256$'
under underrun CLFAULT_GUARD=1
expect 86 '^guard of a buffer of 256 bytes overwritten at byte -4$'
under leak
expect 86 '^live buffer 1$'
under fresh CLFAULT_POISON=1
expect 0
[ "$(cat "$work/out")" = ff ]
under clean CLFAULT_TRACE=1
expect 0 '^finish 1 .*clSetKernelArg=2'

under clean
expect 0
total=$(awk '$1 == "total" { print $2 }' "$log")
for ((n = 1; n <= total; n++)); do
    under clean CLFAULT_NTH=$n
    expect 1 "^failed cl[A-Za-z]* -[0-9]* as call $n\$"
    grep -qF "$(awk '$1 == "failed" { print $2 ": " $3 }' "$log")" "$work/out"
    under clean CLFAULT_NTH=$n CLFAULT_STICKY=1
    expect 1 "^failed"
done
under clean CLFAULT_NTH=$((total + 1))
expect 0
under clean CLFAULT_ONLY=clCreateBuffer CLFAULT_NTH=1
expect 1 '^failed clCreateBuffer -4 as call 1$'
