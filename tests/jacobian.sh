#!/usr/bin/env bash
# What K, weight decay, augmentation and rotation do to the Jacobian norm: a run for each value,
# then osr jacobian over each family of runs (a table here; JSON, CSV and a picture in OUT/FAMILY).
#   jacobian.sh OSR DATA OUT [further options of osr train and, with LIMIT, how many images]
#   LIMIT=200 DIRECTIONS=64 SEEDS='0' jacobian.sh build/release/osr idx:mnist out --epochs 3
# Everything is trained with m-OvR, known classes 0-5 (0-1 to 0-5 for K), and held against the
# unknown classes 6-9. A family whose option this osr does not have is left out with a line.
set -euo pipefail
if [ $# -lt 3 ]; then
    echo "usage: ${0##*/} OSR DATA OUT [further options of osr train]" >&2
    exit 2
fi
osr=$1 data=$2 out=$3
shift 3
options=("$@")
mkdir -p "$out"
known=0-5 runs=()

train() { # NAME [OPTION...]
    local name=$1 seed run
    shift
    for seed in ${SEEDS:-0}; do
        run=$out/$name-$seed
        [ -e "$run/model.safetensors" ] ||
            "$osr" train --data "$data" --method movr --known "$known" --val 0 --seed "$seed" \
                --out "$run" "${options[@]}" "$@" >"$out/log" || { cat "$out/log" >&2; exit 1; }
        runs+=("$run")
    done
}

family() { # NAME
    echo "== $1"
    "$osr" jacobian "${runs[@]}" --method fd --directions "${DIRECTIONS:-64}" \
        --limit "${LIMIT:-200}" --unknown-classes 6-9 --out "$out/$1"
    runs=()
}

has_option() { "$osr" help train | grep -q -- "--$1\b"; }

for last in 1 2 3 4 5; do
    known=0-$last
    train "k$((last + 1))"
done
family classes
known=0-5

for decay in 0 1e-4 1e-3 1e-2; do
    train "decay-$decay" --weight-decay "$decay"
done
family weight-decay

while read -r option values; do
    if ! has_option "$option"; then
        echo "== $option: this osr has no such option"
        continue
    fi
    for value in $values; do
        train "$option-$value" "--$option" "$value"
    done
    family "$option"
done <<<"${FAMILIES:-augment none crop:2 crop:4
rotation 0 0.1}"
