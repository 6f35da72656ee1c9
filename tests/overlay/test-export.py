#!/usr/bin/env python3
#
# "make export": which file goes into which commit, with a small base and a
# small tree.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from fake_base import REPO, FakeBase, FakeCheckout, write

# pylint: disable=wrong-import-position,wrong-import-order
import export  # noqa: E402
from term import Refusal  # noqa: E402

FIX = '''hw: keep less

--- a/hw/kept.c
+++ b/hw/kept.c
@@ -1 +1 @@
-kept
+kept less
'''
DEVICE = '''hw: old is ours

--- a/hw/meson.build
+++ b/hw/meson.build
@@ -1,2 +1 @@
 base_lines('kin.c')
-old()
--- a/MAINTAINERS
+++ b/MAINTAINERS
@@ -8,3 +8,2 @@
 F: hw/kept.c
-F: hw/old.c
 T: git there
'''
SERIES = '''## fixes
0100-fix.patch

## devices
0010-device.patch

## overlay
0001-hook.patch
'''
PLAN = '''# comment
0100-fix.patch
    tests/unit/test-kept.c
= hw: the parts
    | What both have.
    hw/part.c hw/kin.c include/part.h
0010-device.patch
    hw/new.c tests/unit/test-new.c
    - hw/old.c
'''

MAINTAINERS = '''Block layer core
M: A <a@example.org>
F: block/
T: git here

virtio-blk
M: B <b@example.org>
F: hw/kept.c
F: hw/old.c
T: git there
'''
OUR_MAINTAINERS = '''Block layer
M: us
F: tests/unit/test-k*

Queues of block devices
M: us
F: include/

virtio-blk
M: us
F: hw/
F: tests/unit/test-n*
'''
TESTS = '''tests = {
  'test-old': [],
}

if have_block
  tests += {
    'test-base': [testblock]
  }
endif

foreach test_name, extra: tests
endforeach
'''
OUR_TESTS = '''tests = {}

# ---

parts = files('../../hw/new.c')

if have_block
  tests += {
    'test-kept': [testblock,
                  io],
    'test-new': parts,
  }
endif

if have_system
  tests += {
    'test-new': parts,
  }
endif

# ---

here()
'''

