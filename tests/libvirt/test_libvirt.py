#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""libvirt with our binary as its <emulator>: what every host does with it.

QTEST_QEMU_BINARY names the emulator.
"""

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'functional'))
# pylint: disable=wrong-import-position
import tap                                          # noqa: E402
from guest import disk, image                       # noqa: E402
from guest.disk import MIB                          # noqa: E402
from guest.errors import RunError                   # noqa: E402

from daemon import Daemon                           # noqa: E402
from domain import Domain, disk_xml                 # noqa: E402

QEMU = Path(os.environ.get('QTEST_QEMU_BINARY',
                           'qemu-system-x86_64')).absolute()
SIZE = 96 * MIB
GROWN = 128 * MIB

IOTUNE = '''
      <iotune>
        <total_iops_sec>90000</total_iops_sec>
      </iotune>
'''
# Attributes of the device that libvirt has no words for.
OVERRIDE = '''
  <qemu:override>
    <qemu:device alias='virtio-disk0'>
      <qemu:frontend>
        <qemu:property name='iothreads' type='string' value='auto'/>
      </qemu:frontend>
    </qemu:device>
  </qemu:override>
'''


def make_image(path):
    disk.run_img(disk.find_qemu_img(QEMU), 'create', '-q', '-f', 'qcow2',
                 path, SIZE)
    return path


class LibvirtTest(unittest.TestCase):
    """The tests are parts of one story and follow each other."""

    @classmethod
    def setUpClass(cls):
        # A socket's path must be short.
        folder = tempfile.TemporaryDirectory(prefix='lv-', dir='/tmp')
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        cls.daemon = Daemon(cls.folder)
        cls.addClassCleanup(cls.daemon.stop)
        cls.daemon.start()
        cls.domain = Domain(cls.daemon, 'guest', QEMU, image.guest_image(), [
            disk_xml(make_image(cls.folder / 'first'), 'vda',
                     "queues='4' queue_size='128' iothread='1' "
                     "discard='unmap' detect_zeroes='unmap'", inside=IOTUNE)])

    def assert_refused(self, words, *command):
        with self.assertRaisesRegex(RunError, words):
            self.domain.virsh(*command)

    # The story

    def test_01_probing(self):
        said = self.daemon.virsh('domcapabilities', '--virttype', 'qemu',
                                 '--emulatorbin', QEMU)
        self.assertIn(f'<path>{QEMU}</path>', said)
        self.assertIn("<iothreads supported='yes'/>", said)
        self.assertIn('<value>virtio</value>', said)

    def test_02_start(self):
        self.domain.define()
        self.domain.start()
        self.assertEqual(self.domain.queues('virtio-disk0'),
                         ['iothread1'] * 4)
        self.assertEqual(self.domain.run('ls /sys/block/vda/mq | wc -l'), '4')
        path = '/machine/peripheral/virtio-disk0'
        self.assertEqual(
            self.domain.qmp('qom-get', path=path, property='queue-size'), 128)
        self.domain.write(0)
        self.domain.verify()

    def test_03_statistics(self):
        stats = self.domain.stats('--block', '--iothread')
        for counter in ('rd.bytes', 'wr.bytes'):
            self.assertGreaterEqual(int(stats[f'block.0.{counter}']), 4 * MIB)
        self.assertEqual(int(stats['block.0.capacity']), SIZE)
        self.assertEqual(stats['iothread.count'], '2')
        lines = self.domain.virsh('domblkstat', 'vda').splitlines()
        counts = {words[1]: int(words[2])
                  for words in (line.split() for line in lines)}
        self.assertGreaterEqual(counts['wr_bytes'], 4 * MIB)
        self.assertIn('No errors found', self.domain.virsh('domblkerror'))

    def test_04_iotune(self):
        self.assertIn('90000', self.domain.virsh('blkdeviotune', 'vda'))
        self.domain.virsh('blkdeviotune', 'vda', '--live',
                          '--total-iops-sec', 80000)
        self.domain.write(1)
        stats = self.domain.qmp('query-block')
        self.assertIn(80000, [entry['inserted']['iops'] for entry in stats])
        self.domain.virsh('blkdeviotune', 'vda', '--live',
                          '--total-iops-sec', 0)
        self.domain.verify()

    def test_05_iothreads(self):
        self.assertEqual(self.domain.iothreads(), [1, 2])
        self.domain.virsh('iothreadadd', 7)
        self.domain.virsh('iothreadset', 7, '--poll-max-ns', 5000)
        self.assertEqual(self.domain.iothreads(), [1, 2, 7])
        self.assertEqual(self.domain.stats('--iothread')
                         ['iothread.7.poll-max-ns'], '5000')
        self.domain.virsh('iothreaddel', 7)
        self.assertEqual(self.domain.iothreads(), [1, 2])
        self.assert_refused('in use|being used', 'iothreaddel', 1)

    def test_06_attach_and_detach(self):
        path = self.folder / 'second.xml'
        path.write_text(disk_xml(make_image(self.folder / 'second'), 'vdb',
                                 "queues='2' iothread='2'"))
        self.domain.virsh('attach-device', path, '--live')
        self.domain.await_guest('[ -e /dev/vdb ]')
        self.assertEqual(self.domain.queues('virtio-disk1'),
                         ['iothread2'] * 2)
        self.domain.write(0, 'vdb')
        self.domain.verify()
        self.domain.virsh('detach-device', path, '--live')
        self.domain.await_guest('[ ! -e /dev/vdb ]')
        self.assertNotIn('vdb', self.domain.virsh('domblklist'))
        del self.domain.stamps['vdb', 0]
        self.domain.verify()

    def test_07_blockresize(self):
        self.domain.virsh('blockresize', 'vda', f'{GROWN}B')
        self.domain.await_guest(
            f'[ $(cat /sys/block/vda/size) = {GROWN // 512} ]')
        self.domain.write(SIZE // (4 * MIB))
        self.domain.verify()

    def test_08_snapshot_and_commit(self):
        load = self.domain.begin_load(SIZE - 8 * MIB)
        self.domain.virsh('snapshot-create-as', 'one', '--disk-only',
                          '--diskspec', f'vda,file={self.folder}/snapshot')
        self.assertEqual(len(self.domain.disk_files('vda')), 2)
        self.domain.write(2)
        self.domain.virsh('blockcommit', 'vda', '--active', '--wait',
                          '--pivot')
        self.assertEqual(self.domain.disk_files('vda'),
                         [f'{self.folder}/first'])
        self.assertGreater(self.domain.end_load(load), 0)
        self.domain.verify()

    def test_09_discard(self):
        """What the guest discards or zeroes takes no room on the host."""
        image_file = self.folder / 'first'
        for release in ('blkdiscard -o 41943040 -l 4194304 /dev/vda',
                        'dd if=/dev/zero of=/dev/vda bs=1M seek=40 count=4 '
                        'oflag=direct'):
            with self.subTest(release):
                self.domain.run('dd if=/dev/urandom of=/dev/vda bs=1M '
                                'seek=40 count=4 oflag=direct 2>&1')
                before = image_file.stat().st_blocks
                self.domain.run(release + ' 2>&1')
                self.assertLessEqual(image_file.stat().st_blocks,
                                     before - (3 * MIB >> 9))
        self.domain.verify()

    def test_09_restart_of_libvirtd(self):
        self.daemon.restart()
        self.assertEqual(self.domain.virsh('domstate'), 'running')
        self.assertEqual(self.domain.iothreads(), [1, 2])
        self.domain.write(3)
        self.domain.verify()

    def test_10_poweroff(self):
        self.domain.poweroff()
        self.domain.virsh('undefine', '--snapshots-metadata')
        disk.run_img(disk.find_qemu_img(QEMU), 'check', '-q',
                     self.folder / 'first')


class OwnIothreadsTest(unittest.TestCase):
    """IOThreads that the device has made are none of libvirt's."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix='lv-', dir='/tmp')
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        cls.daemon = Daemon(cls.folder)
        cls.addClassCleanup(cls.daemon.stop)
        cls.daemon.start()
        cls.domain = Domain(
            cls.daemon, 'own', QEMU, image.guest_image(),
            [disk_xml(make_image(cls.folder / 'disk'), 'vda', "queues='2'")],
            iothreads=1, extra=OVERRIDE)
        cls.domain.define()
        cls.daemon.virsh('start', 'own', '--paused')

    def own(self):
        """IOThreads that are not libvirt's."""
        return sorted(entry['name'] for entry in
                      self.domain.qmp('qom-list', path='/objects')
                      if entry['type'] == 'child<iothread>'
                      and not entry['name'].startswith('iothread'))

    def assert_all_there(self):
        count = min(2, len(os.sched_getaffinity(0)))
        names = [f'virtio-disk0-iothread{n}' for n in range(count)]
        self.assertEqual(self.own(), names)
        self.assertEqual(set(self.domain.queues('virtio-disk0')), set(names))

    def test_1_libvirt_lists_its_own(self):
        self.assert_all_there()
        self.assertEqual(self.domain.iothreads(), [1])
        stats = self.domain.stats('--iothread')
        self.assertEqual([name for name in stats if '.poll-max-ns' in name],
                         ['iothread.1.poll-max-ns'])

    def test_2_add_and_delete(self):
        self.domain.virsh('iothreadadd', 2)
        self.assertEqual(self.domain.iothreads(), [1, 2])
        self.domain.virsh('iothreaddel', 1)
        self.assertEqual(self.domain.iothreads(), [2])
        self.assert_all_there()

    def test_3_restart_of_libvirtd(self):
        self.daemon.restart()
        self.assertEqual(self.domain.iothreads(), [2])
        self.assert_all_there()

    def test_4_the_device_goes_with_its_own(self):
        self.domain.virsh('detach-disk', 'vda', '--live')
        # No guest system lets the disk go; a reset does.
        self.domain.virsh('reset')
        self.assertEqual(self.domain.disk_files('vda'), [])
        self.assertEqual(self.own(), [])
        self.assertEqual(self.domain.iothreads(), [2])


if __name__ == '__main__':
    tap.main()
