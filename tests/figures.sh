#!/usr/bin/env bash
# The README's figures, each with its bar; 1 when one is below it. Takes long, goes on where it was.
#   figures.sh OSR SET DATA OUT [further options of osr protocol]
# DATA as osr train --data has it. The grids, whose tables have every setting, are OUT/SET-*:
#   mnist-short  idx:DIR     split neal, trial 0: 3 epochs of cac (three seeds), difair, movr, ce
#   mnist-cac    idx:DIR     split neal, trials 0 and 1: CAC's recipe in 10 and 3 epochs
#   mnist-jacobian idx:DIR   norms of the first model of mnist-cac: finite differences against exact
#   mnist-arpl   idx:DIR     split arpl, trial 0: 10 epochs of ce, difair, arpl, movr
#   cifar10      folder:DIR  split arpl, trial 0: 15 epochs of ce and cac, with their curves
set -euo pipefail
if [ $# -lt 4 ]; then
    echo "usage: ${0##*/} OSR mnist-short|mnist-cac|mnist-jacobian|mnist-arpl|cifar10 DATA OUT" \
         "[OPTION...]" >&2
    exit 2
fi
osr=$1 set=$2 data=$3 out=$4
shift 4
more=("$@") missed=0

grid() { # NAME METHODS [OPTION...]
    "$osr" protocol --data "$data" --methods "$2" --out "$out/$set-$1" --val 0 "${@:3}" "${more[@]}"
}

bar() { # NAME METHOD SCORE LEAST_ACCURACY LEAST_AUROC: of the mean over the cells
    awk -F, -v name="$1" -v method="$2" -v score="$3" -v accuracy="$4" -v auroc="$5" '
        NR == 1 { for (i = 1; i <= NF; i++) column[$i] = i; next }
        $column["method"] == method && $column["score"] == score {
            n++; a += $column["closed_accuracy"]; u += $column["auroc"]
        }
        END {
            if (!n) { print name ": no " method " with " score; exit 1 }
            missed = a / n < accuracy || u / n < auroc
            printf "%-8s %-6s %-10s cells %d  accuracy %.4f (bar %s)  AUROC %.4f (bar %s)%s\n", name,
                   method, score, n, a / n, accuracy, u / n, auroc, missed ? "  MISSED" : ""
            exit missed
        }' "$out/$set-$1/cells.csv" || missed=1
}

agreement() { # NAME FIELD MOST [OPTION...]: of finite differences with exact norms, relative
    "$osr" jacobian "$out/mnist-cac-recipe/cac-trial0-seed0" --method both --json --quiet "${@:4}" |
        sed -n "s/.*\"$2\":\([-+.0-9e]*\).*/\1/p" |
        awk -v name="$1" -v field="$2" -v most="$3" '
            { missed = $1 > most || $1 < -most
              printf "%-12s %-10s %.5f (bar %s)%s\n", name, field, $1, most, missed ? "  MISSED" : "" }
            END { exit missed || NR != 1 }' || missed=1
}

case $set in
mnist-short)
    short=(--split neal --trials 0 --batch 128 --epochs 3)
    grid seeds cac "${short[@]}" --seeds 0-2
    grid others difair,movr,ce "${short[@]}"
    bar seeds cac cac 0.990 0.970
    bar others difair difair 0.990 0.960
    bar others movr movr 0.990 0.960
    bar others ce mls 0.990 0.960
    ;;
mnist-cac)
    grid recipe cac --recipe cac --split neal --trials 0,1 --select last \
        --epochs 13 --second-stage 0.2307692308
    bar recipe cac cac 0.994 0.978
    ;;
mnist-jacobian)
    agreement coordinates most 0.001 --limit 25
    agreement directions of_means 0.02 --directions 64 --limit 100 --of logits
    ;;
mnist-arpl)
    ten=(--split arpl --trials 0 --recipe quick --epochs 10 --augment crop:4)
    grid ten ce,difair,arpl "${ten[@]}"
    grid movr movr "${ten[@]}" --analyse 281 --analyse-images 200 --analyse-probes 16
    bar ten ce mls 0 0.960
    bar ten difair difair 0 0.960
    bar ten arpl mls 0 0.960
    bar movr movr movr 0 0.960
    ;;
cifar10)
    arpl=(--split arpl --split-set cifar10 --trials 0 --epochs 15
          --analyse 470 --analyse-images 500 --analyse-probes 4)
    grid ce ce "${arpl[@]}" --recipe vaze --schedule cosine --lr-min 0 --restarts 0 \
        --warmup-epochs 0 --warmup-steps 200 --augment crop:4,flip
    grid cac cac "${arpl[@]}" --recipe cac --select last
    bar ce ce mls 0 0.75
    bar cac cac cac 0 0
    ;;
*)
    echo "${0##*/}: no set \"$set\"" >&2
    exit 2
    ;;
esac
exit $missed
