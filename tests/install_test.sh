#!/usr/bin/env bash
# Installs into a temporary prefix and builds against that from CMake (C and C++) and pkg-config.
#   install_test.sh CMAKE BUILD_DIR SOURCE_DIR VERSION
set -euo pipefail
cmake=$1 build=$2 source=$3 version=$4
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
modes=$source/tests/modes

"$cmake" --install "$build" --prefix "$work/prefix" >/dev/null
"$cmake" -S "$source/tests/install" -B "$work/consumer" -DCMAKE_PREFIX_PATH="$work/prefix" \
    -DWANTED_VERSION="$version" -DMODES="$modes" >/dev/null
"$cmake" --build "$work/consumer" >/dev/null
"$work/consumer/from_c"
"$work/consumer/from_cxx"
if [ -e "$work/prefix/bin/osr" ]; then "$work/prefix/bin/osr" --version; fi

export PKG_CONFIG_PATH=$work/prefix/share/pkgconfig
command -v pkg-config >/dev/null || { echo "pkg-config is not installed"; exit 1; }
[ "$(pkg-config --modversion osr)" = "$version" ]
# shellcheck disable=SC2046
cc -std=c99 "$modes/use.c" "$modes/impl.c" -o "$work/from_pc" \
    $(pkg-config --cflags --libs osr)
"$work/from_pc"
