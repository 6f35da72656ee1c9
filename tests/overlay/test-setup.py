#!/usr/bin/env python3
#
# scripts/setup with a dpkg and an apt that only pretend.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import itertools
import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent.parent

# Everything is installed but gcc.
DPKG = '''#!/bin/sh
for word; do :; done
test "$word" = gcc || echo installed
'''
# Notes how it is called, and waits where there is a pipe.
APT = '''#!/bin/sh
echo "$@" >>"$FOLDER/calls"
case " $* " in
*" update "*) touch "$FOLDER/updated"; exit 0 ;;
esac
if test -p "$FOLDER/go"; then
    echo 'Waiting for cache lock: Could not get lock /var/lib/dpkg/lock'
    cat "$FOLDER/go"
fi
if test -e "$FOLDER/broken"; then
    echo 'E: Unable to locate package gcc'
    exit 100
fi
test -e "$FOLDER/updated" || test ! -e "$FOLDER/old"
'''


class SetupTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix='setup-')
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.user(0)
        for name, text in (('dpkg-query', DPKG), ('apt-get', APT),
                           ('sleep', '#!/bin/sh\n')):
            self.program(name, text)

    def program(self, name, text):
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o755)

    def user(self, number):
        self.program('id', f'#!/bin/sh\necho {number}\n')

    def start(self, *groups):
        return subprocess.Popen(
            [REPO / 'scripts/setup', *groups], text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, 'FOLDER': str(self.folder),
                 'PATH': f'{self.folder}:{os.environ["PATH"]}'})

    def run_setup(self, *groups):
        with self.start(*groups) as process:
            out, err = process.communicate()
        return process.returncode, out, err

    def calls(self):
        path = self.folder / 'calls'
        return path.read_text().splitlines() if path.exists() else []

    def test_nothing_is_missing(self):
        self.assertEqual(self.run_setup('bench'), (0, '', ''))
        self.assertEqual(self.calls(), [])

    def test_root_installs(self):
        status, out, err = self.run_setup('build')
        self.assertEqual((status, err), (0, ''))
        self.assertRegex(out, r'^setup: installing .*: gcc\n')
        self.assertEqual(len(self.calls()), 1)
        self.assertTrue(self.calls()[0].endswith(
            'install --no-install-recommends gcc'))

    def test_old_lists(self):
        (self.folder / 'old').touch()
        self.assertEqual(self.run_setup('build')[0], 0)
        self.assertEqual([re.search(' (install|update)', call)[1]
                          for call in self.calls()],
                         ['install', 'update', 'install'])

    def test_reason(self):
        (self.folder / 'broken').touch()
        status, _out, err = self.run_setup('build')
        self.assertEqual(status, 1)
        self.assertEqual(err, 'setup: packages cannot be installed: '
                              'E: Unable to locate package gcc\n')

    def test_waiting_is_said(self):
        os.mkfifo(self.folder / 'go')
        with self.start('build') as process:
            process.stdout.readline()
            for line in itertools.islice(process.stdout, 1000):
                if 'still installing' not in line:
                    break
            else:
                process.kill()
            self.assertRegex(line, r'waiting for another apt, \d+ s$')
            (self.folder / 'go').write_text('')
            process.communicate()
        self.assertEqual(process.returncode, 0)

    def test_others_get_the_line_for_root(self):
        self.user(1000)
        status, out, err = self.run_setup('build')
        self.assertEqual((status, out), (1, ''))
        self.assertEqual(err.splitlines()[-1].split(),
                         'apt-get install -y --no-install-recommends gcc'
                         .split())
        self.assertEqual(self.calls(), [])


if __name__ == '__main__':
    unittest.main(verbosity=2)
