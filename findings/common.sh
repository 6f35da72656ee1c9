# What the scripts here share: packages of Debian's archive, unpacked in a
# temporary folder that goes when the script ends.
#
#   fetch SUITE PACKAGE=VERSION...
#                              unpack them and all that they depend on
#   program SUITE PATH ARG...  run a program of theirs, with their libraries
#   expect WHAT SEEN WANTED    end with an error unless they are the same
#
# SPDX-License-Identifier: GPL-2.0-or-later

set -eu
export LC_ALL=C

archive=http://deb.debian.org/debian
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

apt_in()
{
    folder=$1
    tool=$2
    shift 2
    "$tool" -q -o Dir::Etc::sourcelist="$folder/sources.list" \
        -o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::preferences=/dev/null \
        -o Dir::Etc::preferencesparts=/dev/null \
        -o Dir::State::lists="$folder/lists" \
        -o Dir::State::status="$folder/status" -o Dir::Cache="$folder/cache" \
        -o APT::Architecture=amd64 -o APT::Architectures=amd64 \
        -o APT::Sandbox::User= -o Debug::NoLocking=1 \
        -o Acquire::Retries=3 \
        -o APT::Install-Recommends=false "$@"
}

fetch()
{
    suite=$1
    shift
    folder=$work/apt-$suite
    mkdir -p "$folder/lists/partial" "$folder/cache/archives/partial" \
        "$folder/debs" "$work/$suite"
    : >"$folder/status"
    for name in "${suite%-*}" "$suite"; do
        case $name in
            *-security) url=$archive-security ;;
            *) url=$archive ;;
        esac
        echo "deb [signed-by=$keyring] $url $name main"
    done | uniq >"$folder/sources.list"
    echo "fetching packages of Debian $suite" >&2
    apt_in "$folder" apt-get update >/dev/null
    # A version that has left the archive is an error here.
    apt_in "$folder" apt-get -s -t "$suite" install "$@" >"$folder/plan"
    sed -n 's/^Inst \([^ ]*\) (\([^ ]*\).*/\1=\2/p' "$folder/plan" \
        >"$folder/wanted"
    (cd "$folder/debs" &&
     apt_in "$folder" apt-get download $(cat "$folder/wanted") >/dev/null)
    for package in "$folder"/debs/*.deb; do
        # As on an installed system, bin, sbin and lib are below usr.
        dpkg-deb --fsys-tarfile "$package" |
            tar -C "$work/$suite" -x --no-same-owner \
                --transform='s,^\./\(bin\|sbin\|lib\|lib64\)/,./usr/\1/,' \
                --exclude=./usr/share/doc --exclude=./usr/share/man
    done
    rm -rf "$folder/debs"
}

program()
{
    root=$work/$1
    path=$2
    shift 2
    libraries=$root/usr/lib/x86_64-linux-gnu
    "$libraries/ld-linux-x86-64.so.2" \
        --library-path "$libraries:$libraries/pulseaudio:$libraries/ceph" \
        "$root/$path" "$@"
}

qemu()
{
    suite=$1
    shift
    QEMU_MODULE_DIR=$work/$suite/usr/lib/x86_64-linux-gnu/qemu \
        program "$suite" usr/bin/qemu-system-x86_64 \
        -L "$work/$suite/usr/share/qemu" -L "$work/$suite/usr/share/seabios" \
        -nodefaults -no-user-config -display none "$@"
}

expect()
{
    echo "$1: $2"
    if [ "$2" != "$3" ]; then
        echo "That was otherwise when this was written: $3" >&2
        exit 1
    fi
}
