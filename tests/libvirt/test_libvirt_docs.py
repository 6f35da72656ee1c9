#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The samples of docs/libvirt.rst are valid and start.

    test_libvirt_docs.py                with this system's libvirt
    test_libvirt_docs.py --suite=NAME   with that of another Debian

QTEST_QEMU_BINARY names the emulator.
"""

import os
import re
import subprocess
import sys
import tempfile
import textwrap
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'functional'))
# pylint: disable=wrong-import-position
import tap                                          # noqa: E402
from guest import disk                              # noqa: E402

import host                                         # noqa: E402
from daemon import Daemon                           # noqa: E402

QEMU = Path(os.environ.get('QTEST_QEMU_BINARY',
                           'qemu-system-x86_64')).absolute()
PAGE = (Path(__file__).resolve().parents[2] / 'docs/libvirt.rst').read_text(
    encoding='utf-8')
SAMPLE = re.compile(r'^\.\. code-block:: xml\n   :name: (.*)\n\n'
                    r'((?: {4}.*\n|\n)+)', re.M)
DISK = re.compile(r'<disk .*</disk>', re.S)
SINCE = re.compile(r'\(libvirt (\d+)\.(\d+)\)$')
HOST = None


def samples():
    """{name: XML} in the page's order."""
    return {name: textwrap.dedent(text)
            for name, text in SAMPLE.findall(PAGE)}


def whole(text, domain):
    """A domain, if @text is a disk only."""
    return DISK.sub(lambda _: text, domain) if text.startswith('<disk') \
        else text


def fit(text, image):
    """Replace the names of machines and files by those of the test."""
    for pattern, here in (
            (r"<domain type='kvm'", "<domain type='qemu'"),
            (r'<cpu mode=.*/>', ''),
            (r'<emulator>.*</emulator>', f'<emulator>{QEMU}</emulator>'),
            (r"(file|dev)='/[^']*example[^']*'", f"file='{image}'"),
            (r"<disk type='block'", "<disk type='file'")):
        text = re.sub(pattern, here, text)
    return text


class SamplesTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix='lv-', dir='/tmp')
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        cls.daemon = cls.make_daemon()
        cls.addClassCleanup(cls.daemon.stop)
        cls.daemon.start()
        for name in ('qcow2', 'raw'):
            path = cls.folder / f'image.{name}'
            disk.run_img(disk.find_qemu_img(QEMU), 'create', '-q', '-f',
                         name, path, '64M')
            path.chmod(0o666)

    @classmethod
    def make_daemon(cls):
        place = cls.folder / 'daemon'
        place.mkdir()
        if not HOST:
            return Daemon(place)
        other, prefix = HOST.enter(cls.folder, {QEMU}, QEMU.parents[1])
        cls.addClassCleanup(other.remove)
        daemon = Daemon(place, prefix)
        HOST.give(place)
        return daemon

    def test_samples(self):
        found = samples()
        self.assertGreaterEqual(len(found), 7)
        for name, text in found.items():
            since = SINCE.search(name)
            if since and self.daemon.version() < tuple(map(int,
                                                           since.groups())):
                continue
            with self.subTest(name):
                self.check_sample(name, whole(text, found['domain']))

    def check_sample(self, name, text):
        image_format = re.search(r"type='(raw|qcow2)'", text)[1]
        path = self.folder / 'sample.xml'
        path.write_text(fit(text, self.folder / f'image.{image_format}'),
                        encoding='utf-8')
        self.daemon.virsh('define', '--validate', path)
        self.daemon.virsh('start', 'example', '--paused')
        try:
            queues = self.daemon.virsh('qemu-monitor-command', 'example',
                                       '--hmp', 'info queues')
            rows = re.findall(r'queue (\d+): iothread=(\S+)', queues)
            self.assertEqual([row[0] for row in rows], list('0123'), queues)
            threads = {row[1] for row in rows}
            if '<iothreads>\n' in text:
                self.assertEqual(threads, {'iothread1', 'iothread2'})
            elif 'iothread=' in text:
                self.assertEqual(threads, {'iothread1'})
            else:
                self.assertTrue(all('disk0-iothread' in thread
                                    for thread in threads), threads)
        finally:
            self.daemon.virsh('destroy', 'example')
            self.daemon.virsh('undefine', 'example')

    def test_what_is_wrong_is_seen(self):
        """The test of the samples can fail."""
        path = self.folder / 'wrong.xml'
        text = fit(samples()['domain'], self.folder / 'image.qcow2')
        path.write_text(text.replace("queues='4'", "queue='4'"),
                        encoding='utf-8')
        with self.assertRaisesRegex(Exception, 'XML document failed'):
            self.daemon.virsh('define', '--validate', path)

    def test_command_lines(self):
        """The properties for all disks, in QEMU's own words."""
        lines = set(re.findall(r'-global (driver=[\w,=.-]+)', PAGE))
        self.assertGreaterEqual(len(lines), 2)
        for line in lines:
            with self.subTest(line):
                done = subprocess.run(
                    [QEMU, '-M', 'q35', '-accel', 'tcg', '-display', 'none',
                     '-nodefaults', '-S', '-monitor', 'stdio', '-global',
                     line, '-blockdev', 'null-co,node-name=disk', '-device',
                     'virtio-blk-pci,drive=disk,id=disk0,num-queues=2'
                     if 'num-queues' not in line else
                     'virtio-blk-pci,drive=disk,id=disk0'],
                    input='info queues\nquit\n', capture_output=True,
                    text=True, check=False, timeout=120)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertIn('disk0-iothread0' if 'iothreads' in line
                              else 'queue 7', done.stdout)


if __name__ == '__main__':
    HOST = host.from_arguments()
    tap.main()
