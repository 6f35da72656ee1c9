#!/bin/sh
# A PV dom0 may have more CPUs than the machine: that is what Xen's option
# dom0_max_vcpus=4 on a machine with one CPU asks for, and 'xl vcpu-list' shows
# the four.  Linux 6.1 (Debian 12) uses all of them.  Linux 6.12 (Debian 13)
# uses one: since its CPU topology was rewritten it counts the CPUs of the
# firmware's table (MADT), which is the machine's own.
#
# What is sized by the CPUs of dom0, such as the number of rings of a disk
# backend, shrinks when dom0 is upgraded.
#
# Seen with Xen 4.17 and 4.20, in an emulated machine of one CPU:
#     Linux 6.1 in dom0: 4 CPUs
#     Linux 6.12 in dom0: 1 CPUs
#
# SPDX-License-Identifier: GPL-2.0-or-later

. "$(dirname "$0")/common.sh"

# User space is busybox alone: as init, it prints the CPUs and powers off.
make_initrd()
{
    mkdir -p "$work/init.$1/bin" "$work/init.$1/proc" "$work/init.$1/dev"
    cp "$work/$1"/usr/bin/busybox "$work/init.$1/bin/busybox"
    cat >"$work/init.$1/init" <<'END'
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
echo "CPUs of dom0: $(/bin/busybox grep -c ^processor /proc/cpuinfo)" >/dev/hvc0
/bin/busybox poweroff -f
END
    chmod +x "$work/init.$1/init"
    (cd "$work/init.$1" && find . |
        program bookworm usr/bin/cpio -o -H newc 2>/dev/null) \
        >"$work/initrd.$1"
}

# QEMU, hypervisor, kernel and initrd of a release: how many CPUs dom0 has
cpus()
{
    gunzip -c "$work/$1"/boot/xen-[0-9]*-amd64.gz >"$work/xen.$1"
    make_initrd "$1"
    kernel=$(echo "$work/$1"/boot/vmlinuz-*)
    qemu bookworm -accel tcg,thread=single -machine pc -cpu qemu64 -smp 1 \
        -m 1024 -no-reboot -serial stdio -kernel "$work/xen.$1" \
        -append 'com1=115200,8n1 console=com1 dom0_max_vcpus=4 dom0_mem=768M' \
        -initrd "$kernel console=hvc0 panic=1,$work/initrd.$1" \
        </dev/null >"$work/log.$1" 2>&1 || true
    sed -n 's/.*CPUs of dom0: \([0-9]*\).*/\1/p' "$work/log.$1" | head -n 1
}

fetch bookworm qemu-system-x86=1:7.2+dfsg-7+deb12u18+b3 \
    xen-hypervisor-4.17-amd64=4.17.5+72-g01140da4e8-1 \
    linux-image-amd64=6.1.176-1 busybox-static cpio
fetch trixie xen-hypervisor-4.20-amd64=4.20.4+63-g7abfd2bce2-0+deb13u1 \
    linux-image-amd64=6.12.117-1 busybox-static
expect 'CPUs of dom0 with Linux 6.1' "$(cpus bookworm)" 4
expect 'CPUs of dom0 with Linux 6.12' "$(cpus trixie)" 1
