#!/usr/bin/env bash
# Runs a program under oclgrind: out of bounds, then data races, each a run of its own, because many
# findings of one kind hide the others. Oclgrind exits 0 on findings: what counts is that its log is
# there and empty. Uninitialised memory is left to the guarded runs, which fill new buffers with
# NaN: oclgrind 21.10 does not know LLVM's `freeze`, and at -O0, where there is none, it crashes on
# the wide vectors of the CPU kernels and takes minutes for the others.
#   oclgrind_test.sh run COMMAND...
#   oclgrind_test.sh control PROBE        the faulty kernels of clfault_probe must be caught
set -euo pipefail
command -v oclgrind >/dev/null || { echo "oclgrind is not installed"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
log=$work/log

under() { # OPTION COMMAND...: the findings, if any, are in $log
    rm -f "$log"
    oclgrind ${1:+"$1"} --log "$log" "${@:2}"
    [ -e "$log" ] || { echo "oclgrind wrote no log"; exit 1; }
}

action=$1
shift
if [ "$action" = run ]; then
    for option in "" --data-races; do
        echo "oclgrind $option $*"
        under "$option" "$@"
        if [ -s "$log" ]; then
            head -n 60 "$log"
            exit 1
        fi
    done
else
    for fault in overrun: race:--data-races uninit:--uninitialized; do
        under "${fault#*:}" "$1" clean
        [ ! -s "$log" ] || { echo "a finding where nothing is wrong"; cat "$log"; exit 1; }
        under "${fault#*:}" "$1" "${fault%:*}"
        [ -s "$log" ] || { echo "oclgrind did not catch: $fault"; exit 1; }
    done
fi
