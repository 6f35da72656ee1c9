#!/usr/bin/env python3
#
# What "make export" takes from this tree: patches/export has a place for every
# file, and every commit can be read.  A reader of the branch knows nothing of
# this tree, so what goes into it has the words, the subjects and the lists that
# QEMU has.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import re
import unittest
from pathlib import Path

from fake_base import REPO

# pylint: disable=wrong-import-position,wrong-import-order
import checkpatch  # noqa: E402
import export  # noqa: E402
import trial  # noqa: E402
from term import Refusal  # noqa: E402

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
