#!/bin/sh
# With as many queues as CPUs, Linux 6.12 gives queue N of a virtio-blk disk to
# CPU N.  Linux 7.3 does not: of four queues, CPUs 1, 3, 2 and 0 use queues 0 to
# 3.  So if the thread that serves queue N is pinned beside the host CPU of vCPU
# N, this may be the wrong place.  In the guest, /sys/block/vda/mq/N/cpu_list
# tells which CPUs use queue N.
#
# Seen, with four vCPUs and four queues:
#     Linux 6.12: 0:0 1:1 2:2 3:3
#     Linux 7.3: 0:1 1:3 2:2 3:0
#
# SPDX-License-Identifier: GPL-2.0-or-later

. "$(dirname "$0")/common.sh"

DRIVERS='virtio virtio_ring virtio_pci_modern_dev virtio_pci_legacy_dev
    virtio_pci virtio_blk'

# busybox and the disk's driver; init prints the queues and powers off.
make_initrd()
{
    root=$work/init.$1
    mkdir -p "$root/bin" "$root/proc" "$root/sys" "$root/dev" "$root/modules"
    cp "$work/trixie/usr/bin/busybox" "$root/bin"
    for driver in $DRIVERS; do
        found=$(find "$work/$1/usr/lib/modules" -name "$driver.ko*")
        case $found in
        *.xz) xz -dc "$found" >"$root/modules/$driver.ko" ;;
        *.ko) cp "$found" "$root/modules" ;;
        esac
    done
    cat >"$root/init" <<END
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for driver in $(echo $DRIVERS); do
    insmod /modules/\$driver.ko 2>/dev/null
done
cd /sys/block/vda/mq
echo "queues: \$(for n in *; do echo "\$n:\$(cat \$n/cpu_list)"; done |
    sort -n | tr '\\n' ' ')end" >/dev/ttyS0
poweroff -f
END
    chmod +x "$root/init"
    (cd "$root" && find . |
        program trixie usr/bin/cpio -o -H newc 2>/dev/null) >"$work/initrd.$1"
}

# "queue:CPUs" of each queue with the kernel of a release
queues()
{
    make_initrd "$1"
    kernel=$(find "$work/$1/boot" "$work/$1/usr/lib/modules" \
                  -name 'vmlinuz*' 2>/dev/null | head -n 1)
    qemu trixie -accel tcg -machine q35 -cpu max -smp 4 -m 512 -no-reboot \
        -serial stdio -blockdev null-co,node-name=disk,read-zeroes=on \
        -device virtio-blk-pci,drive=disk,num-queues=4 \
        -kernel "$kernel" -initrd "$work/initrd.$1" \
        -append 'console=ttyS0 panic=1' </dev/null >"$work/log.$1" 2>&1 || true
    sed -n 's/.*queues: \(.*\) end.*/\1/p' "$work/log.$1" | head -n 1
}

fetch trixie qemu-system-x86=1:10.0.13+ds-0+deb13u1 seabios cpio \
    linux-image-amd64=6.12.117-1 busybox-static
fetch trixie-backports linux-image-amd64=7.3.4-1~bpo13+1
expect 'Linux 6.12' "$(queues trixie)" '0:0 1:1 2:2 3:3'
expect 'Linux 7.3' "$(queues trixie-backports)" '0:1 1:3 2:2 3:0'
