#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A real Xen whose domU boots from our disk, with GRUB's PV image.

    xl create   kernel = GRUB (Debian's grub-xen-host), no ramdisk
    GRUB        finds boot/grub/grub.cfg on xen/xvda, loads kernel and ramdisk
                from there, closes the disk
    Linux       finds the same disk and connects with rings of its own

The disk is a tar archive, which is a file system to GRUB.
"""

import os
import sys
import tempfile
import unittest
from pathlib import Path

import tap
from guest.arguments import build_folder
from xen.domu import DomU, config
from xen.images import Images
from xen.machine import XenMachine

QEMU = Path(os.environ.get('QTEST_QEMU_BINARY',
                           'qemu-system-x86_64')).absolute()
VCPUS = 2
# It reads a page at a time, and the CPU is emulated.
GRUB_SECONDS = 400

# Without the programs that only other tests want the ramdisk is a small one.
MAKE_DISK = '''
set -e
mkdir -p /images/ramdisk /images/disk/boot/grub
cd /images/ramdisk
cpio -id </domu/initrd 2>/dev/null
rm -rf usr/bin/fio usr/lib/x86_64-linux-gnu
find . | cpio -o -H newc 2>/dev/null >../disk/boot/initrd
cd ../disk
rm -rf ../ramdisk
cat >boot/grub/grub.cfg <<'END'
linux /boot/vmlinux console=hvc0 loglevel=3 mitigations=off panic=1 grub=yes
initrd /boot/initrd
boot
END
cp /domu/vmlinux boot
tar -cf ../xvda boot
rm -rf /images/disk
'''


def say(text):
    print(f'# {text}', file=sys.stderr, flush=True)


def grub_config():
    """xl's configuration of a domU that GRUB boots."""
    lines = config(VCPUS).replace('/domu/vmlinux', '/domu/grub').splitlines()
    return '\n'.join(line for line in lines
                     if not line.startswith(('ramdisk', 'extra')))


class XenGrubTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix='xen-')
        cls.addClassCleanup(folder.cleanup)
        cls.machine = XenMachine(
            QEMU, Images(build_folder(os.environ) / 'xen', QEMU, say).build(),
            Path(folder.name))
        cls.addClassCleanup(cls.machine.kill)
        cls.machine.start()
        say('dom0 is up')
        cls.domu = DomU(cls.machine)
        cls.machine.dom0.run(MAKE_DISK)
        say('the disk is made')
        cls.domu.boot(grub_config(), GRUB_SECONDS)
        say('the domU is up')

    def test_01_grub_has_loaded_it(self):
        self.assertIn('grub=yes', self.domu.run('cat /proc/cmdline'))

    def test_02_the_disk_is_linux_s_now(self):
        disk = self.domu.survey()
        self.assertEqual(len(disk.queues), VCPUS)
        self.assertEqual(disk.features['persistent grants'], 'enabled')
        for queue in disk.queues:
            self.domu.use_alone(disk, queue.number, 16)

    def test_03_it_is_the_same_disk(self):
        """Linux reads from it the kernel that it is."""
        told = self.domu.run('tar -xOf /dev/xvda boot/vmlinux | md5sum')
        self.assertEqual(told, self.machine.dom0.run('md5sum </domu/vmlinux'))

    def test_04_power_off(self):
        self.domu.power_off()


if __name__ == '__main__':
    tap.main()
