#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A filesystem on four queues, while all beneath it moves.

    guest   every CPU writes to ext4, forgets, reads and compares
    host    queues go from IOThread to IOThread, all the time;
            mirrors take the disk from image to image, under load;
            the last one does when the guest has unmounted it: its two images
            must be alike then

QTEST_QEMU_BINARY names the emulator.  See scripts/guest for the parts.
"""

import os
import subprocess
import tempfile
import time
import unittest
from itertools import cycle, product
from pathlib import Path

import tap
from guest import accel, disk, image
from guest.disk import MIB
from guest.machine import Machine, spread

QEMU = Path(os.environ.get('QTEST_QEMU_BINARY',
                           'qemu-system-x86_64')).absolute()
VCPUS = QUEUES = 4
SIZE = 96 * MIB
HOPS = 5            # from image to image, under load
DEADLINE = 150      # seconds, for what takes ten on an idle machine

# The places where a queue may run; None is the main loop.
PLACES = ['iothread0', 'iothread1', 'iothread2', None]

# Two loads on each CPU: requests side by side around the page cache, with a
# checksum in every block; and files by way of the cache, compared when it has
# forgotten them.
LOAD = '''
direct()
{
    mkdir -p /mnt/direct$1
    taskset -c $1 fio --name=cpu$1 --directory=/mnt/direct$1 --thread=1 \
        --ioengine=libaio --direct=1 --iodepth=16 --size=1m \
        --bssplit=4k/60:16k/25:64k/15 --rw=randwrite --randrepeat=0 \
        --verify=crc32c --verify_interval=4k --verify_fatal=1
}

cached()
{
    rm -f /mnt/cached$1
    taskset -c $1 dd if=/dev/urandom of=/run/cached$1 bs=64k count=16 &&
    taskset -c $1 dd if=/run/cached$1 of=/mnt/cached$1 bs=64k conv=fsync &&
    echo 1 > /proc/sys/vm/drop_caches &&
    taskset -c $1 cmp /run/cached$1 /mnt/cached$1
}

rounds()
{
    while :; do
        "$@" > /run/said-$1$2 2>&1 || {
            cat /run/said-$1$2
            return 1
        }
        echo "$1 $2"
        [ -e /run/stop ] && return 0
    done
}

pids=
for cpu in 0 1 2 3; do
    rounds direct $cpu & pids="$pids $!"
    rounds cached $cpu & pids="$pids $!"
done
status=0
for pid in $pids; do
    wait $pid || status=1
done
exit $status
'''


class MovesTest(unittest.TestCase):
    """The tests are parts of one story and follow each other."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix='moves-')
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        cls.machine = Machine(QEMU, image.guest_image(), cls.folder,
                              accel.choose('auto', QEMU).name, VCPUS)
        cls.addClassCleanup(cls.machine.kill)
        cls.machine.add_iothreads(3)
        cls.machine.add_disk('disk', disk.scratch(cls.folder / '0', SIZE),
                             QUEUES, spread(QUEUES, 3))
        cls.machine.start()
        cls.machine.run('mkfs.ext4 -q -F /dev/vda && '
                        'mount -t ext4 /dev/vda /mnt')
        cls.moves = cycle(product(PLACES, range(QUEUES)))
        cls.load = cls.machine.begin(LOAD)

    # The host's side

    def move_until(self, done):
        """Move queues until done(), and each to every place at least once."""
        deadline = time.monotonic() + DEADLINE
        count = 0
        while count < QUEUES * len(PLACES) or not done():
            self.assertLess(time.monotonic(), deadline, 'waited in vain')
            place, queue = next(self.moves)
            self.machine.qmp.command(
                '__org.qemu-mq_block-queue-set-iothread',
                id='disk', queue=queue,
                **({'iothread': place} if place else {}))
            self.machine.check()
            count += 1

    def move_until_answered(self, job):
        self.move_until(lambda: self.machine.answered(job))
        return self.machine.wait(job)

    def move_until_all_work(self):
        """Move queues until each of them has got a request."""
        before = self.requests()
        self.move_until(lambda: all(
            now > old for now, old in zip(self.requests(), before)))

    def requests(self):
        return [queue['requests'] for queue in
                self.machine.qmp.command(
                    '__org.qemu-mq_query-block-queues', id='disk')]

    def job_status(self):
        jobs = self.machine.qmp.command('query-jobs')
        for job in jobs:
            self.assertNotIn('error', job)
        return jobs[0]['status'] if jobs else None

    def mirror(self, number):
        """Begin a mirror job and wait until it has copied all."""
        made = disk.scratch(self.folder / str(number), SIZE)
        self.machine.qmp.command('blockdev-add', **made.node(f'node{number}'))
        self.machine.qmp.command(
            'blockdev-mirror', job_id='mirror', target=f'node{number}',
            device=f'node{number - 1}' if number > 1 else 'node-disk',
            sync='full')
        self.move_until(lambda: self.job_status() == 'ready')

    def complete_mirror(self):
        """The disk goes over to the target."""
        self.machine.qmp.command('job-complete', id='mirror')
        self.move_until(lambda: self.job_status() is None)

    def images_differ(self, one, other):
        return subprocess.run(
            [disk.find_qemu_img(QEMU), 'compare', '-f', 'raw', '-F', 'raw',
             self.folder / str(one), self.folder / str(other)],
            capture_output=True, check=False).returncode

    # The story

    def test_1_mirrors_under_load(self):
        for number in range(1, 1 + HOPS):
            self.move_until_all_work()
            self.mirror(number)
            self.move_until_all_work()
            self.complete_mirror()

    def test_2_another_mirror(self):
        self.move_until_all_work()
        self.mirror(HOPS + 1)
        self.move_until_all_work()

    def test_3_no_load_has_failed(self):
        self.move_until_answered(self.machine.begin('touch /run/stop'))
        rounds = self.move_until_answered(self.load).split('\n')
        for cpu in range(VCPUS):
            self.assertIn(f'direct {cpu}', rounds)
            self.assertIn(f'cached {cpu}', rounds)

    def test_4_the_guest_finds_its_files(self):
        self.move_until_answered(self.machine.begin(
            'cd /mnt && md5sum cached* direct*/* > /run/sums && cd / && '
            'umount /mnt'))
        self.complete_mirror()
        self.move_until_answered(self.machine.begin(
            'mount -t ext4 -o ro /dev/vda /mnt && cd /mnt && '
            'md5sum -c /run/sums && cd / && umount /mnt'))

    def test_5_images(self):
        self.machine.shutdown()
        self.assertEqual(self.images_differ(HOPS, HOPS + 1), 0)
        # The images differ, so the disk was in use when it left the first.
        self.assertEqual(self.images_differ(0, HOPS), 1)
        checked = subprocess.run(
            [image.find_program('e2fsck', 'e2fsprogs'), '-f', '-n',
             self.folder / str(HOPS + 1)], capture_output=True, text=True,
            check=False)
        self.assertEqual(checked.returncode, 0,
                         checked.stdout + checked.stderr)


if __name__ == '__main__':
    tap.main()
