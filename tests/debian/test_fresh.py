#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A fresh Debian: the main commands, and the packages of 'make deb'.

    test_fresh.py SUITE         bookworm, for instance

All are built there from the start, then installed, used and purged in a
second system that has nothing else.  ccache lends the compilations of an
earlier build; the base and the packages come from Debian's mirror.  Only root
can make the trees.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'functional'))
# pylint: disable=wrong-import-position
import tap                                          # noqa: E402
from guest.accel import ANSWER, BOOT_SECTOR         # noqa: E402
from guest.errors import RunError                   # noqa: E402

import tree                                         # noqa: E402

CCACHE = Path(os.environ.get('CCACHE_DIR') or Path.home() / '.cache/ccache')
HOURS = 3600
# Some of each kind: the tree's own lists, parts alone, rings, a guest.
CHECKED = ('overlay-*', 'kernel-packages', 'run-parts', 'features',
           'test-vring*', 'test-xen-*', 'virtio-blk-mq-queues-test',
           'xen-disk-mq-test', 'virtio-blk-guest', 'libvirt')
NAMES = ['qemu-mq-system-x86', 'qemu-mq-utils']
LOCAL = 'etc/apparmor.d/local/abstractions/libvirt-qemu'
PROGRAMS = {
    'qemu-mq-system-x86_64': 'QEMU emulator version 10.0',
    'qemu-mq-img': 'qemu-img version 10.0',
    'qemu-mq-io': 'qemu-mq-io version 10.0',
    'qemu-mq-nbd': 'qemu-mq-nbd 10.0',
    'qemu-mq-storage-daemon': 'qemu-storage-daemon version 10.0',
}
MACHINE = ('qemu-mq-system-x86_64', '-M', 'pc', '-accel', 'tcg', '-m', '64',
           '-no-user-config', '-nodefaults')
# The disk's queues have IOThreads of the disk's own.
DISK = ('-blockdev', 'driver=file,filename=/root/boot,node-name=disk',
        '-device',
        'virtio-blk-pci,drive=disk,id=disk0,num-queues=2,iothreads=2')


class Fresh(unittest.TestCase):
    """The tests are parts of one story and follow each other."""

    suite = None
    folder = None
    packages = ()       # what was built, in self.folder

    @classmethod
    def make_tree(cls, name):
        made = tree.Tree(cls.suite, cls.folder / name)
        cls.addClassCleanup(made.remove)
        return made


class FreshSystemTest(Fresh):
    """A system that has nothing but make."""

    @classmethod
    def setUpClass(cls):
        cls.tree = cls.make_tree('fresh')
        cls.tree.install('make')
        cls.checkout = cls.tree.put_checkout()
        CCACHE.mkdir(parents=True, exist_ok=True)

    def make(self, *words):
        # What the make around this test was told is not for this one.
        env = {name: value for name, value in os.environ.items()
               if name.lower().endswith('_proxy')}
        return self.tree.run('make', '-C', self.checkout, *words,
                             binds=[CCACHE], timeout=HOURS,
                             env={**env, 'PATH': tree.PATH,
                                  'CCACHE_DIR': str(CCACHE)})

    def test_1_run(self):
        said = self.make('run')
        self.assertIn('virtio-blk-pci with 4 queues on 2 IOThreads\n', said)
        self.assertRegex(said, r'\nOK, \d+ s\n')

    def test_2_check(self):
        self.make('check', 'TESTS=' + ' '.join(CHECKED))
        counted = self.tree.root / self.checkout[1:] / 'build/check.count'
        passed, failed = map(int, re.findall(r'\d+', counted.read_text()))
        self.assertEqual(failed, 0)
        self.assertGreaterEqual(passed, len(CHECKED))

    def test_3_deb(self):
        self.make('deb')
        made = sorted((self.tree.root / self.checkout[1:]
                       / 'build/deb').iterdir())
        self.assertEqual([path.name.partition('_')[0] for path in made],
                         NAMES)
        Fresh.packages = [shutil.copy(path, self.folder) for path in made]

    def test_4_nothing_is_the_distribution_s(self):
        for package in self.packages:
            for line in tree.command(['dpkg-deb', '-c',
                                      package]).splitlines():
                words = line.split()
                self.assertEqual(words[1], 'root/root')
                if not words[0].startswith('d'):
                    self.assertRegex(words[5], 'qemu-mq|share/qemu-firmware/')

    def test_5_lintian(self):
        self.tree.install('lintian')
        folder = f'{self.checkout}/build/deb'
        said = self.tree.run('sh', '-c', 'lintian --allow-root --fail-on '
                             f'error,warning {folder}/*.deb')
        self.assertEqual(re.findall(r'^[EW]: .*', said, re.M), [])


