#!/bin/sh
# QEMU loads a VM state from a snapshot of a qcow2 image through the tables of
# the disk, and leaves it there, behind the disk's end.  A disk that then grows
# by a table's reach gets the saved memory as its new data, also when the
# snapshot has been deleted.  A disk that shrinks leaks those clusters.
#
# Seen with 10.0.13 and with 11.1.3:
#     new part of a disk that has grown has data at: 0x20000000
#     check of a disk that has shrunk: leaked clusters
#
# SPDX-License-Identifier: GPL-2.0-or-later

. "$(dirname "$0")/common.sh"

# Makes image $2 of a disk with $3; a machine saves, loads and deletes a
# snapshot, and gives the disk size $4.
resized()
{
    program "$1" usr/bin/qemu-img create -q -f qcow2 "$work/$2" "$3"
    printf '%s\n' 'savevm then' 'loadvm then' 'delvm then' \
        "block_resize disk $4" quit |
        qemu "$1" -S -machine q35 -accel tcg -m 32 -vga none -monitor stdio \
            -drive "if=none,id=disk,format=qcow2,file=$work/$2" \
            -device virtio-blk-pci,drive=disk >"$work/log" 2>&1
}

# Prints where the disk of image $2 has its first data
first_data()
{
    program "$1" usr/bin/qemu-img map "$work/$2" | awk 'NR == 2 { print $1 }'
}

# Prints "leaked clusters" or "No errors"
checked()
{
    program "$1" usr/bin/qemu-img check "$work/$2" 2>&1 |
        grep -o 'leaked clusters\|No errors' | head -n 1
}

show()
{
    resized "$1" grown 512M 1G
    expect "new part of a disk that has grown, in $2, has data at" \
        "$(first_data "$1" grown)" 0x20000000
    resized "$1" shrunk 64M 60M
    expect "check of a disk that has shrunk, in $2" \
        "$(checked "$1" shrunk)" 'leaked clusters'
}

fetch trixie qemu-utils=1:10.0.13+ds-0+deb13u1 \
    qemu-system-x86=1:10.0.13+ds-0+deb13u1
show trixie 10.0.13
fetch trixie-backports qemu-utils=1:11.1.3+ds-1~bpo13+1 \
    qemu-system-x86=1:11.1.3+ds-1~bpo13+1
show trixie-backports 11.1.3
