#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What firmware does with disks of many shapes, and what it leaves to Linux.

    test_firmware.py NAME SUITE     see firmwares.py; bookworm or trixie

QTEST_QEMU_BINARY names the emulator.  Each disk is in a machine of its own.
The tables in docs/guests.rst are compared with what is seen, or written; see
page.py.
"""

import hashlib
import json
import os
import re
import sys
import tempfile
import unittest
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / 'tests/functional'))

import tap                                      # noqa: E402
from guest import survey                        # noqa: E402

import bootdisk                                 # noqa: E402
import history                                  # noqa: E402
import page                                     # noqa: E402
from configs import CONFIGS, VCPUS, Config      # noqa: E402
from console import TalkingMachine              # noqa: E402
from fetched import Suite                       # noqa: E402
from firmwares import FIRMWARE                  # noqa: E402
from look import look                           # noqa: E402

QEMU = Path(os.environ.get('QTEST_QEMU_BINARY',
                           'qemu-system-x86_64')).absolute()
# The one that is paused and moved.
MOVED = 'num-queues=8, packed=on'
DISKS = {**CONFIGS, MOVED: Config(queues=8, properties={'packed': True})}
HEADS = [['read', 'interface', 'ring', 'queues', 'entries', 'MSI-X'],
         ['features', 'left to\nLinux', "Linux's\nqueues"]]
# The place of the features in a row.
FEATURES = 1 + len(HEADS[0])
CHECKED_MIB = 4
# An emulated Linux on a busy host.
LINUX_SECONDS = 400


def say(text):
    print(f'# {text}', file=sys.stderr, flush=True)


class FirmwareTest(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix='drivers-')
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        suite = Suite(SUITE, say)
        packages = [name for kind in FIRMWARE.values()
                    for name in kind.packages]
        root = suite.firmware([*bootdisk.PACKAGES, *packages],
                              bootdisk.LIBRARIES)
        linux = suite.linux()
        cls.release = re.match(r'\d+\.\d+', linux.release)[0]
        cls.firmware = FIRMWARE[NAME](root)
        cls.disk = bootdisk.BootDisk(root, linux, cls.folder)
        cls.rows = {}

    def image(self, config):
        return self.disk.make(config.properties.get('logical_block_size', 512))

    def machine(self, config):
        """A machine, not started."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        machine = TalkingMachine(QEMU, None, folder, 'tcg', VCPUS,
                                 self.firmware.machine)
        self.addCleanup(machine.kill)
        machine.add_iothreads(2)
        # From the page cache: GRUB reads a cluster at a time.
        node = {'node-name': 'node-disk', 'driver': 'raw',
                'file': {'driver': 'file',
                         'filename': str(self.image(config))}}
        machine.add(*map(str, self.firmware.arguments(folder)),
                    *history.arguments(folder),
                    '-blockdev', json.dumps(node),
                    '-device', json.dumps(config.device('disk')))
        return machine

    def linux(self, machine, config):
        """Hand over; what the firmware left, and Linux's queues."""
        self.firmware.load(machine)
        before = len(history.History(machine.folder).statuses())
        self.firmware.go(machine)
        machine.wait_for_guest(LINUX_SECONDS)
        seen = history.History(machine.folder).statuses()[before:]
        # Linux resets the device once, before all else.
        resets = history.resets_before_use(seen)
        found = look(machine.qmp, 'disk')
        self.assertTrue(found.live)
        self.assertEqual(len(survey.survey(machine)['disk'].queues),
                         len(found.entries))
        self.check_data(machine, config)
        return 'in use' if resets == 1 else 'reset', found.queues()

    def check_data(self, machine, config):
        """Linux finds on the disk what was written there."""
        written = self.image(config).read_bytes()[:CHECKED_MIB << 20]
        said = machine.run(f'dd if=/dev/vda bs=1M count={CHECKED_MIB} '
                           'iflag=direct 2>/dev/null | sha256sum')
        self.assertEqual(said.split()[0],
                         hashlib.sha256(written).hexdigest())

    def see(self, name, config):
        """The row of a disk."""
        with self.machine(config) as machine:
            return self.row(name, machine, config)

    def row(self, name, machine, config):
        machine.launch()
        reads = self.firmware.start(machine)
        found = look(machine.qmp, 'disk')
        msix = history.History(machine.folder).msix()
        if reads:
            self.assertTrue(self.firmware.show(machine))
        row = {'read': reads, 'look': found, 'msix': msix,
               'handed': ('', '')}
        # The one that is moved boots Linux after that.
        if reads and name != MOVED:
            row['handed'] = self.linux(machine, config)
        return row

    def test_01_each_disk(self):
        for name, config in DISKS.items():
            with self.subTest(name):
                self.rows[name] = self.see(name, config)
                say(f'{name}: done')

    def test_02_paused_and_moved(self):
        """Stop, cont and another QEMU, while one queue of eight is set up."""
        config = DISKS[MOVED]
        source, target = self.machine(config), self.machine(config)
        source.launch()
        self.assertTrue(self.firmware.start(source))
        before = look(source.qmp, 'disk')
        self.assertEqual(len(before.entries), 1)
        source.qmp.command('stop')
        self.assertEqual(look(source.qmp, 'disk'), before)
        source.qmp.command('cont')
        migrate(source, target)
        self.assertEqual(look(target.qmp, 'disk'), before)
        self.assertTrue(self.firmware.show(target))
        self.rows[MOVED]['handed'] = self.linux(target, config)

    def test_03_the_page(self):
        usual = self.rows['defaults']['look'].features
        lines = []
        for name, row in self.rows.items():
            found = row['look']
            line = [name, 'yes' if row['read'] else 'no']
            if found.live:
                line += [found.interface, found.ring, found.queues(),
                         found.sizes(), 'on' if row['msix'] else 'off',
                         page.changed(usual, found.features)]
            else:
                line += [''] * 6
            lines.append(line + list(row['handed']))
        lines[0][FEATURES] = 'as below'
        page.check(f'{NAME} of Debian {SUITE}',
                   page.tables(HEADS, lines) + '\n\n' + page.features(usual))


def migrate(source, target):
    """Move the guest."""
    path = source.folder / 'move'
    target.launch('-incoming', f'unix:{path}')
    source.qmp.command('migrate', uri=f'unix:{path}')
    target.qmp.wait_event(lambda event: event['event'] == 'RESUME', 120)
    source.kill()


if __name__ == '__main__':
    NAME, SUITE = sys.argv[1:3]
    del sys.argv[1:3]
    tap.main()
