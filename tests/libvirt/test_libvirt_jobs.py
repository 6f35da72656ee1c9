#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""libvirt's block jobs, backups, saved guests and migration, under load.

    test_libvirt_jobs.py                this system's libvirt
    test_libvirt_jobs.py --suite=NAME   that of another Debian, in a tree of
                                        its own, which root can make

QTEST_QEMU_BINARY names the emulator, QTEST_QEMU_BINARY_DST one to migrate to
and back from, stock for instance.
"""

import hashlib
import os
import sys
import tempfile
import time
import unittest
import xml.etree.ElementTree as ElementTree
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'functional'))
# pylint: disable=wrong-import-position
import tap                                          # noqa: E402
from guest import disk, image                       # noqa: E402
from guest.disk import MIB                          # noqa: E402

import host                                         # noqa: E402
from daemon import Daemon                           # noqa: E402
from domain import STAMP, VCPUS, Domain, disk_xml   # noqa: E402

QEMU = Path(os.environ.get('QTEST_QEMU_BINARY',
                           'qemu-system-x86_64')).absolute()
OTHER = Path(os.environ.get('QTEST_QEMU_BINARY_DST', QEMU)).absolute()
SIZE = 128 * MIB
LOAD_AT = SIZE - 8 * MIB
UUID = '2d9f6c4e-6b1c-4a1e-9f3b-5f2f0a6d7c11'
PATIENCE = 120
HOST = None

MAPPING = '''
        <iothreads>
          <iothread id='1'><queue id='0'/><queue id='2'/></iothread>
          <iothread id='2'><queue id='1'/><queue id='3'/></iothread>
        </iothreads>
'''
PUSH = '''
<domainbackup mode='push'>
  {incremental}
  <disks>
    <disk name='vda' backup='yes' type='file'>
      <target file='{path}'/><driver type='qcow2'/>
    </disk>
  </disks>
</domainbackup>
'''
PULL = '''
<domainbackup mode='pull'>
  <server transport='unix' socket='{socket}'/>
  <disks>
    <disk name='vda' backup='yes' type='file' exportname='vda'>
      <scratch file='{path}'/>
    </disk>
  </disks>
</domainbackup>
'''
CHECKPOINT = '''
<domaincheckpoint>
  <name>{name}</name>
  <disks><disk name='vda' checkpoint='bitmap'/></disks>
</domaincheckpoint>
'''


def img(*words):
    return disk.run_img(disk.find_qemu_img(QEMU), *words)


def has_mapping(daemon):
    """Does this libvirt give queues to IOThreads?"""
    return daemon.version() >= (10, 0, 0)


class JobsTest(unittest.TestCase):
    """The tests are parts of one story and follow each other.

    One guest all the way, with a load that verifies its writes.
    """

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix='lv-', dir='/tmp')
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        prefix = cls.enter_host() if HOST else None
        cls.daemon = cls.start_daemon('a', prefix)
        cls.second = cls.start_daemon('b', prefix)
        mapped = has_mapping(cls.daemon)
        cls.threads = ['iothread1', 'iothread2'] * 2 if mapped \
            else ['iothread1'] * 4
        cls.make('first')
        cls.disks = [disk_xml(
            cls.folder / 'first', 'vda', "queues='4' discard='unmap' "
            "detect_zeroes='unmap'" + ('' if mapped else " iothread='1'"),
            MAPPING if mapped else '')]
        cls.domain = cls.describe(cls.daemon, QEMU)
        cls.domain.define()
        cls.domain.start()
        cls.domain.write(0)
        cls.load = cls.domain.begin_load(LOAD_AT)

    @classmethod
    def enter_host(cls):
        other, prefix = HOST.enter(cls.folder, {QEMU, OTHER},
                                   QEMU.parents[1])
        cls.addClassCleanup(other.remove)
        # Both write there.
        cls.folder.chmod(0o777)
        return prefix

    @classmethod
    def start_daemon(cls, name, prefix):
        folder = cls.folder / name
        folder.mkdir()
        daemon = Daemon(folder, prefix)
        if HOST:
            HOST.give(folder)
        cls.addClassCleanup(daemon.stop)
        daemon.start()
        return daemon

    @classmethod
    def describe(cls, daemon, emulator):
        return Domain(daemon, 'guest', emulator, image.guest_image(),
                      cls.disks, uuid=UUID)

    @classmethod
    def make(cls, name, size=SIZE):
        img('create', '-q', '-f', 'qcow2', cls.folder / name, size)
        os.chmod(cls.folder / name, 0o666)
        return cls.folder / name

    def file(self, name, text):
        path = self.folder / name
        path.unlink(missing_ok=True)
        path.write_text(text, encoding='utf-8')
        return path

    def check_all(self):
        """What was written is there, the load goes on, queues are at home."""
        self.domain.verify()
        self.assertNotIn(self.load, self.domain.channel.answers,
                         'the load has ended')

    def check_image(self, path, *stamps, image_format='qcow2'):
        """An image of the host holds the guest's stamps."""
        raw = self.folder / 'raw'
        img('convert', '-f', image_format, '-O', 'raw', path, raw)
        with open(raw, 'rb') as file:
            for number in stamps:
                file.seek(number * VCPUS * STAMP)
                data = file.read(VCPUS * STAMP)
                self.assertEqual(hashlib.md5(data).hexdigest() + '  -',
                                 self.domain.stamps['vda', number])
        raw.unlink()

    def test_00_probing(self):
        """libvirt finds in ours whatever it finds in the other."""
        found = {}
        for emulator in (QEMU, OTHER):
            self.daemon.virsh('domcapabilities', '--virttype', 'qemu',
                              '--emulatorbin', emulator)
        for path in self.daemon.folder.glob(
                'cache/libvirt/qemu/cache/capabilities/*.xml'):
            tree = ElementTree.parse(path)
            found[tree.findtext('emulator')] = {
                flag.get('name') for flag in tree.iter('flag')}
        self.assertEqual(set(found), {str(QEMU), str(OTHER)})
        self.assertEqual(found[str(OTHER)] - found[str(QEMU)], set())
        self.assertIn('virtio-blk.queue-size', found[str(QEMU)])

    # Block jobs

    def test_01_start(self):
        self.assertEqual(self.domain.queues('virtio-disk0'), self.threads)
        self.check_all()

    def test_02_blockcopy_and_pivot(self):
        for number, word in ((1, '--async'), (2, '--synchronous-writes')):
            target = self.make(f'copy{number}')
            words = ['--reuse-external', '--wait', '--pivot', '--format',
                     'qcow2', '--transient-job']
            if number == 2:
                words.append(word)
            self.domain.virsh('blockcopy', 'vda', target, *words)
            self.assertEqual(self.domain.disk_files('vda'), [str(target)])
            self.domain.write(number)
            self.check_all()

    def test_03_blockcommit_and_blockpull(self):
        for number in (1, 2):
            self.domain.virsh('snapshot-create-as', f's{number}',
                              '--disk-only', '--no-metadata', '--diskspec',
                              f'vda,file={self.folder}/s{number}')
            self.domain.write(2 + number)
        self.assertEqual(len(self.domain.disk_files('vda')), 3)
        self.domain.virsh('blockcommit', 'vda', '--wait', '--top',
                          self.folder / 's1', '--base', self.folder / 'copy2')
        self.assertEqual(self.domain.disk_files('vda'),
                         [f'{self.folder}/s2', f'{self.folder}/copy2'])
        self.check_all()
        self.domain.virsh('blockpull', 'vda', '--wait')
        self.assertEqual(self.domain.disk_files('vda'),
                         [f'{self.folder}/s2'])
        self.check_all()

    def test_04_blockresize(self):
        self.domain.virsh('blockresize', 'vda', f'{SIZE + 16 * MIB}B')
        self.domain.await_guest(
            f'[ $(cat /sys/block/vda/size) = {(SIZE >> 9) + (16 << 11)} ]')
        self.check_all()

    # Backups

    def await_backup(self):
        deadline = time.monotonic() + PATIENCE
        while 'None' not in self.domain.virsh('domjobinfo'):
            self.assertLess(time.monotonic(), deadline, 'no end of a backup')
            time.sleep(0.1)

    def backup(self, name, since=''):
        incremental = since and f'<incremental>{since}</incremental>'
        path = self.folder / f'{name}.qcow2'
        self.domain.virsh(
            'backup-begin',
            self.file('backup.xml',
                      PUSH.format(path=path, incremental=incremental)),
            self.file('check.xml', CHECKPOINT.format(name=name)))
        self.await_backup()
        return path

    def test_05_push_backup(self):
        full = self.backup('full')
        self.check_image(full, 0, 4)
        self.domain.write(5)
        rest = self.backup('rest', since='full')
        img('rebase', '-u', '-F', 'qcow2', '-b', full, rest)
        self.check_image(rest, 0, 4, 5)
        # Neither QEMU goes back to a snapshot while there are bitmaps.
        for name in ('rest', 'full'):
            self.domain.virsh('checkpoint-delete', name)
        self.check_all()

    def test_06_pull_backup(self):
        socket = self.folder / 'nbd'
        self.domain.virsh('backup-begin', self.file('pull.xml', PULL.format(
            socket=socket, path=self.folder / 'scratch')))
        before = dict(self.domain.stamps)
        self.domain.write(5)        # the backup has what was there before
        self.domain.stamps, after = before, self.domain.stamps
        self.check_image(f'nbd+unix:///vda?socket={socket}', 0, 5,
                         image_format='raw')
        self.domain.stamps = after
        self.domain.virsh('domjobabort')
        self.await_backup()
        self.check_all()

    # The whole guest

    def test_07_snapshot_of_all(self):
        """Memory and disk, inside the image; back to it later."""
        self.domain.virsh('snapshot-create-as', 'all')
        before = dict(self.domain.stamps)
        self.domain.write(5)
        self.domain.virsh('snapshot-revert', 'all')
        self.domain.connect()
        self.domain.stamps = before
        self.check_all()
        self.domain.virsh('snapshot-delete', 'all')

    def test_08_managedsave(self):
        self.domain.virsh('managedsave')
        self.assertEqual(self.domain.virsh('domstate'), 'shut off')
        self.domain.virsh('start')
        self.domain.connect()
        self.assertEqual(self.domain.queues('virtio-disk0'), self.threads)
        self.check_all()

    def test_09_save_to_a_file_for_the_other(self):
        """From one emulator to another by way of a file, and back."""
        for emulator in (OTHER, QEMU):
            self.domain.virsh('save', self.folder / 'saved')
            text = self.daemon.virsh('save-image-dumpxml',
                                     self.folder / 'saved')
            changed = self.file('saved.xml', self.with_emulator(text,
                                                                emulator))
            self.daemon.virsh('restore', self.folder / 'saved', '--xml',
                              changed)
            self.domain.connect()
            self.domain.write(6)
            self.check_all()

    @staticmethod
    def with_emulator(text, emulator):
        return text.replace(f'<emulator>{QEMU}<', f'<emulator>{emulator}<') \
            .replace(f'<emulator>{OTHER}<', f'<emulator>{emulator}<')

    def test_10_migration(self):
        """There to the other emulator, and back to ours."""
        here, there = self.daemon, self.second
        for emulator in (OTHER, QEMU):
            text = self.with_emulator(
                self.domain.virsh('dumpxml', '--migratable'), emulator)
            text = text.replace(f'{here.folder}/', f'{there.folder}/')
            here.virsh('migrate', 'guest', '--live', '--persistent',
                       '--undefinesource', '--unsafe', '--xml',
                       self.file('moved.xml', text), '--persistent-xml',
                       self.folder / 'moved.xml', there.uri,
                       f'unix://{self.folder}/migration')
            self.assertEqual(here.virsh('list', '--all', '--name'), '')
            self.domain.move(there)
            if emulator == QEMU:
                self.assertEqual(self.domain.queues('virtio-disk0'),
                                 self.threads)
            self.domain.write(7)
            self.check_all()
            here, there = there, here

    def test_11_end(self):
        self.assertGreater(self.domain.end_load(self.load), 0)
        files = self.domain.disk_files('vda')
        self.domain.verify()
        self.domain.poweroff()
        self.check_image(files[0], *range(8))
        img('check', '-q', files[0])


if __name__ == '__main__':
    HOST = host.from_arguments()
    tap.main()
