#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""make install and make uninstall, to a folder of the test's.

BUILD names the build folder.
"""

import os
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'functional'))
# pylint: disable=wrong-import-position
import tap                                          # noqa: E402
from guest.errors import RunError                   # noqa: E402

import tree                                         # noqa: E402

BUILD = os.environ.get('BUILD', 'build')


class InstallTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix='install-')
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name) / 'root'

    def run_goal(self, goal):
        return tree.command(
            [tree.REPO / 'scripts/base/run', goal, f'--build={BUILD}'],
            env={**os.environ, 'DESTDIR': str(self.folder)})

    def found(self):
        return {path.name: path for path in self.folder.rglob('*')}

    def test_there_and_away_again(self):
        said = self.run_goal('install')
        self.assertIn(f'the programs are in {self.folder}/', said)
        found = self.found()
        for wanted in ('qemu-system-x86_64', 'qemu-img', 'COPYING',
                       'bios-256k.bin', 'qemu-io.1.gz',
                       'qemu-system-x86_64.1.gz'):
            self.assertIn(wanted, found)
        for other in ('slof.bin', 's390-ccw.img', 'bamboo.dtb'):
            self.assertNotIn(other, found)
        # It finds its firmware and keymaps there.
        said = tree.command([found['qemu-system-x86_64'], '-L', 'help'])
        self.assertIn(str(found['bios-256k.bin'].parent),
                      map(os.path.normpath, said.splitlines()))
        # What others have put there stays.
        mine = found['qemu-img'].with_name('mine')
        mine.touch()
        self.run_goal('uninstall')
        left = [path for path in self.folder.rglob('*') if path.is_file()]
        self.assertEqual(left, [mine])

    def test_nothing_to_remove(self):
        with self.assertRaises(RunError) as raised:
            self.run_goal('uninstall')
        self.assertIn('nothing was installed to',
                      '\n'.join(raised.exception.details))


if __name__ == '__main__':
    tap.main()
