#!/usr/bin/env python3
#
# What scripts/base/version says, in a checkout and elsewhere.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent.parent


class VersionTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix='version-')
        self.addCleanup(folder.cleanup)
        self.outside = Path(folder.name).resolve()
        self.tree = self.outside / 'tree'
        (self.tree / 'scripts/base').mkdir(parents=True)
        shutil.copy(REPO / 'scripts/base/version', self.tree / 'scripts/base')
        self.env = {**os.environ, 'GIT_CEILING_DIRECTORIES':
                    str(self.outside.parent), 'GIT_CONFIG_GLOBAL': '/dev/null'}
        for name in 'GIT_DIR', 'GIT_WORK_TREE':
            self.env.pop(name, None)

    def git(self, folder, *words):
        done = subprocess.run(
            ['git', '-c', 'user.name=x', '-c', 'user.email=x@example.org',
             '-C', folder, *words], env=self.env, check=True, text=True,
            capture_output=True)
        return done.stdout.strip()

    def commit(self, folder):
        self.git(folder, 'init', '-q')
        self.git(folder, 'commit', '-q', '--allow-empty', '-m', 'x')
        return self.git(folder, 'rev-parse', '--short', 'HEAD')

    def said(self):
        done = subprocess.run([self.tree / 'scripts/base/version'], text=True,
                              cwd='/', env=self.env, capture_output=True,
                              check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        return done.stdout

    def test_no_checkout(self):
        self.assertEqual(self.said(), 'qemu-mq\n')

    @unittest.skipUnless(shutil.which('git'), 'git is missing')
    def test_checkout(self):
        commit = self.commit(self.tree)
        self.assertRegex(self.said(), rf'^qemu-mq 20\d{{6}}\.{commit}\n$')

    @unittest.skipUnless(shutil.which('git'), 'git is missing')
    def test_within_some_other_checkout(self):
        self.commit(self.outside)
        self.assertEqual(self.said(), 'qemu-mq\n')


if __name__ == '__main__':
    unittest.main(verbosity=2)
