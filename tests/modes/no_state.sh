#!/usr/bin/env bash
# The implementation has no writable data: .data and .bss of its object are empty.
#   no_state.sh CC TREE
# Without position-independent code a table of pointers to constants is read-only data, too.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$1" -std=c99 -O2 -fno-pic -fno-pie -fdata-sections -I"$2" -c "$2/tests/modes/impl.c" \
    -o "$work/impl.o"
size -A "$work/impl.o" | awk '
    /^\.text/ { code += $2 }
    /^\.(data|bss|tdata|tbss)/ && $2 > 0 { print "writable: " $1 ", " $2 " bytes"; bad = 1 }
    END { if (!code) { print "the object has no code"; bad = 1 }; exit bad }'
