#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A real Xen whose domU has its disk from our device model, in one boot.

QTEST_QEMU_BINARY names the binary: it emulates the machine on which Xen
runs, and it is the device model in dom0.  XEN_DISK_EXPECT=stock expects
what QEMU's own Xen disk can do, and so shows that the rest of the test does
not depend on ours.
"""

import os
import sys
import tempfile
import unittest
from pathlib import Path

import tap
from guest import workload
from guest.arguments import build_folder
from guest.disk import MIB
from xen.domu import DISK, NAME, DomU
from xen.images import Images, MODEL_NAME
from xen.machine import XenMachine
from xen_load import Load

QEMU = Path(os.environ.get('QTEST_QEMU_BINARY',
                           'qemu-system-x86_64')).absolute()
STOCK = os.environ.get('XEN_DISK_EXPECT') == 'stock'
VCPUS = 4
QUEUES = 1 if STOCK else VCPUS
FEATURE = 'disabled' if STOCK else 'enabled'
DISK_MIB = 64
VERIFY = 4 * MIB

LARGE = '''
[large]
filename=/dev/xvda
ioengine=libaio
direct=1
thread=1
rw=write
bs=1M
iodepth=4
size=4M
offset=16M
fsync=4
verify=crc32c
verify_interval=4096
'''


def say(text):
    print(f'# {text}', file=sys.stderr, flush=True)


class XenDiskTest(unittest.TestCase):
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
        cls.domu.create(VCPUS, DISK_MIB)
        say('the domU is up')
        # Its rate is low, so that what is done meanwhile is not slow.
        cls.load = Load(cls.domu, VCPUS, QUEUES, rate=6)

    def check_negotiated(self, disk, queues=QUEUES):
        self.assertEqual(disk.features['persistent grants'], FEATURE)
        self.assertEqual(disk.features['indirect descriptors'], FEATURE)
        self.assertEqual([queue.number for queue in disk.queues],
                         list(range(queues)))
        self.assertEqual(sorted(cpu for queue in disk.queues
                                for cpu in queue.cpus), list(range(VCPUS)))
        channels = [queue.vector.entry for queue in disk.queues]
        self.assertEqual(len(set(channels)), queues)

    def check_channels(self, disk):
        """Each queue's requests complete on its own event channel.

        Linux lists the channels queue by queue, but not after a restore."""
        lines = []
        for queue in disk.queues:
            raised = self.domu.use_alone(disk, queue.number, 16)
            self.assertEqual(len(raised), 1, raised)
            lines += raised
        self.assertEqual(sorted(lines), list(range(len(disk.queues))))

    def check_data(self, disk):
        done = workload.write_and_verify(self.domu, disk, VCPUS, VERIFY)
        self.assertEqual(done.errors, [])
        self.assertEqual(done.checked, VERIFY // workload.BLOCK)

    def test_01_negotiated(self):
        self.check_negotiated(self.domu.survey())

    def test_02_event_channels(self):
        self.check_channels(self.domu.survey())

    def test_03_random_writes(self):
        self.check_data(self.domu.survey())

    def test_04_large_writes(self):
        result = workload.fio(self.domu, LARGE, 120)
        self.assertEqual(result.errors, [])
        self.assertEqual(workload.total(result.jobs, 'read', 'io_bytes'),
                         4 * MIB)

    def test_05_an_iothread_works(self):
        before = self.domu.iothread_times()
        self.domu.run('dd if=/dev/xvda of=/dev/null bs=4k count=64 '
                      'iflag=direct')
        after = self.domu.iothread_times()
        self.assertGreater(sum(after.values()), sum(before.values()))

    def test_06_attach_and_detach_while_busy(self):
        self.load.begin()
        self.domu.new_image('xvdb', 16)
        self.domu.attach('xvdb')
        self.domu.run('''
set -e
dd if=/dev/urandom of=/run/second bs=64k count=8
dd if=/run/second of=/dev/xvdb bs=64k oflag=direct
dd if=/dev/xvdb bs=64k count=8 iflag=direct of=/run/second.back
cmp /run/second /run/second.back''')
        self.load.progress()
        self.domu.detach('xvdb')
        self.load.progress()

    def test_07_failed_attach(self):
        """A disk that cannot be opened leaves its name to one that can be."""
        self.domu.new_image('xvdb', 4)
        self.domu.attach_in_vain('xvdb', DISK.replace('raw', 'qcow2'))
        self.domu.xl(f'block-detach {self.domu.name} xvdb')
        self.domu.attach('xvdb')
        self.domu.detach('xvdb')
        self.load.progress()

    def test_08_pause_and_unpause(self):
        self.domu.xl(f'pause {NAME}')
        self.assertIn('p', self.domu.state())
        self.domu.xl(f'unpause {NAME}')
        self.load.progress()

    def test_09_save_and_restore(self):
        self.domu.xl(f'save {NAME} /images/saved')
        self.assertIsNone(self.domu.state())
        self.domu.restore('/images/saved')
        self.load.progress()
        said, right = self.load.end()
        self.assertTrue(right, said)

    def test_10_as_before_after_restore(self):
        disk = self.domu.survey()
        self.check_negotiated(disk)
        self.check_channels(disk)
        self.check_data(disk)

    def test_11_another_frontend(self):
        """Fewer rings than offered, with more pages each."""
        self.domu.replace_driver(max_queues=2, max_ring_page_order=2)
        disk = self.domu.survey()
        # Stock shows its features when a frontend has already looked
        if not STOCK:
            self.assertEqual(disk.ring_pages, 4)
        self.check_negotiated(disk, min(2, QUEUES))
        self.check_data(disk)

    def test_12_power_off(self):
        """Nothing stays behind: no device model, no disk in xenstore."""
        self.domu.power_off()
        self.assertEqual(self.machine.dom0.run(
            f'pidof {MODEL_NAME}; '
            'xenstore-ls -f /local/domain/0/backend/qdisk 2>/dev/null; true'),
            '')


if __name__ == '__main__':
    tap.main()
