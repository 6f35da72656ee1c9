#!/usr/bin/env python3
#
# "make export": which file goes into which commit, with a small base and a
# small tree; and that patches/export of this tree has a place for every file.
# A reader of the branch knows nothing of this tree, so what goes into it has
# the words, the subjects and the lists that QEMU has.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from fake_base import REPO, FakeBase, FakeCheckout, write

# pylint: disable=wrong-import-position,wrong-import-order
import checkpatch  # noqa: E402
import export  # noqa: E402
import trial  # noqa: E402
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


# Words that mean something in this tree, and nothing in QEMU's.  "Base" alone
# may be the base of a number, and "overlay" alone an image on top of another.
OURS = re.compile(r"\b(?:(?:the|untouched|prepared)\s+(?:\*\s+)?bases?\b"
                  r"(?!\s+of|\s+image)|"
                  r"base's|(?<!@)stock(?:'s)?|(?:the|our) overlay's|"
                  r"enters? the overlay|tests/overlay)\b|qemu[-_]mq", re.I)

# A comment or a string of C
PROSE = re.compile(r'/\*.*?\*/|"(?:[^"\\\n]|\\.)*"', re.S)


def exported():
    """Every file of this tree that goes into the branch, and every patch."""
    names = export.our_files(REPO)
    names += [f'{folder}/{name}'
              for folder in {Path(name).parent for name in names}
              for name in export.JOINED
              if not str(folder).startswith('tests')
              and (REPO / folder / name).exists()]
    groups = export.groups(REPO)
    hooks = {path.name for path in groups.pop('overlay')}
    patches = [path for folder in ('patches', 'patches/10.2')
               for path in (REPO / folder).glob('*.patch')
               if path.name not in hooks]
    return [REPO / name for name in names] + patches


def prose(path):
    """The part of a file that is written for a reader."""
    text = export.at_home(path.read_text())
    if path.suffix == '.patch':
        header, _, code = text.partition('\n--- ')
        return header + '\n'.join(re.findall(r'^\+.*', code, re.M))
    if path.suffix in ('.c', '.h', '.S'):
        return '\n'.join(PROSE.findall(text))
    return text


def odd_words(path):
    return [match[0] for match in OURS.finditer(prose(path))]


# A path, or the name of a page
POINTER = re.compile(r'(?<![\w./*-])(?:[\w.-]+/)+[\w.-]*\w|'
                     r'(?<![\w./*-])[\w-]+\.(?:rst|md)\b')


def pointers_home(text, names):
    """What @text points to that this tree has and the branch does not."""
    folders = {str(folder) for name in names for folder in Path(name).parents}
    return [word for word in POINTER.findall(text)
            if word not in names and word not in folders
            and any((REPO / folder / word).exists() for folder in ('', 'docs'))]


# First words of an order.  A subject says how things are after the commit.
ORDERS = """accept add allow avoid check clean compare count define do drop
execute fix forget free give handle implement introduce keep leave let list
lock look make migrate move publish read refuse remove rename replace return
rework round say set simplify skip split stop support take tell treat use wait
write""".split()


def odd_subject(subject):
    """A statement behind the name of a part fits git log."""
    part, _, what = subject.partition(': ')
    words = what.split(': ')[-1].split()
    return (not words or len(subject) > 72 or subject.endswith('.')
            or ' ' in part or words[0].lower() in ORDERS)


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


