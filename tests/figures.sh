#!/usr/bin/env bash
# The README's figures on MNIST, as a table; fails when one is below its bar. Takes long.
#   figures.sh OSR DIR_OF_MNIST [further options of osr train]
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: ${0##*/} OSR DIR_OF_MNIST [further options of osr train]" >&2
    exit 2
fi
osr=$1 mnist=$2
shift 2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
missed=0

at_least() { awk -v value="$1" -v bar="$2" 'BEGIN { exit !(value >= bar) }'; }
field() { sed "s/.*\"$1\":\([^,}]*\).*/\1/" <<<"$2"; }

row() { # METHOD SEED LEAST_AUROC [OPTION...]
    local run=$work/$1-$2 score results accuracy auroc note=
    "$osr" train --data "idx:$mnist" --split neal --trial 0 --val 0 --batch 128 --epochs 3 \
        --method "$1" --seed "$2" --out "$run" "${@:4}" >"$work/table"
    score=$(sed -n 's/^score *= *//p' "$run/config.ini")
    results=$(tr '{' '\n' <"$run/eval.json" | grep "\"score\":\"$score\"")
    accuracy=$(field closed_accuracy "$results")
    auroc=$(field auroc "$results")
    at_least "$accuracy" 0.990 || note+=" accuracy < 0.990"
    at_least "$auroc" "$3" || note+=" AUROC < $3"
    [ -z "$note" ] || missed=1
    printf '| %s | %s | %.4f | %.4f | %s |%s\n' "$1" "$2" "$accuracy" "$auroc" "$score" "$note"
}

echo '| method | seed | closed-set accuracy | AUROC | score |'
echo '|---|---|---|---|---|'
for seed in 0 1 2; do
    row cac $seed 0.970 "$@"
done
for method in difair movr ce; do
    row $method 0 0.960 "$@"
done
exit $missed
