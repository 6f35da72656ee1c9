#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests move between ours and the QEMUs in Debian's archive, both ways.

They are those of Debian 13, of its security archive and of its backports, in
a tree that root makes: 10.0.13, 10.0.2 and 11.1.3 when this was written.  A
table in docs/virtio-blk.rst says which version can migrate to which.

QTEST_QEMU_BINARY names ours, QTESTS the folder of the test programs.
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'functional'))
# pylint: disable=wrong-import-position
import tap                                          # noqa: E402

import tree                                         # noqa: E402

QEMU = Path(os.environ.get('QTEST_QEMU_BINARY',
                           'qemu-system-x86_64')).absolute()
QTESTS = Path(os.environ.get('QTESTS', '.')).absolute()
PACKAGES = ('qemu-system-x86', 'qemu-system-data', 'qemu-system-common')
LIBRARIES = 'usr/lib/x86_64-linux-gnu'
SECONDS = 600
ROM_SIZE = 64 << 10
RESET = 16      # bytes before the end where a processor begins
# cli; 1: hlt; jmp 1b
SLEEP = b'\xfa\xf4\xeb\xfd'

# Debian's binaries have no accelerator for tests, so a processor sleeps.  The
# machine type is one that all know.
WRAPPER = '''#!/bin/bash
args=()
for word; do
    case $word in
    pc) word=pc-i440fx-10.0 ;;
    q35) word=pc-q35-10.0 ;;
    qtest) args+=(tcg -bios {rom}); continue ;;
    esac
    args+=("$word")
done
exec {command} "${{args[@]}}"
'''


def sleeping_rom():
    rom = bytearray(b'\xf4' * ROM_SIZE)
    rom[-RESET:len(SLEEP) - RESET] = SLEEP
    return bytes(rom)


class VersionsTest(unittest.TestCase):
    """One tree, in which each test puts its version."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix='versions-')
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        cls.tree = tree.Tree('trixie', cls.folder / 'tree')
        cls.addClassCleanup(cls.tree.remove)
        (cls.folder / 'rom').write_bytes(sleeping_rom())
        cls.ours = cls.wrap('ours', [QEMU])
        root = cls.tree.root
        cls.theirs = cls.wrap('theirs', [
            root / 'lib64/ld-linux-x86-64.so.2', '--library-path',
            root / LIBRARIES, root / 'usr/bin/qemu-system-x86_64',
            '-L', root / 'usr/share/qemu', '-L', root / 'usr/share/seabios'])

    @classmethod
    def wrap(cls, name, words):
        path = cls.folder / name / QEMU.name
        path.parent.mkdir()
        path.write_text(WRAPPER.format(
            rom=cls.folder / 'rom',
            command=shlex.join(str(word) for word in words)))
        path.chmod(0o755)
        return path

    def install(self, suite):
        """Put in a suite's version; which it is."""
        if suite != self.tree.suite:
            self.tree.add_suite(suite)
        self.tree.install(*PACKAGES, suite=suite)
        said = tree.command([self.theirs, '--version'])
        return re.search(r'version (\S+)', said)[1]

    def check_way(self, source, target, program, path):
        """Run those parts of a test program whose path has @path."""
        done = subprocess.run(
            [QTESTS / program, '--tap', '-k', '-p', path],
            env={**os.environ, 'QTEST_QEMU_BINARY': str(source),
                 'QTEST_QEMU_BINARY_DST': str(target)},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, check=False, timeout=SECONDS)
        passed = len(re.findall(r'^ok (?!.* # SKIP)', done.stdout, re.M))
        self.assertEqual(done.returncode, 0, done.stdout[-3000:])
        self.assertGreater(passed, 0, done.stdout)

    def check_suite(self, suite):
        version = self.install(suite)
        print(f'# {suite} has QEMU {version}', flush=True)
        for source, target in ((self.ours, self.theirs),
                               (self.theirs, self.ours)):
            for machine in 'pc/legacy', 'q35/modern':
                way = f'{source.parent.name} to {target.parent.name}'
                with self.subTest(f'{version}, {machine}, {way}'):
                    self.check_way(
                        source, target, 'virtio-blk-mq-migrate-test',
                        f'/x86_64/virtio-blk-mq/{machine}/migrate')
        # Rings of 1,024 come to a disk that offers 256.
        for machine in 'pc/legacy', 'q35/modern':
            with self.subTest(f'{version}, {machine}, large rings to ours'):
                self.check_way(
                    self.theirs, self.ours, 'virtio-blk-mq-sizes-test',
                    f'/x86_64/virtio-blk-mq/{machine}/sizes/larger')

    def test_1_security(self):
        self.check_suite('trixie-security')

    def test_2_stable(self):
        self.check_suite('trixie')

    def test_3_backports(self):
        self.check_suite('trixie-backports')


if __name__ == '__main__':
    reason = tree.why_not()
    if reason:
        print(f'1..0 # SKIP {reason}')
    else:
        tap.main()
