#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A host of Xen domUs: all that a toolstack does, and nothing left behind.

    domU     type   disks
    first    PV     xvda raw, xvdb qcow2 over a backing file, xvdc CD-ROM
    second   PVH    xvda, xvdb raw, xvdc qcow2 (PV with Xen 4.17)
    third    PV     the same; it is destroyed and crashes, again and again

QTEST_QEMU_BINARY names the binary, XEN_SUITE the release of Debian whose Xen,
dom0 and kernel are run ("bookworm": Xen 4.17, "trixie": 4.20).
"""

import os
import re
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

import tap
import xen_holds
from guest import workload
from guest.arguments import build_folder
from xen.domu import DISK, DomU, config
from xen.images import Images
from xen.machine import XenMachine
from xen_load import Load

QEMU = Path(os.environ.get('QTEST_QEMU_BINARY',
                           'qemu-system-x86_64')).absolute()
SUITE = os.environ.get('XEN_SUITE', 'trixie')
# No PVH domU starts with Xen 4.17 on QEMU's emulation of SVM.
SECOND_KIND = 'pv' if SUITE == 'bookworm' else 'pvh'
RINGS = 2
VCPUS = 2
DISK_MIB = 64
SETTLE_SECONDS = 120
HOTPLUGS = 20
PAUSES = 20
SAVES = 3
ENDS = 3

WRITE_ALL = '''
set -e
for disk in DISKS; do
    dd if=/dev/urandom of=/run/$disk bs=64k count=4 2>/dev/null
    dd if=/run/$disk of=/dev/$disk bs=64k oflag=direct 2>/dev/null
done
'''
READ_ALL = '''
set -e
for disk in DISKS; do
    dd if=/dev/$disk bs=64k count=4 iflag=direct 2>/dev/null |
        cmp - /run/$disk
done
'''


def say(text):
    print(f'# {text}', file=sys.stderr, flush=True)


def disk(vdev, target, words='format=raw,access=rw'):
    return f'{words},backendtype=qdisk,vdev={vdev},target=/images/{target}'


def domu_config(name, disks, kind='pv'):
    return config(VCPUS, name, disks, kind).replace(
        '"preserve"', '"destroy"') + (
        f'device_model_args = ["-global", "xen-disk.num-queues={RINGS}"]\n')


class XenHostTest(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix='xen-')
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        images = Images(build_folder(os.environ) / f'xen-{SUITE}', QEMU, say,
                        SUITE)
        # PVH needs nested paging.  The clock counts instructions, so that a
        # busy machine does not make the toolstack's time limits expire.
        cls.machine = XenMachine(QEMU, images.build(), cls.folder,
                                 dom0_mib=2048, domus=4,
                                 more=['-cpu', 'qemu64,+svm,+npt',
                                       '-icount', 'shift=2,sleep=off'])
        cls.addClassCleanup(cls.machine.kill)
        cls.machine.start()
        cls.dom0 = cls.machine.dom0
        found = cls.dom0.run('uname -r; xl info')
        say('dom0: Linux ' + found.split()[0] + ', Xen '
            + re.search(r'xen_version\s*: (\S+)', found)[1])
        cls.first = DomU(cls.machine, 'first')
        cls.second = DomU(cls.machine, 'second')
        cls.third = DomU(cls.machine, 'third')
        cls.load = Load(cls.first, VCPUS, RINGS, depth=16)

    # What is held

    def holds(self):
        return xen_holds.host(self.dom0)

    def model_holds(self, domu):
        return xen_holds.model(self.dom0, domu.name)

    def assert_settles(self, before, look):
        """What ends in the background may take its time."""
        end = time.monotonic() + SETTLE_SECONDS
        while True:
            found = xen_holds.grown(before, look())
            if not found or time.monotonic() > end:
                break
            time.sleep(1)
        self.assertEqual(found, {}, 'held before and after')

    def settled(self):
        """What is held once what ends in the background has ended."""
        names = ('channels', 'domains', 'models', 'backends')
        found = self.holds()
        for _ in range(SETTLE_SECONDS):
            time.sleep(1)
            last, found = found, self.holds()
            if all(found[name] == last[name] for name in names):
                break
        return found

    # Images

    def new_qcow2(self, name, *options):
        path = self.folder / name
        subprocess.run([QEMU.parent / 'qemu-img', 'create', '-q', '-f',
                        'qcow2', *options, path, f'{DISK_MIB}M'], check=True)
        self.dom0.put(f'/images/{name}', path.read_bytes())
        path.unlink()

    def new_disks(self, name):
        """Images of the second and of the third domU; their disks."""
        for image in ('a', 'b'):
            self.dom0.run(f'truncate -s {DISK_MIB}M /images/{name}-{image}')
        self.new_qcow2(f'{name}-c')
        return [disk('xvda', f'{name}-a'), disk('xvdb', f'{name}-b'),
                disk('xvdc', f'{name}-c', 'format=qcow2,access=rw')]

    # Data

    def write_all(self, domu, *disks):
        domu.run(WRITE_ALL.replace('DISKS', ' '.join(disks)))

    def read_all(self, domu, *disks):
        domu.run(READ_ALL.replace('DISKS', ' '.join(disks)))

    def rings(self, domu, name):
        return int(domu.run(f'ls /sys/block/{name}/mq | wc -l'))

    def test_01_first_domu(self):
        self.dom0.run(f'''
dd if=/dev/urandom of=/images/base bs=1M count=2 2>/dev/null
truncate -s {DISK_MIB}M /images/base
dd if=/dev/urandom of=/images/cdrom bs=1M count=2 2>/dev/null
truncate -s {DISK_MIB}M /images/first-a''')
        self.new_qcow2('first-b', '-u', '-b', '/images/base', '-F', 'raw')
        self.first.boot(domu_config('first', [
            disk('xvda', 'first-a'),
            disk('xvdb', 'first-b', 'format=qcow2,access=rw,discard'),
            disk('xvdc', 'cdrom', 'format=raw,access=ro,devtype=cdrom')]))
        # Global properties of xen-disk are not those of the CD-ROM drive.
        for name, rings in ('xvda', RINGS), ('xvdb', RINGS), ('xvdc', None):
            self.assertIn(self.rings(self.first, name),
                          [rings] if rings else range(1, VCPUS + 1), name)
            self.assertEqual(
                self.first.features(name)['persistent grants'], 'enabled')

    def test_02_cdrom(self):
        """Read-only, and what it holds."""
        told = self.first.run('cat /sys/block/xvdc/ro; md5sum </dev/xvdc')
        self.assertEqual(told,
                         '1\n' + self.dom0.run('md5sum </images/cdrom'))

    def test_03_backing_file(self):
        """Reads fall through; writes and discards change the overlay only."""
        sums = self.dom0.run('md5sum </images/base')
        self.assertEqual(self.first.run('md5sum </dev/xvdb'), sums)
        self.first.run('''
dd if=/dev/urandom of=/run/new bs=1M count=8 2>/dev/null
dd if=/run/new of=/dev/xvdb bs=1M seek=16 oflag=direct 2>/dev/null
dd if=/dev/xvdb bs=1M skip=16 count=8 iflag=direct 2>/dev/null | cmp - /run/new
''')
        size = 'du -k /images/first-b | cut -f 1'
        before = int(self.dom0.run(size))
        self.first.run('blkdiscard -o $((16 << 20)) -l $((8 << 20)) /dev/xvdb')
        self.assertLess(int(self.dom0.run(size)), before - (6 << 10))
        self.assertEqual(self.first.run('md5sum </dev/xvdb'), sums)
        self.assertEqual(self.dom0.run('md5sum </images/base'), sums)

    def test_04_more_domus(self):
        self.write_all(self.first, 'xvda', 'xvdb')
        self.second.boot(domu_config('second', self.new_disks('second'),
                                     SECOND_KIND), 600)
        for name in ('xvda', 'xvdb', 'xvdc'):
            self.assertEqual(self.rings(self.second, name), RINGS)
        self.write_all(self.second, 'xvda', 'xvdb', 'xvdc')
        self.read_all(self.second, 'xvda', 'xvdb', 'xvdc')
        self.first.select()
        self.read_all(self.first, 'xvda', 'xvdb')
        self.load.begin()

    def test_05_hotplug(self):
        """While the disk beside it is under full load."""
        self.first.new_image('xvdd', 16)

        def once():
            self.first.attach('xvdd')
            self.write_all(self.first, 'xvdd')
            self.read_all(self.first, 'xvdd')
            self.first.detach('xvdd')

        once()
        before = self.model_holds(self.first)
        for number in range(HOTPLUGS):
            once()
            say(f'plugged and unplugged {number + 1} times')
        self.load.progress()
        self.assert_settles(before, lambda: self.model_holds(self.first))

    def test_06_pause(self):
        before = self.model_holds(self.first)
        for _ in range(PAUSES):
            self.first.xl('pause first')
            self.assertIn('p', self.first.state())
            self.first.xl('unpause first')
        say('paused and unpaused')
        self.load.progress()
        self.assert_settles(before, lambda: self.model_holds(self.first))

    def test_07_vcpu_set(self):
        for vcpus in (1, VCPUS):
            self.first.set_vcpus(vcpus)
        # Its threads have been moved to the CPU that stayed.
        said, right = self.load.end()
        self.assertTrue(right, said)
        self.load.begin()

    def test_08_save_and_restore(self):
        for _ in range(SAVES):
            self.first.xl('save first /images/saved')
            self.assertIsNone(self.first.state())
            self.first.restore('/images/saved')
            self.dom0.run('rm /images/saved')
            say('saved and restored')
            self.load.progress()

    def test_09_migrate_to_the_same_host(self):
        """It goes on, also where Xen cannot migrate it."""
        if not self.first.migrate():
            say('this Xen cannot migrate a PV domU')
        self.load.progress()
        said, right = self.load.end()
        self.assertTrue(right, said)
        self.read_all(self.first, 'xvda', 'xvdb')

    def end_third(self, end, times):
        """End it under full load; all but the data is as before."""
        disks = self.new_disks('third')
        before = None
        for _ in range(times):
            self.third.boot(domu_config('third', disks), 600)
            load = Load(self.third, VCPUS, RINGS, depth=16)
            load.begin()
            end()
            self.dom0.run('while xl domid third; do usleep 100000; done '
                          '>/dev/null 2>&1')
            # The first time fills caches of dom0.
            before = before or self.settled()
            say('the third domU has ended')
            self.assert_settles(before, self.holds)

    def test_10_destroy(self):
        self.end_third(lambda: self.third.xl('destroy third'), 1 + ENDS)

    def test_11_crash(self):
        self.end_third(
            lambda: self.third.begin('echo c >/proc/sysrq-trigger'), 1 + ENDS)

    def test_12_the_others_have_their_data(self):
        self.first.select()
        self.read_all(self.first, 'xvda', 'xvdb')
        self.second.select()
        self.read_all(self.second, 'xvda', 'xvdb', 'xvdc')


if __name__ == '__main__':
    tap.main()
