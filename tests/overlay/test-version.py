#!/usr/bin/env python3
#
# The output of scripts/base/version, in a checkout and elsewhere; and that
# CHANGELOG.md, the tags of git and the programs agree on the version.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import re
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
        self.change_log('## 1.2 (2027-01-31)', '## 1.1 (2026-12-31)')
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

    def change_log(self, *headings):
        (self.tree / 'CHANGELOG.md').write_text(
            ''.join(f'{heading}\n\n- x\n\n' for heading in headings))

    def said(self):
        done = subprocess.run([self.tree / 'scripts/base/version'], text=True,
                              cwd='/', env=self.env, capture_output=True,
                              check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        return done.stdout

    def test_no_checkout(self):
        self.assertEqual(self.said(), 'qemu-mq 1.2\n')

    def test_between_two_versions(self):
        self.change_log('## 1.3 (in development)', '## 1.2 (2027-01-31)')
        self.assertEqual(self.said(), 'qemu-mq 1.3-dev\n')

    def test_no_change_log(self):
        (self.tree / 'CHANGELOG.md').unlink()
        self.assertEqual(self.said(), 'qemu-mq\n')

    @unittest.skipUnless(shutil.which('git'), 'git is missing')
    def test_checkout(self):
        commit = self.commit(self.tree)
        self.assertRegex(self.said(), rf'^qemu-mq 1\.2 20\d{{6}}\.{commit}\n$')

    @unittest.skipUnless(shutil.which('git'), 'git is missing')
    def test_within_some_other_checkout(self):
        self.commit(self.outside)
        self.assertEqual(self.said(), 'qemu-mq 1.2\n')


class ChangeLogTest(unittest.TestCase):
    headings = re.findall(r'^## (.*)$',
                          (REPO / 'CHANGELOG.md').read_text(), re.M)

    def test_headings(self):
        """Newest first; only the topmost may be without a date."""
        found = [re.fullmatch(r'(\d+(?:\.\d+)+) '
                              r'\((in development|20\d\d-\d\d-\d\d)\)', heading)
                 for heading in self.headings]
        self.assertTrue(found and all(found), self.headings)
        versions = [[int(part) for part in match[1].split('.')]
                    for match in found]
        self.assertEqual(versions, sorted(versions, reverse=True))
        dates = [match[2] for match in found]
        self.assertNotIn('in development', dates[1:])

    @unittest.skipUnless((REPO / '.git').exists() and shutil.which('git'),
                         'tags are in git')
    def test_tags_have_headings(self):
        tags = subprocess.run(['git', '-C', REPO, 'tag', '--list', 'v[0-9]*'],
                              check=True, capture_output=True,
                              text=True).stdout.split()
        dated = {f'v{heading.split()[0]}' for heading in self.headings
                 if heading.endswith(')') and '(20' in heading}
        self.assertEqual(sorted(set(tags) - dated), [],
                         'tags without a dated heading in CHANGELOG.md')

    def test_program_says_it(self):
        number, state = self.headings[0].split(' ', 1)
        version = number + ('-dev' if 'development' in state else '')
        said = subprocess.run(['./qemu-img', '--version'], check=True,
                              capture_output=True, text=True).stdout
        if '--with-pkgversion' in Path('../state.json').read_text():
            self.skipTest('--with-pkgversion takes the place of the version')
        self.assertRegex(said, rf'\(.*qemu-mq {re.escape(version)}[ )]')


if __name__ == '__main__':
    unittest.main(verbosity=2)
