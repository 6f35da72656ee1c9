#!/usr/bin/env python3
#
# "make check-export EACH=1" finds the commit that needs a later one.  A small
# branch is built with Ninja and the C compiler, as the base's build does it.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import json
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
  command = cc -I{tree}/include -MD -MF $out.d -c $in -o $out
  deps = gcc
  depfile = $out.d
build used.o: cc ../used.c
build user.o: cc ../user.c
'''
IDENTITY = ['-c', 'user.name=x', '-c', 'user.email=x@example.org']


class EachTest(unittest.TestCase):
    def setUp(self):
        self.tree = Path(tempfile.mkdtemp(prefix='overlay.', dir='.')).resolve()
        self.addCleanup(shutil.rmtree, self.tree)
        self.build = self.tree / 'b'
        self.git('init', '-q', '-b', 'branch')
        self.commit('base', {'used.c': '#include "used.h"\n'
                                       'int used(void) { return 1; }\n',
                             'include/used.h': 'int used(void);\n',
                             'user.c': 'int user(void) { return 1; }\n'})
        self.git('tag', 'base')

    def git(self, *words):
        subprocess.run(['git', *IDENTITY, *words], cwd=self.tree, check=True,
                       capture_output=True)

    def commit(self, subject, files):
        for name, text in files.items():
            write(self.tree / name, text)
        self.git('add', '-A')
        self.git('commit', '-q', '-m', subject)

    def check(self):
        """Build the last commit, then check all."""
        write(self.build / 'build.ninja', NINJA.format(tree=self.tree))
        write(self.build / 'compile_commands.json', json.dumps([
            {'directory': str(self.build), 'file': f'../{name}.c',
             'output': f'{name}.o', 'command':
             f'cc -I{self.tree}/include -MD -MF {name}.o.d '
             f'-c ../{name}.c -o {name}.o'} for name in ('used', 'user')]))
        subprocess.run(['ninja', '-C', self.build], check=True,
                       capture_output=True)
        each.check(self.tree, self.build)

    def uses(self, call):
        return {'user.c': '#include "used.h"\n'
                          f'int user(void) {{ return {call}; }}\n'}

    def test_good(self):
        self.commit('more', {'include/used.h': 'int used(void);\n'
                                               'int more(void);\n'})
        self.commit('use', self.uses('more()'))
        self.check()

    def test_declared_later(self):
        self.commit('use', self.uses('more()'))
        self.commit('more', {'include/used.h': 'int used(void);\n'
                                               'int more(void);\n'})
        with self.assertRaisesRegex(Refusal, 'use does not compile: user.c'):
            self.check()

    def test_header_comes_later(self):
        self.commit('use', {'user.c': '#include "later.h"\n'
                                      'int user(void) { return LATER; }\n'})
        self.commit('later', {'include/later.h': '#define LATER 1\n'})
        with self.assertRaisesRegex(Refusal, 'use does not compile: user.c'):
            self.check()

    def test_user_of_a_changed_header(self):
        """A commit changes a header only; a file that includes it breaks."""
        self.commit('change', {'include/used.h': 'long used(void);\n'})
        self.commit('mend', {'include/used.h': 'int used(void);\n',
                             'user.c': 'int user(void) { return 2; }\n'})
        with self.assertRaisesRegex(Refusal, 'change does not compile: used.c'):
            self.check()

    def test_branch_is_left_as_it_was(self):
        self.commit('use', self.uses('used()'))
        self.check()
        head = subprocess.run(['git', 'symbolic-ref', '--short', 'HEAD'],
                              cwd=self.tree, check=True, text=True,
                              capture_output=True).stdout
        self.assertEqual(head, 'branch\n')


if __name__ == '__main__':
    os.environ.pop('GIT_DIR', None)
    unittest.main()
