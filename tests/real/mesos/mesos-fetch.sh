#!/bin/bash
# Fetch the library of Apache Mesos 1.11.0 with the ordinary pip client and build what runs a master and agents out of
# it, into a cache directory; print that directory. What is there already is left as it is.
# COTTON_MESOS_CACHE: where to keep it (default ~/.cache/cotton-mesos)
#
# For Linux on x86-64. Needs what scripts/setup --all installs: g++, binutils, pip, python3, and the libraries libapr1,
# libsasl2-2, libsasl2-modules and libsvn1. See README.md.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
package=mesos.scheduler==1.11.0.linux-x86_64
sha256=84d7ee9af27e912636b139de40257df1ee4f56c201de6bba834278aa1e8fd64c
dest=${COTTON_MESOS_CACHE:-$HOME/.cache/cotton-mesos}
lib=$dest/lib
libexec=$dest/libexec
mkdir -p "$lib" "$libexec"
exec 9>"$dest/.lock"; flock 9           # one fetch at a time
work=$(mktemp -d "$dest/.fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT

if [ ! -e "$lib/libmesos.so" ]; then
    # The package is a plain archive with nothing to install, so pip unpacks it and then fails; --no-clean keeps what
    # it has unpacked.
    download() {
        TMPDIR=$work python3 -m pip download --quiet --no-deps --no-clean --dest "$work" "$package" >>"$work/pip.log" 2>&1 || true
        found=$(find "$work" -name _scheduler.so -print -quit)
    }
    download
    if [ -z "$found" ]; then
        # From 24.1 on (Debian 13), pip refuses the package's version, which is none by today's rules. One before is enough.
        python3 -m pip install --quiet --target "$work/pip" 'pip<24.1' >>"$work/pip.log" 2>&1 || true
        export PYTHONPATH=$work/pip
        download
        unset PYTHONPATH
    fi
    if [ -z "$found" ]; then
        cat "$work/pip.log" >&2
        exit 1
    fi
    echo "$sha256  $found" | sha256sum -c --quiet - >&2
    mv "$found" "$lib/libmesos.so"
fi

# Libraries that the system lacks: OpenSSL 1.0, curl with its old symbol version, and the Python 2 that the library is
# an extension of. None of it is called, so one library with the names is enough; a call ends the process.
if [ ! -e "$lib/libmesos-stubs.so" ]; then
    nm -D --undefined-only "$lib/libmesos.so" | awk -v map="$work/stubs.map" '
        $2 ~ /@(OPENSSL|CURL)_/ || $2 ~ /^_?Py/ {
            split($2, part, "@")
            name = part[1]
            if (name ~ /^PyExc_|^_Py_NoneStruct$/) print "char " name "[64];"
            else print "void " name "(void) { missing(\"" name "\"); }"
            if (part[2] != "") names[part[2]] = names[part[2]] " " name ";"
        }
        END { for (version in names) print version " { global:" names[version] " };" > map }' >"$work/stubs.body"
    {
        echo '#include <stdio.h>'
        echo '#include <stdlib.h>'
        echo 'static void missing(const char* name) { fprintf(stderr, "%s is not available\n", name); abort(); }'
        cat "$work/stubs.body"
    } >"$work/stubs.c"
    gcc -shared -fPIC -fno-builtin -w -Wl,--version-script="$work/stubs.map" -o "$work/stubs.so" "$work/stubs.c" >&2
    mv "$work/stubs.so" "$lib/libmesos-stubs.so"
fi
for name in libssl.so.1.0.0 libcrypto.so.1.0.0 libcurl.so.4; do
    [ -L "$lib/$name" ] || ln -s libmesos-stubs.so "$lib/$name"
done

if [ ! "$libexec/mesos-node" -nt "$here/node.cpp" ]; then
    # shellcheck disable=SC2016  # $ORIGIN is for the loader
    g++ -std=c++17 -O1 -fPIC -Wall -o "$work/mesos-node" "$here/node.cpp" -L "$lib" -l:libmesos.so \
        -Wl,--allow-shlib-undefined -Wl,--disable-new-dtags -Wl,-rpath,'$ORIGIN/../lib' >&2
    mv "$work/mesos-node" "$libexec/mesos-node"
fi
[ -L "$libexec/mesos-containerizer" ] || ln -s mesos-node "$libexec/mesos-containerizer"
cmp -s "$here/mesos-fetcher" "$libexec/mesos-fetcher" || install -m 755 "$here/mesos-fetcher" "$libexec/mesos-fetcher"
echo "$dest"
