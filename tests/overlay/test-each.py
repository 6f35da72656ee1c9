#!/usr/bin/env python3
#
# "make check-export EACH=1" finds the commit that needs a later one.  A small
# branch is built with Ninja and the C compiler, as the base's build does it.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from fake_base import write

# pylint: disable=wrong-import-position,wrong-import-order
import each  # noqa: E402
from term import Refusal  # noqa: E402

NINJA = '''rule cc
  command = cc -I../include -MD -MF $out.d -c $in -o $out
  deps = gcc
  depfile = $out.d
rule link
  command = cc $in -o $out
build used.o: cc ../used.c
build user.o: cc ../user.c
build program: link used.o user.o
'''
IDENTITY = ['-c', 'user.name=x', '-c', 'user.email=x@example.org']


class EachTest(unittest.TestCase):
    def setUp(self):
        self.tree = Path(tempfile.mkdtemp(prefix='overlay.', dir='.')).resolve()
        self.addCleanup(shutil.rmtree, self.tree)
        self.build = self.tree / 'b'
        self.tests = []     # those that each commit adds
        self.git('init', '-q', '-b', 'branch')
        self.commit('base', {'used.c': '#include "used.h"\n'
                                       'int used(void) { return 1; }\n',
                             'include/used.h': 'int used(void);\n',
                             'user.c': 'int main(void) { return 1; }\n'})
        self.git('tag', 'base')

    def git(self, *words):
        subprocess.run(['git', *IDENTITY, *words], cwd=self.tree, check=True,
                       capture_output=True)

    def commit(self, subject, files):
        for name, text in files.items():
            write(self.tree / name, text)
        self.git('add', '-A', ':!b')
        self.git('commit', '-q', '-m', subject)

    def try_commit(self, added):
        write(self.build / 'build.ninja', NINJA)
        each.build(self.build)
        self.tests.append(added)
        if 'test-bad' in added:
            raise Refusal('its tests fail')

    def refused(self):
        with self.assertRaises(Refusal) as caught:
            each.check(self.tree, self.try_commit)
        return str(caught.exception)

    def uses(self, call):
        return {'user.c': '#include "used.h"\n'
                          f'int main(void) {{ return {call}; }}\n'}

    def test_good(self):
        self.commit('more', {'include/used.h': 'int used(void);\n'
                                               '#define more() used()\n',
                             'tests/unit/test-used.c': '',
                             'tests/unit/helper.c': ''})
        self.commit('use', {**self.uses('more()'),
                            'tests/qtest/user-test.c': '',
                            'tests/unit/test-used.c': '/* more */\n'})
        each.check(self.tree, self.try_commit)
        self.assertEqual(self.tests, [{'test-used'}, {'user-test'}])

    def test_header_comes_later(self):
        self.commit('use', {'user.c': '#include "later.h"\n'
                                      'int main(void) { return LATER; }\n'})
        self.commit('later', {'include/later.h': '#define LATER 1\n'})
        self.assertRegex(self.refused(), '^commit .* use: .*later.h')

    def test_defined_later(self):
        self.commit('use', {'include/used.h': 'int used(void);\n'
                                              'int more(void);\n',
                            **self.uses('more()')})
        self.commit('more', {'used.c': 'int more(void) { return 1; }\n'})
        self.assertRegex(self.refused(),
                         '^commit .* use: .*undefined reference to .more')

    def test_user_of_a_changed_header(self):
        """A commit changes a header only; a file that includes it breaks."""
        self.commit('change', {'include/used.h': 'long used(void);\n'})
        self.commit('mend', {'include/used.h': 'int used(void);\n'})
        self.assertRegex(self.refused(), '^commit .* change: .*used.c.*error:')

    def test_test_that_fails(self):
        self.commit('test', {'tests/unit/test-bad.c': ''})
        self.assertRegex(self.refused(), '^commit .* test: its tests fail')

    def test_begins_later(self):
        self.commit('test', {'tests/unit/test-bad.c': ''})
        self.commit('use', self.uses('used()'))
        each.check(self.tree, self.try_commit, 2)
        self.assertEqual(self.tests, [set()])
        with self.assertRaisesRegex(Refusal, 'EACH=3: .* has 2 commits'):
            each.check(self.tree, self.try_commit, 3)

    def test_first_commit(self):
        self.assertIsNone(each.first_commit(['fixes']))
        self.assertEqual(each.first_commit(['fixes', 'each=50']), 50)
        for bad in '0', 'x', '-1', '':
            with self.subTest(bad), self.assertRaisesRegex(Refusal, 'EACH='):
                each.first_commit([f'each={bad}'])

    def test_branch_is_left_as_it_was(self):
        self.commit('use', self.uses('used()'))
        each.check(self.tree, self.try_commit)
        head = subprocess.run(['git', 'symbolic-ref', '--short', 'HEAD'],
                              cwd=self.tree, check=True, text=True,
                              capture_output=True).stdout
        self.assertEqual(head, 'branch\n')


if __name__ == '__main__':
    os.environ.pop('GIT_DIR', None)
    unittest.main()