class PlanTest(unittest.TestCase):
    @unittest.skipUnless((REPO / '.git').exists(), 'files are listed by git')
    def test_every_file_has_its_place(self):
        steps = export.whole_plan(REPO)
        try:
            export.deal(steps, export.our_files(REPO))
            export.check_includes(REPO, steps)
        except Refusal as refusal:
            self.fail(refusal)

    @unittest.skipUnless((REPO / '.git').exists(), 'files are listed by git')
    def test_unit_tests_come_with_what_they_test(self):
        steps = export.whole_plan(REPO)
        export.deal(steps, export.our_files(REPO))
        self.assertEqual([step.subject for step in steps if step.files and
                          not step.patch and
                          all(name.startswith('tests/unit/')
                              for name in step.files)], [])

    @unittest.skipUnless((REPO / '.git').exists(), 'files are listed by git')
    def test_commits_can_be_read(self):
        steps = export.whole_plan(REPO)
        export.deal(steps, export.our_files(REPO))
        for step in steps:
            lines = sum(len((REPO / name).read_text().splitlines())
                        for name in step.files)
            self.assertLess(lines, 5000, step.subject or step.patch)

    def test_trace_events_stand_with_their_users(self):
        for path in REPO.glob('hw/*/trace-events'):
            for part in path.read_text().strip('\n').split('\n\n'):
                user = export.joined.events_of(part)
                text = (path.parent / user).read_text() if user else ''
                for event in re.findall(r'^(\w+)\(', part, re.M):
                    self.assertIn(f'trace_{event}(', text, path)

    maxDiff = None

    @unittest.skipUnless((REPO / '.git').exists(), 'files are listed by git')
    def test_words(self):
        """What is exported speaks of QEMU, and not of a base or an overlay."""
        odd = [f'{path.relative_to(REPO)}: {word}'
               for path in exported() for word in odd_words(path)]
        self.assertEqual(odd, [])

    @unittest.skipUnless((REPO / '.git').exists(), 'files are listed by git')
    def test_pointers(self):
        """What is exported points to nothing that only this tree has."""
        names = [str(path.relative_to(REPO)) for path in exported()]
        odd = [f'{path.relative_to(REPO)}: {word}' for path in exported()
               for word in pointers_home(prose(path), names)]
        self.assertEqual(odd, [])

    def test_pointers_home_are_seen(self):
        names = ['hw/block/virtio-blk.c']
        for text in ('see docs/data-path.rst.', 'as data-path.rst has it',
                     'scripts/base/export.py', 'in tests/soak', 'README.md'):
            self.assertEqual(len(pointers_home(text, names)), 1, text)
        for text in ('hw/block/virtio-blk.c', 'in hw/block', 'and/or',
                     'docs/devel/tracing.rst', '9.0/docs/data-path.rst'):
            self.assertEqual(pointers_home(text, names), [], text)

    def test_what_checkpatch_may_say_is_explained(self):
        page = (REPO / 'docs/overlay.rst').read_text()
        for _what, name in checkpatch.ACCEPTED:
            self.assertIn(Path(name).name, page)

    def test_complaints(self):
        text = ('WARNING: line over 80 characters\n'
                '#80: FILE: scripts/meson-buildoptions.sh:83:\n+  long\n\n'
                'ERROR: memory barrier without comment\n'
                '#71: FILE: block/io.c:2096:\n+ smp_wmb();\n\n'
                'WARNING: added, moved or deleted file(s), does MAINTAINERS '
                'need updating?\n#48: \nnew file mode 100644\n\n'
                "ERROR: New file 'a.h' requires 'SPDX-License-Identifier'\n"
                'WARNING: line over 80 characters\n'
                '#81: FILE: util/meson-buildoptions.sh:1:\n+ long\n\n'
                'total: 1 errors, 3 warnings, 1 lines checked\n')
        found = checkpatch.complaints(text)
        self.assertEqual(len(found), 5)
        self.assertEqual(
            [(name, line) for what, name, line in found
             if not checkpatch.accepted(what, name)],
            [('block/io.c', '2096'), ('', ''),
             ('util/meson-buildoptions.sh', '1')])

    def test_tests_that_are_not_built(self):
        tests = [{'name': 'qtest-x86_64/new-test'}, {'name': 'test-old'}]
        self.assertEqual(trial.choose(tests, {'new-test'}, False), tests[:1])
        for added in ({'new-test', 'test-new'}, set()):
            with self.assertRaises(Refusal):
                trial.choose(tests, added, False)

    def test_backports_come_first(self):
        """A reader of the log sees which fixes upstream has."""
        headers = [patch.read_text().split('\n--- ')[0]
                   for patch in export.groups(REPO)['fixes']]
        backports = [bool(re.search(r'\n\nBackport of upstream commits? '
                                    r'[0-9a-f]{10}\b.*$', header.rstrip()))
                     for header in headers]
        self.assertEqual(backports, sorted(backports, reverse=True))
        self.assertEqual(sum(backports),
                         sum('Backport' in header for header in headers))

    def test_subjects(self):
        subjects = [path.read_text().splitlines()[0] for folder
                    in ('patches', 'patches/10.2')
                    for path in (REPO / folder).glob('*.patch')]
        subjects += [step.subject for step
                     in export.read_plan(REPO / 'patches/export')
                     if step.subject]
        self.assertEqual(list(filter(odd_subject, subjects)), [])

    def test_an_order_is_no_subject(self):
        for subject in ('block: replace it', 'block: qcow2: Fix it', 'block',
                        'it is so', 'block: it is so.', 'a: ' + 70 * 'x'):
            self.assertTrue(odd_subject(subject), subject)


if __name__ == '__main__':
    unittest.main()
