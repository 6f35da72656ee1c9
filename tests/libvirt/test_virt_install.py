#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The lines of virt-install and virt-xml in docs/libvirt.rst.

    test_virt_install.py --suite=NAME   with those of a Debian

They run in a tree that root makes, on libvirt's driver for tests, which is
part of its library.
"""

import re
import sys
import tempfile
import textwrap
import unittest
import xml.etree.ElementTree as ElementTree
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'functional'))
# pylint: disable=wrong-import-position
import tap                                          # noqa: E402
from guest.errors import RunError                   # noqa: E402

import host                                         # noqa: E402

PAGE = (Path(__file__).resolve().parents[2] / 'docs/libvirt.rst').read_text(
    encoding='utf-8')
EMULATOR = '/usr/bin/qemu-mq-system-x86_64'
HOST = None

# What is shown is not done; the domain of that driver is called test.
SHELL = '''
set -e
cd /root
truncate -s 1M debian.iso
driver=--connect=test:///default
virt-install() { command virt-install $driver --print-xml 1 "$@"; }
virt-xml() { command virt-xml $driver --print-xml "$@"; }
'''


def sample(program):
    """The page's block of text that begins with a program."""
    match = re.search(rf'::\n\n((?:    {program} .*\n)(?: .*\n)*)', PAGE)
    return textwrap.dedent(match[1]).replace('DOMAIN', 'test')


class VirtInstallTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix='vi-')
        cls.addClassCleanup(folder.cleanup)
        cls.tree = host.tree.Tree(HOST.suite, Path(folder.name) / 'tree')
        cls.addClassCleanup(cls.tree.remove)
        cls.tree.install('virtinst')

    def run_sample(self, text):
        said = self.tree.run('bash', '-c', SHELL + text)
        return ElementTree.fromstring(said[said.index('<domain'):])

    def test_virt_install(self):
        domain = self.run_sample(sample('virt-install'))
        self.assertEqual(domain.findtext('devices/emulator'), EMULATOR)
        self.assertEqual(domain.findtext('iothreads'), '2')
        driver = domain.find("devices/disk[@device='disk']/driver")
        for name, value in {'queues': '4', 'iothread': '1', 'cache': 'none',
                            'io': 'native'}.items():
            self.assertEqual(driver.get(name), value)

    def test_virt_xml(self):
        domain = self.run_sample(sample('virt-xml'))
        self.assertEqual(domain.findtext('devices/emulator'), EMULATOR)

    def test_what_is_wrong_is_seen(self):
        text = sample('virt-install').replace('--boot emulator=',
                                              '--emulator ')
        with self.assertRaises(RunError) as raised:
            self.run_sample(text)
        self.assertIn('arguments: --emulator',
                      '\n'.join(raised.exception.details))


if __name__ == '__main__':
    HOST = host.from_arguments()
    tap.main()
