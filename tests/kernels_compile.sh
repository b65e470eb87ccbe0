#!/usr/bin/env bash
# Each kernel file on its own through clang's OpenCL C 1.2 front end, warnings being errors: with
# its own defaults, and in the family (both, unless the name ends in _cpu or _gpu) as the host
# builds it.
#   kernels_compile.sh KERNEL_DIR
set -euo pipefail
command -v clang >/dev/null || { echo "clang is not installed"; exit 77; }
dir=$1 compiled=0

check() { # FILE [options]
    if ! clang -x cl -cl-std=CL1.2 -Xclang -finclude-default-header -Wall -Werror -fsyntax-only \
        -I "$dir" "${@:2}" "$1"; then
        echo "failed: $*"
        exit 1
    fi
    compiled=$((compiled + 1))
}

for file in "$dir"/*.cl; do
    case $file in
    # What the other files share: on its own nothing uses it.
    */common.cl) for family in 0 1; do check "$file" -DOSR_GPU=$family -Wno-unused-function; done ;;
    *_gpu.cl) # the tiles of osr__tiles in osr.h
        for tiles in "128 64 128 64 64 128" "64 32 64 32 32 64" "128 128 256 128 64 256"; do
            read -r bm bn items m n mm <<<"$tiles"
            check "$file" -DOSR_GPU=1 -DLS=64 -DCONV_BM=$bm -DCONV_BN=$bn -DCONV_ITEMS=$items \
                -DMM_M=$m -DMM_N=$n -DMM_ITEMS=$mm
        done
        check "$file" -DOSR_GPU=1 -DLS=64 ;;
    *_cpu.cl) check "$file" && check "$file" -DOSR_GPU=0 -DLS=1 ;;
    *) check "$file" && check "$file" -DOSR_GPU=0 -DLS=1 && check "$file" -DOSR_GPU=1 -DLS=64 ;;
    esac
done
echo "$compiled compilations"
[ "$compiled" -gt 0 ]
