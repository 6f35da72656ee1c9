#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/run as a user calls it: the report, and errors in one line.

QTEST_QEMU_BINARY names the emulator.
"""

import fcntl
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import textwrap
import unittest
from pathlib import Path

import tap
from guest import accel, disk
from guest.arguments import build_folder
from terminal import Terminal

QEMU = Path(os.environ.get('QTEST_QEMU_BINARY',
                           'qemu-system-x86_64')).absolute()
REPO = Path(__file__).resolve().parents[2]
RUN = REPO / 'scripts' / 'run'
LOCK_BYTES = (100, 300)     # where QEMU's image locks lie in the file


def run(*arguments):
    return subprocess.run([RUN, f'QEMU={QEMU}', *map(str, arguments)],
                          capture_output=True, text=True, check=False,
                          stdin=subprocess.DEVNULL, timeout=400,
                          env={**os.environ, 'PYTHONIOENCODING': 'utf-8'})


class RunTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix='run-')
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        cls.image = cls.folder / 'my.qcow2'
        subprocess.run([disk.find_qemu_img(QEMU), 'create', '-q', '-f',
                        'qcow2', cls.image, '100M'], check=True)

    def assert_one_line(self, done, status, *words):
        self.assertEqual((done.returncode, done.stdout), (status, ''))
        lines = [line for line in done.stderr.splitlines()
                 if not re.match(r'\[ *\d+\.\d s\] ', line)]
        self.assertEqual(len(lines), 1, done.stderr)
        for word in words:
            self.assertIn(word, lines[0])

    def test_report_and_untouched_image(self):
        before = hashlib.sha256(self.image.read_bytes()).digest()
        done = run('QUEUES=3', 'IOTHREADS=2', 'VCPUS=3', 'RUNTIME=1',
                   f'IMAGE={self.image}')
        self.assertEqual(done.returncode, 0, done.stderr + done.stdout)
        rows = re.findall(
            r'^ +(\d)  (\S+) +(\d) \(IRQ \d+\) +([\d,]+)  (\S+)$',
            done.stdout, re.M)
        self.assertEqual([row[:3] for row in rows],
                         [('0', '0', '1'), ('1', '1', '2'), ('2', '2', '3')])
        self.assertEqual([row[4] for row in rows],
                         ['iothread0', 'iothread1', 'iothread0'])
        for line in ('virtio-blk-pci with 3 queues on 2 IOThreads\n',
                     '1 queue   ours ', '3 queues  ours ',
                     'checked (crc32c), all right\n',
                     'was only read', '\nOK, '):
            self.assertIn(line, done.stdout)
        after = hashlib.sha256(self.image.read_bytes()).digest()
        self.assertEqual(before, after)

    def test_locked_image(self):
        with open(self.image, 'r+b') as file:
            first, last = LOCK_BYTES
            fcntl.lockf(file, fcntl.LOCK_EX, last - first, first)
            self.assert_one_line(run(f'IMAGE={self.image}'), 2,
                                 'IMAGE=', 'in use')

    def test_bad_requests(self):
        empty = self.folder / 'empty'
        empty.touch()
        for argument in ('QUEUES=0', 'QUEUES=5000', 'QUEUES=x',
                         'IOTHREADS=0', 'ACCEL=none', 'IMAGE=/nowhere',
                         f'IMAGE={empty}', 'QEMU=/nowhere'):
            with self.subTest(argument):
                self.assert_one_line(run(argument), 2,
                                     argument.partition('=')[0])
        with self.subTest('format'):
            self.assert_one_line(run(f'IMAGE={empty}', 'FORMAT=qcow2'), 2,
                                 'not in qcow2 format')

    def test_shell_and_its_poweroff(self):
        with Terminal(RUN, '--shell', f'QEMU={QEMU}', 'ACCEL=tcg',
                      'VCPUS=2', 'QUEUES=2') as shell:
            shell.read_until('ends the guest.', 200)
            shell.type('echo queues: $(ls /sys/block/vda/mq | wc -l)')
            shell.read_until('queues: 2', 60)
            shell.type('poweroff')
            self.assertEqual(shell.wait(60), 0, shell.said)

    def test_version(self):
        said = subprocess.run([QEMU, '--version'], capture_output=True,
                              text=True, check=True).stdout
        package = re.match(r'QEMU emulator version \d+\.\d+\.\d+ '
                           r'\((qemu-mq.*)\)\n', said)[1]
        questions = ('{"execute": "qmp_capabilities"}\n'
                     '{"execute": "query-version"}\n{"execute": "quit"}\n')
        said = subprocess.run(
            [QEMU, '-machine', 'none', '-display', 'none', '-qmp', 'stdio'],
            input=questions, capture_output=True, text=True, check=True).stdout
        answers = [json.loads(line) for line in said.splitlines()]
        version = answers[2]['return']
        self.assertEqual(version['package'], package)
        self.assertEqual(answers[0]['QMP']['version'], version)

    def test_no_qemu(self):
        self.assert_one_line(run('QEMU=/bin/true'), 1, 'is no QEMU')

    def test_kvm_works_or_says_why_not(self):
        problem = accel.why_not_kvm(QEMU)
        if problem:
            self.assert_one_line(run('ACCEL=kvm'), 1, problem)

    def test_the_probe_tells_good_from_bad(self):
        self.assertIsNone(accel.probe(QEMU, ['-accel', 'tcg'], 60))
        self.assertIn('invalid accelerator',
                      accel.probe(QEMU, ['-accel', 'none']))
        # A machine that starts paused stands for one that hangs.
        self.assertIn('more than',
                      accel.probe(QEMU, ['-accel', 'tcg', '-S'], 1))


class DocsTest(unittest.TestCase):
    """What the documentation prints works where a reader stands."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix='docs-')
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        (self.folder / 'scripts').symlink_to(REPO / 'scripts')
        (self.folder / 'build').symlink_to(build_folder(os.environ))

    def block(self, page, line):
        """The indented block of a page that has this line in it."""
        for block in re.split(r'\n(?=\S)', (REPO / page).read_text()):
            body = [row for row in block.splitlines(True)[1:]]
            text = textwrap.dedent(''.join(body))
            if line in text.splitlines():
                return text
        raise AssertionError(f'{page} has no {line}')

    def test_python_sample(self):
        sample = self.block('docs/make-run.rst', 'import sys, tempfile')
        done = subprocess.run(
            [sys.executable, '-B', '-c', sample], cwd=self.folder,
            capture_output=True, text=True, check=False, timeout=300)
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        for word in 'queues=[', 'thread-id', 'READ: ', 'virtio0-req.3':
            self.assertIn(word, done.stdout)

    def test_command_of_the_readme(self):
        command = self.block('./README.md',
                             'build/qemu-img create -f raw disk.raw 1G')
        # As Machine does for a boot that lasts on a busy host.
        for found, steady in (
                ('-accel kvm -accel tcg', '-accel tcg,thread=single'),
                ('mq.shell', 'mq.shell quiet no_timer_check')):
            self.assertIn(found, command)
            command = command.replace(found, steady)
        with Terminal('sh', '-c', command, cwd=self.folder) as shell:
            shell.read_until('ends the guest.', 200)
            shell.type('echo queues: $(ls /sys/block/vda/mq | wc -l)')
            shell.read_until('queues: 4', 60)
            shell.type('poweroff')
            self.assertEqual(shell.wait(60), 0, shell.said)


if __name__ == '__main__':
    tap.main()
