#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A Linux guest on virtio-blk disks of several shapes, in one boot.

QTEST_QEMU_BINARY names the emulator.  See scripts/guest for the parts.
"""

import os
import subprocess
import tempfile
import unittest
from pathlib import Path

import tap
from guest import accel, disk, image, survey, workload
from guest.disk import MIB
from guest.errors import RunError
from guest.machine import Machine, spread

QEMU = Path(os.environ.get('QTEST_QEMU_BINARY',
                           'qemu-system-x86_64')).absolute()
VCPUS = 4
SIZE = 64 * MIB
VERIFY = 8 * MIB

# name: (num-queues, queues by IOThread, further properties).
# Lists leave an IOThread out by being empty; add_disk() skips it.
SHAPES = {
    'four': (4, [[0, 2], [1, 3]], {}),
    'swapped': (4, [[1], [], [0, 2, 3]], {}),
    'two': (2, [[1], [0]], {}),
    'one': (1, [[], [0]], {}),
    'eight': (8, spread(8, 3), {}),
    'legacy': (4, spread(4, 2), {'disable_modern': True,
                                 'disable_legacy': 'off'}),
    'packed': (4, spread(4, 3), {'packed': True}),
    'vectors': (4, spread(4, 2), {'vectors': 2}),
    'qcow2': (4, spread(4, 2), {}),
    'full': (2, spread(2, 2), {}),
}


def qcow2(folder, name):
    path = folder / f'{name}.qcow2'
    subprocess.run([disk.find_qemu_img(QEMU), 'create', '-q', '-f', 'qcow2',
                    path, str(SIZE)], check=True)
    return disk.Disk(path, 'qcow2', SIZE)


class FullDisk(disk.Disk):
    """The first write finds no space; the next one does."""

    def node(self, name):
        return {'node-name': name, 'driver': 'blkdebug',
                'image': super().node(f'{name}-image'),
                'inject-error': [{'event': 'none', 'iotype': 'write',
                                  'errno': 28, 'once': True}]}


def make_disk(folder, name):
    if name == 'qcow2':
        return qcow2(folder, name)
    made = disk.scratch(folder / f'{name}.raw', SIZE)
    return FullDisk(made.path, 'raw', SIZE) if name == 'full' else made


class GuestTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix='guest-')
        cls.addClassCleanup(folder.cleanup)
        path = Path(folder.name)
        cls.machine = Machine(QEMU, image.guest_image(), path,
                              accel.choose('auto', QEMU).name, VCPUS)
        cls.addClassCleanup(cls.machine.kill)
        cls.machine.add_iothreads(3)
        for name, (queues, mapping, properties) in SHAPES.items():
            cls.machine.add_disk(name, make_disk(path, name), queues,
                                 mapping, **properties)
        cls.machine.start()
        cls.disks = survey.survey(cls.machine)

    def test_01_all_disks_are_there(self):
        self.assertEqual(set(self.disks), set(SHAPES))

    def test_02_queues(self):
        """As many as offered, but no more than CPUs."""
        for name, (queues, _, _) in SHAPES.items():
            with self.subTest(name):
                self.assertEqual([q.number for q in self.disks[name].queues],
                                 list(range(min(queues, VCPUS))))

    def test_03_every_cpu_has_a_queue(self):
        for name in SHAPES:
            with self.subTest(name):
                cpus = [cpu for queue in self.disks[name].queues
                        for cpu in queue.cpus]
                self.assertEqual(sorted(cpus), list(range(VCPUS)))

    def test_04_vectors(self):
        """Entry 0 of the MSI-X table is for changes of configuration."""
        for name in SHAPES:
            if name == 'vectors':
                continue
            with self.subTest(name):
                queues = self.disks[name].queues
                self.assertEqual([q.vector.entry for q in queues],
                                 [q.number + 1 for q in queues])
                self.assertFalse(any(q.shared for q in queues))

    def test_05_too_few_vectors_are_shared(self):
        queues = self.disks['vectors'].queues
        self.assertTrue(all(queue.shared for queue in queues))
        self.assertEqual({queue.vector.entry for queue in queues}, {1})

    def test_06_each_queue_alone(self):
        """Its interrupt rises, no other does; its IOThread works."""
        for name, (_, mapping, _) in SHAPES.items():
            with self.subTest(name):
                found = self.disks[name]
                before = survey.refresh(self.machine, found)
                workload.trace(self.machine, found)
                after = survey.refresh(self.machine, found)
                for queue in found.queues:
                    n = queue.number
                    self.assertGreater(after[n], before[n])
                    self.assertEqual(queue.others, [])
                    self.assertIn(n, mapping[int(queue.iothread[8:])])

    def test_07_a_full_disk_stops_the_guest(self):
        """One line says so; the request is tried again afterwards."""
        job = self.machine.begin(
            f"dd if=/dev/zero of=/dev/{self.disks['full'].name} bs=1M "
            'count=4 oflag=direct')
        with self.assertRaises(RunError) as caught:
            self.machine.wait(job)
        self.assertRegex(str(caught.exception),
                         'full.* stopped the guest: No space left')
        self.machine.qmp.command('cont')
        self.machine.wait(job)

    def test_08_written_data(self):
        """Written from each CPU, read back through another's queue."""
        for name, found in self.disks.items():
            with self.subTest(name):
                done = workload.write_and_verify(self.machine, found, VCPUS,
                                                 VERIFY)
                self.assertEqual(done.errors, [])
                self.assertEqual(done.checked, VERIFY // workload.BLOCK)

    def test_09_damage_is_noticed(self):
        """fio's check finds a block that was damaged on purpose."""
        found = self.disks['four']
        workload.write(self.machine, found, VCPUS, VERIFY)
        self.machine.run(f'dd if=/dev/zero of=/dev/{found.name} bs=4k seek=77 '
                         'count=1 oflag=direct')
        done = workload.verify(self.machine, found, VCPUS, VERIFY)
        self.assertIn('verify', ' '.join(done.errors))

    def test_10_filesystem(self):
        name = self.disks['four'].name
        self.machine.run(f'''
set -e
mkfs.ext4 -q -F /dev/{name}
mount -t ext4 /dev/{name} /mnt
for cpu in 0 1 2 3; do
    taskset -c $cpu dd if=/dev/urandom of=/mnt/$cpu bs=64k count=32 &
done
wait
(cd /mnt; md5sum 0 1 2 3) > /run/sums
umount /mnt
echo 3 > /proc/sys/vm/drop_caches
mount -t ext4 /dev/{name} /mnt
cd /mnt; md5sum -c /run/sums; cd /
umount /mnt''')

    def test_11_scripts_side_by_side(self):
        slow = self.machine.begin('while ! [ -e /run/go ]; do usleep 10000; '
                                  'done; echo slow')
        self.assertEqual(self.machine.run('echo quick; touch /run/go'),
                         'quick\n')
        self.assertEqual(self.machine.wait(slow), 'slow\n')

    def test_12_a_failing_script_says_why(self):
        with self.assertRaises(RunError) as caught:
            self.machine.run('echo reason; exit 3')
        self.assertIn('status 3', str(caught.exception))
        self.assertEqual(caught.exception.details, ['reason'])

    def test_13_power_off(self):
        self.machine.shutdown()
        self.assertEqual(self.machine.process.returncode, 0)

    def test_14_an_ended_qemu_is_one_line(self):
        with self.assertRaises(RunError) as caught:
            self.machine.run('true', timeout=5)
        self.assertNotIn('\n', str(caught.exception))


if __name__ == '__main__':
    tap.main()