class PackagesTest(Fresh):
    """Installed, used and purged in a system that has nothing else."""

    @classmethod
    def setUpClass(cls):
        if not cls.packages:
            raise RunError("'make deb' has made no packages")
        cls.tree = cls.make_tree('installed')
        for path in cls.packages:
            shutil.copy(path, cls.tree.root / 'root')
        (cls.tree.root / 'root/boot').write_bytes(
            BOOT_SECTOR + bytes(1 << 20))

    def test_1_install(self):
        self.tree.install(*(f'/root/{Path(path).name}'
                            for path in self.packages))
        for program, name in PROGRAMS.items():
            self.assertIn(name, self.tree.run(program, '--version'))

    def test_2_a_guest_boots(self):
        """Firmware is found, and the BIOS boots from our disk."""
        done = subprocess.run(
            [*self.tree.enter(), *MACHINE, *DISK, '-display', 'none', '-vga',
             'std', '-device', 'isa-debug-exit,iobase=0xf4'],
            capture_output=True, text=True, check=False, timeout=120)
        self.assertEqual(done.returncode, ANSWER << 1 | 1, done.stderr)

    def test_3_monitor(self):
        """Queues, a network card's ROM, keymaps of a screen."""
        said = self.tree.run(
            'sh', '-c', 'printf "info queues\nquit\n" | "$@"', 'sh', *MACHINE,
            *DISK, '-S', '-monitor', 'stdio', '-nic',
            'user,model=virtio-net-pci', '-vnc', 'none', '-k', 'de')
        for queue in 0, 1:
            self.assertIn(f'disk0 queue {queue}: iothread=disk0-iothread'
                          f'{queue}', said)

    def test_4_tools(self):
        self.tree.run('qemu-mq-img', 'create', '-f', 'qcow2', '/root/image',
                      '64M')
        self.tree.run('qemu-mq-io', '-f', 'qcow2', '-c', 'write -P 7 1M 64k',
                      '-c', 'read -P 7 1M 64k', '/root/image')
        self.tree.run('qemu-mq-img', 'check', '/root/image')

    def test_5_apparmor_s_parser_takes_the_rules(self):
        """In a profile such as libvirt writes for a domain."""
        self.tree.install('apparmor')
        self.tree.run('sh', '-c', 'cd /root && apt-get -q download '
                      'libvirt-daemon-system libvirt-daemon-driver-qemu && '
                      'for deb in libvirt-*.deb; do dpkg-deb -x $deb x; done '
                      '&& cp -rn x/etc/apparmor.d /etc')
        profile = self.tree.root / 'root/profile'
        profile.write_text('#include <tunables/global>\nprofile domain {\n'
                           '  #include <abstractions/libvirt-qemu>\n}\n',
                           encoding='ascii')
        said = self.tree.run('apparmor_parser', '--preprocess',
                             '/root/profile')
        self.assertIn('/usr/bin/qemu-mq-system-x86_64 rmix', said)
        self.tree.run('apparmor_parser', '--skip-kernel-load',
                      '--skip-cache', '/root/profile')

    def test_6_purge(self):
        self.tree.run('apt-get', '-q', '-y', 'purge', *NAMES)
        left = self.tree.run('find', '/', '-xdev', '-name', '*qemu-mq*', '!',
                             '-path', '/root/*', '!', '-path', '/proc/*')
        self.assertEqual(left.strip(), '')
        self.assertFalse((self.tree.root / 'usr/share/qemu-firmware').exists())
        local = self.tree.root / LOCAL
        if local.exists():
            self.assertNotIn('qemu-mq', local.read_text())


def main():
    Fresh.suite = sys.argv.pop()
    reason = tree.why_not()
    if reason:
        print(f'1..0 # SKIP {reason}')
        return
    with tempfile.TemporaryDirectory(prefix='fresh-') as name:
        Fresh.folder = Path(name)
        tap.main()


if __name__ == '__main__':
    main()
