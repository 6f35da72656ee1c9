#!/usr/bin/env python3
#
# "make fuzz" with a program that only pretends, and the inputs in the tree.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import contextlib
import io
import json
import os
import shlex
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

REPO = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(REPO / 'scripts/base'))

# pylint: disable=wrong-import-position
import fuzz  # noqa: E402
import reach  # noqa: E402
from layout import Layout  # noqa: E402
from term import Refusal  # noqa: E402

# Of all inputs in the tree, in bytes.
ROOM = 100 << 10

# Leaves a finding if there is an input "bad", and fails for one with "bad".
PROGRAM = '''#!/bin/sh
if test $# = 0; then
    echo ' * virtio-blk  : of the base'
    echo ' * vblk-split  : of ours'
    echo ' * xen-disk  : of ours'
    exit
fi
for word; do
    case $word in
    -artifact_prefix=*) prefix=${word#*=} ;;
    -runs=0) cat "$FOLDER/reach"; exit ;;
    esac
done
if grep -q bad "$word"; then
    exit 77
fi 2>/dev/null
echo '#1024  pulse  cov: 300 ft: 900 corp: 9/90b exec/s: 37'
echo 'stat::number_of_executed_units: 1234'
if test -e "$FOLDER/bad"; then
    : >"${prefix}crash-1"
    exit 77
fi
'''

# Functions one (lines 2 to 5), two (7 to 9) and an inlined one (11 to 13).
SOURCE = '''\
static int one(void)
{
    first();
    second();
}

static int two(void)
{
}

static int inlined(void)
{
}
'''

REACH = '''\
FULL COVERAGE:
U 4 12
C 2 3 8 100
U 7 8
C
U 20 21
C 20
COVERAGE:
COVERED_FUNC: hits: 1 edges: 3/4 one /qemu-mq/build/base/qemu-mq/hw/a.c:1
  UNCOVERED_PC: /qemu-mq/build/base/qemu-mq/hw/a.c:4
UNCOVERED_FUNC: hits: 0 edges: 0/2 two /qemu-mq/build/base/qemu-mq/hw/a.c:7
COVERED_FUNC: hits: 0 edges: 1/3 three /qemu-mq/build/base/hw/v.c:20
'''


class FuzzTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix='fuzz-')
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.layout = Layout(self.folder)
        self.layout.qemu.mkdir()
        program = self.layout.qemu / fuzz.PROGRAM
        program.write_text(PROGRAM)
        program.chmod(0o755)
        (self.folder / 'reach').write_text(REACH)
        (self.folder / 'wanted').write_text('vblk-* one # three\n')
        (self.folder / 'hw').mkdir()
        (self.folder / 'hw/a.c').write_text(SOURCE)
        for patch in (mock.patch.dict(os.environ, FOLDER=str(self.folder)),
                      mock.patch.object(reach, 'REPO', self.folder),
                      mock.patch.object(fuzz, 'WANTED',
                                        self.folder / 'wanted')):
            patch.start()
            self.addCleanup(patch.stop)

    def said(self, function, *arguments):
        """(result, what was printed)"""
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            result = function(*arguments)
        return result, out.getvalue()

    def test_targets_are_ours(self):
        self.assertEqual(fuzz.targets(self.layout, []),
                         ['vblk-split', 'xen-disk'])
        self.assertEqual(fuzz.targets(self.layout, ['x*']), ['xen-disk'])
        with self.assertRaisesRegex(Refusal, 'no target is called virtio-blk; '
                                    'there are vblk-split, xen-disk'):
            fuzz.targets(self.layout, ['virtio-blk'])

    def test_nothing_found(self):
        good, text = self.said(fuzz.fuzz, self.layout, ['vblk-*'], 1)
        self.assertTrue(good)
        self.assertIn('vblk-split: 1,234 executions, 300 edges, nothing found',
                      text)
        self.assertRegex(text, r'hw/a\.c +6 +33 %')
        self.assertTrue((self.folder / 'reach.txt').exists())

    def test_too_few_executions(self):
        good, text = self.said(fuzz.fuzz, self.layout, ['vblk-*'], 618)
        self.assertFalse(good)
        self.assertIn('vblk-split: that is fewer than 1,236 executions', text)

    def test_a_function_is_not_reached(self):
        (self.folder / 'wanted').write_text(
            'xen-* none\n# comment\nvblk-* one:3 two\n'
            'vblk-split four one:4\n')
        good, text = self.said(fuzz.fuzz, self.layout, ['vblk-*'], 1)
        self.assertFalse(good)
        self.assertIn('vblk-split: the inputs do not reach two, four, one:4',
                      text)

    def test_something_found(self):
        (self.folder / 'bad').touch()
        good, text = self.said(fuzz.fuzz, self.layout, ['xen-disk'], 1)
        self.assertFalse(good)
        self.assertRegex(text, 'xen-disk: .* QEMU failed: see .*xen-disk.log')
        self.assertRegex(text, r'make fuzz REPRO=\S*found/xen-disk-crash-1')

    def test_repeat(self):
        harmless = self.folder / 'xen-disk-crash-1'
        harmless.write_text('good')
        harmful = self.folder / 'other'
        harmful.write_text('bad')
        self.assertTrue(self.said(fuzz.repeat, self.layout, [], harmless)[0])
        self.assertFalse(self.said(fuzz.repeat, self.layout, ['xen-disk'],
                                   harmful)[0])
        with self.assertRaisesRegex(Refusal, 'which target is other for'):
            fuzz.repeat(self.layout, [], harmful)
        with self.assertRaisesRegex(Refusal, 'there is no file'):
            fuzz.repeat(self.layout, [], self.folder / 'none')

    def test_inputs_become_files(self):
        seeds = self.folder / 'corpus.d'
        seeds.mkdir()
        (seeds / 'xen-disk.hex').write_text('00ff\n61\n')
        with mock.patch.object(fuzz, 'SEEDS', seeds):
            target = fuzz.Target(self.layout, 'xen-disk')
        self.assertEqual([path.read_bytes()
                          for path in sorted(target.seeds.iterdir())],
                         [b'\0\xff', b'a'])

    def test_clang_is_missing(self):
        with mock.patch.dict(os.environ, PATH=str(self.folder)):
            with self.assertRaisesRegex(Refusal, 'needs clang .*packages '
                                        'clang, llvm and libclang-rt-dev'):
                fuzz.adapt({'options': [], 'env': {}})

    def test_clang_without_its_runtime(self):
        clang = self.folder / 'clang'
        clang.write_text('#!/bin/sh\nexit 1\n')
        clang.chmod(0o755)
        with mock.patch.dict(os.environ, PATH=str(self.folder)):
            with self.assertRaisesRegex(Refusal, 'cannot link with libFuzzer'):
                fuzz.adapt({'options': [], 'env': {}})

    def test_lines(self):
        result = reach.reach_of(self.folder / 'reach')
        # Lines 8 and 100 came with code of other functions.
        self.assertEqual(result.reached['hw/a.c'], {2, 3})
        self.assertEqual(result.known['hw/a.c'], {2, 3, 4, 7, 8, 12})
        text = reach.table({'vblk-split': result})
        self.assertIn('hw/a.c', text)
        self.assertNotIn('v.c', text)


class CorpusTest(unittest.TestCase):
    def test_inputs_are_few_and_short(self):
        total = 0
        files = sorted(fuzz.SEEDS.iterdir())
        self.assertEqual([path.name for path in files],
                         ['vblk-packed.hex', 'vblk-split.hex', 'xen-disk.hex'])
        for path in files:
            inputs = [bytes.fromhex(line)
                      for line in path.read_text().splitlines()]
            self.assertTrue(inputs)
            self.assertEqual(len(set(inputs)), len(inputs))
            self.assertLessEqual(max(map(len, inputs)), fuzz.LONGEST)
            total += path.stat().st_size
        self.assertLessEqual(total, ROOM)


class SourcesTest(unittest.TestCase):
    """The sources compile.  Only "make fuzz" builds them, which is long."""

    LIKE = 'hw/block/virtio-blk.c'

    def compiler(self):
        """The command that compiles a file of ours, without the file."""
        commands = json.loads(Path('compile_commands.json').read_text())
        command = shlex.split(next(
            each['command'] for each in commands
            if each['file'].endswith(f'qemu-mq/{self.LIKE}')))
        words = iter(command[:command.index('-c')])
        return [word for word in words
                if word != '-MD' and not (word in ('-MQ', '-MF', '-o') and
                                          next(words))]

    def test_compiles(self):
        sources = sorted((REPO / 'tests/fuzz').glob('*.c'))
        self.assertTrue(sources)
        command = self.compiler() + ['-fsyntax-only', '-Werror']
        for source in sources:
            with self.subTest(source=source.name):
                done = subprocess.run(command + [source], text=True,
                                      capture_output=True, check=False)
                self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == '__main__':
    unittest.main(verbosity=2)
