#!/bin/sh
# QEMU 11.1.3 loses data of a qcow2 image that gets another size while writes
# to it are under way.  It writes the tables that are dirty, waits for the
# coroutine that cleans the caches, and then throws the caches away.  Writes
# that were waiting for the image go on during that wait, and what they change
# in the tables is thrown away, too.  10.0.13 does not wait there.
#
# The monitor's "block_resize" drains the image before, so it does not show
# this.  "truncate" of qemu-io does not drain it.
#
# Seen:
#     clusters of 256 that 10.0.13 has lost: none
#     clusters of 256 that 11.1.3 has lost: some
#
# SPDX-License-Identifier: GPL-2.0-or-later

. "$(dirname "$0")/common.sh"

clusters=256

# Prints pattern, place and length of the write with number $1.  Eight of them
# share an L2 table, which maps 512 MiB.
place()
{
    echo "-P $(($1 % 255 + 1)) $(($1 * 64))M 64k"
}

# Commands of qemu-io: the writes, and a new size after every eighth
writes()
{
    i=1
    while [ $i -le $clusters ]; do
        echo "aio_write -q $(place $i)"
        if [ $((i % 8)) = 0 ]; then
            echo "truncate $((100 * 1024 + i))M"
        fi
        i=$((i + 1))
    done
    echo aio_flush
}

reads()
{
    i=1
    while [ $i -le $clusters ]; do
        echo "read -q $(place $i)"
        i=$((i + 1))
    done
}

io()
{
    program "$1" usr/bin/qemu-io -f qcow2 "$work/$1.qcow2" 2>&1
}

# Prints "none" or "some"
lost()
{
    program "$1" usr/bin/qemu-img create -q -f qcow2 "$work/$1.qcow2" 100G
    writes | io "$1" >"$work/log"
    if grep -i 'failed\|error' "$work/log"; then
        return
    fi
    count=$(reads | io "$1" | grep -c 'Pattern verification failed') || true
    echo "$count clusters are lost" >&2
    if [ "$count" = 0 ]; then
        echo none
    else
        echo some
    fi
}

fetch trixie qemu-utils=1:10.0.13+ds-0+deb13u1
fetch trixie-backports qemu-utils=1:11.1.3+ds-1~bpo13+1
expect "clusters of $clusters that 10.0.13 has lost" "$(lost trixie)" none
expect "clusters of $clusters that 11.1.3 has lost" \
    "$(lost trixie-backports)" some
