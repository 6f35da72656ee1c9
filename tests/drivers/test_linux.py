#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What the virtio-blk driver of a Linux does with disks of many shapes.

    test_linux.py SUITE         of Debian: bookworm, trixie, trixie-backports

QTEST_QEMU_BINARY names the emulator.  All disks are in one guest.  The tables
in docs/guests.rst are compared with what is seen, or written; see page.py.
"""

import json
import os
import re
import sys
import tempfile
import unittest
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / 'tests/functional'))

import tap                              # noqa: E402
from guest import disk, survey          # noqa: E402
from guest.disk import MIB              # noqa: E402
from guest.machine import Machine       # noqa: E402

import page                             # noqa: E402
from configs import CONFIGS, VCPUS      # noqa: E402
from fetched import Suite               # noqa: E402
from look import look                   # noqa: E402

QEMU = Path(os.environ.get('QTEST_QEMU_BINARY',
                           'qemu-system-x86_64')).absolute()
SIZE = 64 * MIB
HEADS = [['interface', 'ring', 'queues', 'entries', 'interrupts'],
         ['CPUs of the queues', 'features']]

# Each CPU writes an area of its own and reads that of the next CPU.
WRITE_AND_READ = '''
set -e
for cpu in CPUS; do
    dd if=/dev/urandom of=/run/$cpu bs=64k count=8
    taskset -c $cpu dd if=/run/$cpu of=/dev/DISK bs=64k count=8 \\
        seek=$((cpu * 8)) oflag=direct
done 2>/run/errors
for cpu in CPUS; do
    other=$(((cpu + 1) % COUNT))
    taskset -c $other dd if=/dev/DISK bs=64k count=8 skip=$((cpu * 8)) \\
        iflag=direct 2>>/run/errors | cmp - /run/$cpu
done
'''


def say(text):
    print(f'# {text}', file=sys.stderr, flush=True)


def number(config):
    """The name of a disk in the guest and in QEMU."""
    return f'disk{list(CONFIGS).index(config)}'


def interrupts(found):
    """'config, 4': one for changes of the configuration and 4 of queues."""
    own = {queue.vector.entry for queue in found.queues if queue.vector}
    if None in own or not own:
        return 'INTx'
    if found.queues[0].shared:
        return 'config, 1 shared'
    return f'config, {len(own)}'


class LinuxTest(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix='drivers-')
        cls.addClassCleanup(folder.cleanup)
        path = Path(folder.name)
        image = Suite(SUITE, say).linux()
        cls.release = re.match(r'\d+\.\d+', image.release)[0]
        cls.machine = Machine(QEMU, image, path, 'tcg', VCPUS)
        cls.addClassCleanup(cls.machine.kill)
        cls.machine.add_iothreads(2)
        for name, config in CONFIGS.items():
            cls.add_disk(number(name), config, path)
        cls.machine.start()
        say(f'Linux {image.release} is up')
        cls.disks = survey.survey(cls.machine)

    @classmethod
    def add_disk(cls, name, config, folder):
        made = disk.scratch(folder / f'{name}.raw', SIZE)
        cls.machine.add('-blockdev', json.dumps(made.node(f'node-{name}')),
                        '-device', json.dumps(config.device(name)))

    def test_01_all_disks_are_there(self):
        self.assertEqual(sorted(self.disks), sorted(map(number, CONFIGS)))

    def test_02_data(self):
        """What one CPU has written, another reads."""
        for name in CONFIGS:
            with self.subTest(name):
                script = WRITE_AND_READ.replace(
                    'CPUS', ' '.join(map(str, range(VCPUS)))).replace(
                    'COUNT', str(VCPUS)).replace(
                    'DISK', self.disks[number(name)].name)
                self.machine.run(script)

    def test_03_iothreads(self):
        """Each queue in use is served by an IOThread."""
        for name in CONFIGS:
            with self.subTest(name):
                queues = self.machine.qmp.command(
                    '__org.qemu-mq_query-block-queues', id=number(name))
                used = self.disks[number(name)].queues
                self.assertTrue(all('iothread' in queues[queue.number]
                                    for queue in used))

    def test_04_the_page(self):
        rows, usual = [], None
        for name in CONFIGS:
            seen = look(self.machine.qmp, number(name))
            self.assertTrue(seen.live, name)
            usual = usual or seen.features
            found = self.disks[number(name)]
            cpus = [survey.cpu_ranges(queue.cpus) for queue in found.queues]
            rows.append([name, seen.interface, seen.ring, seen.queues(),
                         seen.sizes(), interrupts(found), '; '.join(cpus),
                         page.changed(usual, seen.features)])
        rows[0][-1] = 'as below'
        text = page.tables(HEADS, rows) + '\n\n' + page.features(usual)
        page.check(f'Linux {self.release}', text)

    def test_05_power_off(self):
        self.machine.shutdown()


if __name__ == '__main__':
    SUITE = sys.argv.pop(1)
    tap.main()
