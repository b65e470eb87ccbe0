#!/usr/bin/env bash
# Compiles, links and runs osr.h in one language mode, warnings being errors.
#   modes.sh CC STD TREE      CC: gcc, g++, clang, clang++; STD: c99, c11, c17, c++11, c++17
# Exits 77 where the compiler is not installed.
set -euo pipefail
cc=$1 std=$2 tree=$(cd "$3" && pwd)
command -v "$cc" >/dev/null || { echo "$cc is not installed"; exit 77; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
flags=(-Wall -Wextra -pedantic -Wconversion -Wshadow -Werror -I"$tree")
libraries=(-lOpenCL -lm)
case $std in
c++*) language=c++ ;;
*) language=c ;;
esac

compile() { # NAME [flags]: one object in the mode under test
    local name=$1
    shift
    "$cc" -x $language -std="$std" "${flags[@]}" "$@" -c "$tree/tests/modes/$name.c"
}

cd "$work"
echo "$cc $std: one unit with the implementation, two that use it"
compile impl
compile use
compile other
"$cc" impl.o use.o other.o "${libraries[@]}" -o separate
./separate

if [ $language = c++ ]; then
    echo "$cc $std: calling an implementation compiled as C"
    case $cc in clang++) c=clang ;; *) c=gcc ;; esac
    "$c" -std=c99 "${flags[@]}" -c "$tree/tests/modes/impl.c" -o impl_c.o
    "$cc" impl_c.o use.o other.o "${libraries[@]}" -o mixed
    ./mixed
fi

if echo '#include <clblast_c.h>' | "$cc" -x $language -E - >/dev/null 2>&1; then
    echo "$cc $std: with CLBlast"
    compile impl -DOSR_CLBLAST -fsyntax-only
fi

echo "$cc $std: OSR_STATIC in two units"
compile use -DOSR_STATIC
compile other -DOSR_STATIC
"$cc" use.o other.o "${libraries[@]}" -o static
./static
