#!/usr/bin/env python3
#
# The Makefile's variables: one that no program knows is refused, and so are
# wrong values, before anything is installed or built.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(REPO / 'scripts'))

# pylint: disable=wrong-import-position
from guest import options as guest_options  # noqa: E402
from xen import options as xen_options  # noqa: E402


def make(*arguments):
    # This test may itself be run by make.
    env = {name: value for name, value in os.environ.items()
           if not name.startswith('MAKE') and name != 'BUILD'}
    return subprocess.run(['make', '-C', REPO, '--no-print-directory',
                           *arguments], env=env, capture_output=True,
                          text=True, check=False)


class MakeTest(unittest.TestCase):
    def refused(self, *arguments):
        # With -n nothing runs if the arguments are not refused.
        done = make('-n', *arguments)
        self.assertEqual((done.returncode, done.stdout), (2, ''), arguments)
        return done.stderr

    def plan(self, *arguments):
        done = make('-n', *arguments)
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        return done.stdout.splitlines()

    def test_unknown_variable(self):
        for word, meant in (('QUEUE=8', 'QUEUES='), ('VCPU=2', 'VCPUS='),
                            ('QUEUESS=2', 'QUEUES='), ('TEST=x', 'TESTS=')):
            for goal in 'run', 'check', 'all':
                self.assertIn(f'{word.split("=")[0]}= means nothing here; is '
                              f'it {meant}?', self.refused(goal, word))
        text = self.refused('run', 'FAST=1')
        self.assertIn('FAST= means nothing here: the variables are', text)

    def test_known_variables(self):
        names = {*guest_options.NAMES, *xen_options.NAMES, 'CC', 'CFLAGS',
                 'DESTDIR', 'CCACHE_DIR', 'UBSAN_OPTIONS', 'XDG_CACHE_HOME'}
        self.plan('help', *(f'{name}=x' for name in names))

    def test_help_names_the_variables(self):
        text = make('help').stdout
        for name in guest_options.NAMES:
            self.assertRegex(text, rf'\b{name}=')

    def test_fuzz(self):
        for words, command in (
                ([], 'fuzz --build=build'),
                (['TARGETS=a b', 'RUNTIME=5', 'REPRO=x'],
                 'fuzz --build=build --seconds=5 --repro=x a b')):
            line = re.sub(r'[\\\s]+', ' ', ' '.join(self.plan('fuzz', *words)))
            self.assertTrue(line.rstrip().endswith(command), line)

    def test_another_base(self):
        self.assertIn('scripts/base/run check --build=build --with-base=/x a',
                      self.plan('check', 'BASE=/x', 'TESTS=a'))

    def test_values_are_checked_first(self):
        # The first check fails, so that nothing else runs.
        for goal, words in (('run', ['QUEUES=0']), ('run', ['IMAGE=/none']),
                            ('shell', ['ACCEL=hvf']), ('run', ['QEMU=/none']),
                            ('run-xen', ['VCPUS=99']),
                            ('bench', ['BENCH=--parts=none'])):
            with self.subTest(goal=goal, words=words):
                plan = self.plan(goal, *words)
                first = [i for i, line in enumerate(plan) if '--check' in line]
                slow = [i for i, line in enumerate(plan)
                        if re.search(r'scripts/(setup|base/run) ', line)]
                self.assertLess(first[0], slow[0])
                line = plan[first[0]].partition('; ')[2]
                env = dict(os.environ, **dict(word.split('=', 1)
                                              for word in words))
                done = subprocess.run(line, shell=True, cwd=REPO, env=env,
                                      capture_output=True, text=True,
                                      check=False)
                self.assertEqual(done.returncode, 2, line)
                self.assertIn(words[0].split('=')[-1], done.stderr)

    def test_good_values_need_no_build(self):
        with tempfile.TemporaryDirectory() as folder:
            for script in 'run', 'run-xen':
                done = subprocess.run(
                    [REPO / 'scripts' / script, '--check', 'VCPUS=2',
                     f'BUILD={folder}/none'], capture_output=True, text=True,
                    check=False)
                self.assertEqual((done.returncode, done.stdout, done.stderr),
                                 (0, '', ''))

    def test_build_folder(self):
        for goal, script in (('run', 'run'), ('shell', 'run'),
                             ('run-xen', 'run-xen')):
            lines = self.plan(goal, 'BUILD=/x')
            self.assertIn('scripts/base/run build --build=/x', lines)
            self.assertTrue(lines[-1].startswith(f'scripts/{script} BUILD=/x'))


if __name__ == '__main__':
    unittest.main(verbosity=2)