class ExportTest(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix='overlay.', dir='.')) \
            .resolve()
        self.addCleanup(shutil.rmtree, self.folder)
        self.base = FakeBase(self.folder / 'base')
        write(self.base.path / 'hw/meson.build', "base_lines('kin.c')\nold()\n")
        write(self.base.path / 'hw/trace-events', 'kept() ""\n')
        write(self.base.path / 'MAINTAINERS', MAINTAINERS)
        write(self.base.path / 'tests/unit/meson.build', TESTS)
        self.tree = FakeCheckout(self.folder / 'tree')
        for name, text in {
                'patches/0100-fix.patch': FIX,
                'patches/0010-device.patch': DEVICE,
                'patches/series': SERIES, 'patches/export': PLAN,
                'hw/trace-events': '# Ours\n\n# new.c\nnew() ""\n',
                'hw/part.c': '#include "part.h"\n',
                'hw/new.c': '#include "trace/trace-qemu_mq_hw_block.h"\n',
                'include/part.h': '', 'qapi/ours.json': '',
                'MAINTAINERS': OUR_MAINTAINERS,
                'tests/unit/meson.build': OUR_TESTS,
                'tests/unit/test-kept.c': '', 'tests/unit/test-new.c': '',
                'hw/kin.c': '',
                'hw/meson.build': "# Ours\n\nss.add(files('part.c'))\n\n"
                                  "ss.add(files(\n  'kin.c',\n"
                                  "  'new.c',\n))\n\n"
                                  "ss.add(files('kin.c'))\n"}.items():
            write(self.tree.path / name, text)
        (self.tree.path / 'qapi/ours.json').unlink()
        self.git('init', '-q')
        self.git('add', '-A')
        self.branch = self.tree.build / 'export'

    def git(self, *arguments, cwd=None):
        return subprocess.run(['git', *arguments], cwd=cwd or self.tree.path,
                              check=True, capture_output=True,
                              text=True).stdout

    def make(self, *arguments):
        self.tree.configure(f'--with-base={self.base.path}')
        return self.tree.run('scripts/base/run', 'export', *arguments)

    def refused(self):
        status, _out, err = self.make()
        self.assertEqual((status, len(err.splitlines())), (1, 1), err)
        return err

    def show(self, commit, name):
        return self.git('show', f'{commit}:{name}', cwd=self.branch)

    def test_commits(self):
        status, _out, err = self.make()
        self.assertEqual((status, err), (0, ''))
        log = self.git('log', '--reverse', '--format=%s', 'base..',
                       cwd=self.branch)
        self.assertEqual(log, 'hw: keep less\nhw: the parts\n'
                              'hw: old is ours\n')
        self.assertIn('What both have.\n',
                      self.git('log', '-1', '--format=%b', 'HEAD~',
                               cwd=self.branch))
        # QEMU's list has kin.c, and none has a line that only introduces ours.
        self.assertEqual(self.show('HEAD~', 'hw/meson.build'),
                         "base_lines('kin.c')\nold()\n\n"
                         "ss.add(files('part.c'))\n")
        self.assertEqual(self.show('HEAD', 'hw/meson.build'),
                         "base_lines('kin.c')\n\nss.add(files('part.c'))\n\n"
                         "ss.add(files(\n  'new.c',\n))\n")
        self.assertEqual(self.show('HEAD', 'hw/new.c'),
                         '#include "trace.h"\n')
        self.assertNotIn('qemu-mq', (self.branch / 'meson.build').read_text())
        self.assertEqual(self.show('HEAD~', 'hw/trace-events'), 'kept() ""\n')
        self.assertEqual(self.show('HEAD', 'hw/trace-events'),
                         'kept() ""\n\n# new.c\nnew() ""\n')

    def test_fixes(self):
        status, _out, err = self.make('fixes')
        self.assertEqual((status, err), (0, ''))
        self.assertEqual(self.git('diff', '--name-only', 'base',
                                  cwd=self.branch),
                         'MAINTAINERS\nhw/kept.c\ntests/unit/meson.build\n'
                         'tests/unit/test-kept.c\n')

    def test_removed_with_its_commit(self):
        self.make()
        self.assertEqual(self.show('HEAD~', 'hw/old.c'), 'old\n')
        self.assertIn('F: hw/old.c\n', self.show('HEAD~', 'MAINTAINERS'))
        self.assertEqual(self.git('ls-tree', '--name-only', 'HEAD', 'hw/old.c',
                                  cwd=self.branch), '')
        self.assertNotIn('hw/old.c', self.show('HEAD', 'MAINTAINERS'))

    def test_removed_by_no_commit(self):
        write(self.tree.path / 'patches/export', PLAN.replace('- hw/', '# hw/'))
        self.assertIn('# is no file of ours', self.refused())
        write(self.tree.path / 'patches/export',
              PLAN.replace('    - hw/old.c\n', ''))
        self.assertIn('names no commit that removes hw/old.c', self.refused())

    def test_removed_but_not_replaced(self):
        write(self.tree.path / 'patches/export',
              PLAN.replace('- hw/old.c', '- hw/old.c hw/kept.c'))
        self.assertIn('removes hw/kept.c, which base.lock does not replace',
                      self.refused())

    def test_removed_but_built(self):
        lines = "base_lines('kin.c')\nold()\nss.add(files('old.c'))\n"
        write(self.base.path / 'hw/meson.build', lines)
        write(self.tree.path / 'patches/0010-device.patch',
              DEVICE.replace('-1,2 +1 @@', '-1,3 +1,2 @@').replace(
                  '-old()\n', "-old()\n ss.add(files('old.c'))\n"))
        self.assertIn('hw/meson.build still has old.c', self.refused())

    def test_removed_but_maintained(self):
        write(self.tree.path / 'patches/0010-device.patch',
              DEVICE.split('--- a/MAINTAINERS')[0])
        self.assertIn('MAINTAINERS still has hw/old.c', self.refused())

    def test_tests_come_with_their_commits(self):
        self.make()
        kept = TESTS.replace("[testblock]\n", "[testblock],\n"
                             "    'test-kept': [testblock,\n"
                             "                  io],\n")
        for commit in ('HEAD~2', 'HEAD~'):
            self.assertEqual(self.show(commit, 'tests/unit/meson.build'), kept)
        new = kept.replace("io],\n", "io],\n    'test-new': parts,\n")
        new = "parts = files('../../hw/new.c')\n\n" + new
        new = new.replace("foreach", "if have_system\n  tests += {\n"
                          "    'test-new': parts,\n  }\nendif\n\nforeach", 1)
        self.assertEqual(self.show('HEAD', 'tests/unit/meson.build'), new)

    def test_test_before_its_parts(self):
        write(self.tree.path / 'patches/export', PLAN.replace(
            'test-kept.c', 'test-kept.c tests/unit/test-new.c', 1).replace(
                'hw/new.c tests/unit/test-new.c', 'hw/new.c'))
        self.assertIn('tests/unit/test-new.c comes before files that it is '
                      'linked with', self.refused())

    def test_source_that_is_not_built(self):
        write(self.tree.path / 'hw/meson.build',
              "ss.add(files('part.c', 'new.c'))\n")
        self.assertIn('hw/part.c comes before files that are built in the '
                      'same line', self.refused())

    def test_maintainers(self):
        self.make()
        lines = MAINTAINERS.replace('T: git here', 'F: tests/unit/test-k*\n'
                                    'T: git here')
        self.assertEqual(self.show('HEAD~2', 'MAINTAINERS'), lines)
        who = self.git('log', '-1', '--format=%an <%ae>', cwd=self.branch)
        lines = lines.replace('virtio-blk\n', 'Queues of block devices\n'
                              f'M: {who}L: qemu-block@nongnu.org\n'
                              'S: Maintained\nF: include/part.h\n\n'
                              'virtio-blk\n')
        lines = lines.replace('T: git there', 'F: hw/part.c\nF: hw/kin.c\n'
                              'T: git there')
        self.assertEqual(self.show('HEAD~', 'MAINTAINERS'), lines)
        lines = lines.replace('F: hw/old.c\n', '').replace(
            'T: git there', 'F: hw/new.c\nF: tests/unit/test-n*\nT: git there')
        self.assertEqual(self.show('HEAD', 'MAINTAINERS'), lines)

    def test_version(self):
        """What fits several versions is exported as it is for one."""
        header = (REPO / export.versions.HEADER).read_text()
        source = (export.versions.INCLUDE + '''
#if BASE_SINCE(10, 2)
new();
#else
#ifdef X
old();
#endif
#endif
void f(ClassInitData *data)
{
    g_assert(base_co_pdiscard(blk, g(1, 2),
                              bytes,
                              0) == 0);
}
''')
        self.assertEqual(export.versions.settle(source, header, '10.0.13'), '''
#ifdef X
old();
#endif
void f(void *data)
{
    g_assert(blk_co_pdiscard(blk, g(1, 2),
                             bytes,
                             0) == 0);
}
''')
        self.assertEqual(export.versions.settle(source, header, '10.2.0'), '''
new();
void f(const void *data)
{
    g_assert(blk_co_pdiscard(blk, g(1, 2),
                             bytes) == 0);
}
''')
        self.assertEqual(export.versions.settle('x', header, '10.2.0'), 'x')

    def test_vendor(self):
        """Upstream has no vendor, and a release of its own."""
        self.assertEqual(export.at_home('''# Since: qemu-mq 0.1
{ 'command': '__org.qemu-mq_do-it' }
void qmp___org_qemu_mq_do_it(int a,
                             int b);
'''), f'''# Since: {export.versions.NEXT_RELEASE}
{{ 'command': 'do-it' }}
void qmp_do_it(int a,
               int b);
''')

    def test_choice_that_is_not_simple(self):
        for line in ('#if BASE_SINCE(10, 2) && defined(X)',
                     '#if defined(X) && BASE_SINCE(10, 2)',
                     '#if BASE_SINCE(10, 2)\n#elif defined(X)',
                     'if (BASE_SINCE(10, 2))'):
            write(self.tree.path / 'hw/part.c', export.versions.INCLUDE +
                  f'{line}\n#endif\n')
            self.assertRegex(self.refused(), 'hw/part.c: .*BASE_SINCE')

    def test_file_of_no_section(self):
        write(self.tree.path / 'MAINTAINERS',
              OUR_MAINTAINERS.replace('F: include/', 'F: docs/'))
        self.assertIn('MAINTAINERS has no section for include/part.h',
                      self.refused())

    def test_made_anew(self):
        self.make()
        self.make()
        self.assertEqual(len(self.git('log', '--format=%h', 'base..',
                                      cwd=self.branch).split()), 3)

    def test_file_without_a_place(self):
        write(self.tree.path / 'hw/more.c', '')
        self.git('add', '-A')
        self.assertIn('names no commit for hw/more.c', self.refused())

    def test_place_without_a_file(self):
        write(self.tree.path / 'patches/export', PLAN + '    hw/gone.c\n')
        self.assertIn('hw/gone.c is no file of ours', self.refused())

    def test_patch_of_the_plan_is_not_in_the_series(self):
        write(self.tree.path / 'patches/export', PLAN + '0100-fix.patch\n')
        self.assertIn('0100-fix.patch is not in the series', self.refused())

    def test_include_of_a_later_file(self):
        write(self.tree.path / 'hw/part.c', '#include "later.h"\n')
        write(self.tree.path / 'include/later.h', '')
        write(self.tree.path / 'patches/export', PLAN +
              '    include/later.h\n')
        self.git('add', '-A')
        self.assertIn('hw/part.c comes before include/later.h',
                      self.refused())

    def test_next_base(self):
        """Another base gets its variants, and not what it does without."""
        self.base = FakeBase(self.base.path, '10.2.1')
        write(self.base.path / 'hw/meson.build', "base_lines('kin.c')\nold()\n")
        own = self.tree.path / 'patches/10.2'
        lock = (self.tree.path / 'base.lock').read_text()
        write(own / 'base.lock', lock.replace('10.0', '10.2')
              + 'without 0100-fix.patch\n')
        write(own / '0010-device.patch',
              DEVICE.replace('old is ours', 'old is ours here'))
        write(own / '0000-first.patch', FIX.replace('keep less', 'come first'))
        status, _out, err = self.make()
        self.assertEqual((status, err), (0, ''))
        self.assertNotIn('test-kept', self.show('HEAD',
                                                'tests/unit/meson.build'))
        log = self.git('log', '--reverse', '--format=%s', 'base..',
                       cwd=self.branch)
        self.assertEqual(log, 'hw: come first\nhw: the parts\n'
                              'hw: old is ours here\n')
        (own / '0000-first.patch').rename(own / '0199-first.patch')
        write(own / '0000-header.patch', FIX)
        self.assertEqual(self.make('fixes')[::2], (0, ''))
        log = self.git('log', '--format=%s', 'base..', cwd=self.branch)
        self.assertEqual(log, 'hw: come first\n')

    def test_patch_without_a_group(self):
        write(self.tree.path / 'patches/series', '0100-fix.patch\n')
        self.assertIn('0100-fix.patch is in no group', self.refused())


if __name__ == '__main__':
    unittest.main()
