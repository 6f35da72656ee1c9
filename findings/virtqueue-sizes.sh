#!/bin/sh
# QEMU 10.0.13, a point release that Debian 13 has, gives each virtqueue 1,024
# entries, whatever the property queue-size of the device says.  The number is
# part of the migration stream, and QEMU 11.1.3 does not take more entries than
# its device has: a machine with a virtio-blk disk that is saved by 10.0.13
# cannot be loaded by 11.1.3 with the same command line, even if that has all
# defaults.  With queue-size=1024 it can be loaded.
#
# Seen:
#     entries of a queue with queue-size=128 in 10.0.13: 1024
#     loading the default disk in 11.1.3: refused
#     loading it with queue-size=1024 in 11.1.3: loaded
#
# SPDX-License-Identifier: GPL-2.0-or-later

. "$(dirname "$0")/common.sh"

# A paused machine with one disk; its monitor's commands are on stdin.
machine()
{
    suite=$1
    options=$2
    shift 2
    qemu "$suite" -accel tcg -S -machine pc-q35-10.0 -m 32 -vga none \
        -blockdev null-co,node-name=disk \
        -device "virtio-blk-pci,id=blk,drive=disk,$options" \
        -qmp stdio "$@"
}

status_of()
{
    printf '%s\n' '{"execute": "qmp_capabilities"}' '{
        "execute": "x-query-virtio-queue-status", "arguments": {
            "path": "/machine/peripheral/blk/virtio-backend",
            "queue": 0}}' '{"execute": "quit"}' |
        machine "$@" 2>&1
}

# Saves the machine with one disk, all defaults
save()
{
    {
        printf '%s\n' '{"execute": "qmp_capabilities"}' '{
            "execute": "migrate", "arguments": {
                "uri": "exec:cat >'"$work/saved"'"}}'
        # An event tells the end; the answer is looked at below.
        until grep -q '"status": "completed"' "$work/told" 2>/dev/null; do
            sleep 0.1
            echo '{"execute": "query-migrate"}'
        done
        echo '{"execute": "quit"}'
    } | machine trixie queue-size=256 >"$work/told" 2>&1
}

# Loads what was saved: "loaded", or "refused"
load()
{
    {
        echo '{"execute": "qmp_capabilities"}'
        until grep -q '"status": "completed"\|exceeds' "$work/told2"; do
            sleep 0.1
            echo '{"execute": "query-migrate"}' || break
        done
        echo '{"execute": "quit"}' || true
    } 2>/dev/null | machine trixie-backports "$1" \
        -incoming "exec:cat $work/saved" >"$work/told2" 2>&1 || true
    if grep -q exceeds "$work/told2"; then
        echo refused
    elif grep -q '"status": "completed"' "$work/told2"; then
        echo loaded
    else
        cat "$work/told2"
    fi
}

fetch trixie qemu-system-x86=1:10.0.13+ds-0+deb13u1 seabios
fetch trixie-backports qemu-system-x86=1:11.1.3+ds-1~bpo13+1 seabios
: >"$work/told2"
expect 'entries of a queue with queue-size=128 in 10.0.13' \
    "$(status_of trixie queue-size=128 |
       sed -n 's/.*"vring-num": \([0-9]*\).*/\1/p')" 1024
save
expect 'loading the default disk in 11.1.3' \
    "$(load queue-size=256)" refused
: >"$work/told2"
expect 'loading it with queue-size=1024 in 11.1.3' \
    "$(load queue-size=1024)" loaded
