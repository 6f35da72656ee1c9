#!/bin/sh
# U-Boot does not find a virtio disk in slot 1 of QEMU's q35 machine, which is
# where QEMU puts the first PCI device without an address.  U-Boot's device tree
# is that of an i440fx machine, which has the ISA bridge in slot 1, and U-Boot
# takes whatever is in that slot for the bridge.  In slot 4 it finds the same
# disk.
#
# Seen, with U-Boot 2025.01:
#     slot 1: no disk
#     slot 4: VirtIO Block Device
#
# SPDX-License-Identifier: GPL-2.0-or-later

. "$(dirname "$0")/common.sh"

# What 'virtio info' says of a disk in a slot.
found()
{
    pid=$work/pid.$1
    mkfifo "$work/in.$1"
    qemu trixie -accel tcg -machine q35 -m 512 -no-reboot \
        -bios "$work/trixie/usr/lib/u-boot/qemu-x86/u-boot.rom" \
        -blockdev null-co,node-name=disk,size=67108864,read-zeroes=on \
        -device "virtio-blk-pci,drive=disk,addr=$1" -serial stdio \
        -pidfile "$pid" \
        <"$work/in.$1" >"$work/log.$1" 2>&1 &
    trap 'kill $(cat "$pid")' EXIT
    exec 3>"$work/in.$1"
    wait_for "$work/log.$1" 'stop autoboot'
    echo >&3
    wait_for "$work/log.$1" '^=> '
    # The marks are not in what is typed.
    echo 'echo mark""1; virtio scan; virtio info; echo mark""2; poweroff' >&3
    wait_for "$work/log.$1" '^mark2'
    exec 3>&-
    tr -d '\r' <"$work/log.$1" | sed '1,/^mark1/d;/^mark2/,$d' |
        grep -o 'VirtIO Block Device' || echo 'no disk'
}

# At most two minutes.
wait_for()
{
    tries=1200
    until tr '\r' '\n' <"$1" | grep -q "$2"; do
        tries=$((tries - 1))
        if [ $tries = 0 ]; then
            echo "U-Boot did not say '$2':" >&2
            cat "$1" >&2
            exit 1
        fi
        sleep 0.1
    done
}

fetch trixie qemu-system-x86=1:10.0.13+ds-0+deb13u1 seabios \
    u-boot-qemu=2025.01-3+deb13u1
expect 'slot 1' "$(found 1)" 'no disk'
expect 'slot 4' "$(found 4)" 'VirtIO Block Device'
