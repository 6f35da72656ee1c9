#!/usr/bin/env python3
#
# The repository's own lists: MAINTAINERS covers every file, README.md lists
# every folder, docs/index.rst every page, patches/series every patch, every
# program file says its licence, and a page or a program that any file points to
# is there.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import fnmatch
import os
import re
import shutil
import subprocess
import unittest
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent.parent

# Files with a licence line; data and prose are under COPYING.
PROGRAMS = ('.c', '.h', '.py', '.sh', '.S')


# A page, or a program with its folder.  What follows a name ('/x.rst', '*.py')
# is no pointer, and Linux's pages are in Linux.
POINTER = re.compile(r'(?<![\w./*:<>$-])(?:(?!Documentation/)'
                     r'(?:[\w.-]+/)*[\w.-]+\.(?:md|rst)|'
                     r'(?:[\w.-]+/)+[\w.-]+\.py)\b'
                     r'|(?<=<)[\w./-]+\.rst(?=>)')


def pointers(text):
    return set(POINTER.findall(text))


def leads_somewhere(pointer, name, base):
    """Whether a file called @name may point there: to what lies beside it or
    beside its folder, to a path of ours or of the base, to a page of docs/ or
    at the top."""
    folder = (REPO / name).parent
    places = [folder / pointer, folder.parent / pointer]
    if '/' in pointer:
        places += [REPO / pointer, base / pointer.removeprefix('build/base/')]
    else:
        places += [REPO / 'docs' / pointer, REPO / pointer]
    return any(place.exists() for place in places)


def walk():
    """Files of a checkout without git: all but build folders."""
    for folder, folders, names in os.walk(REPO):
        if folder == str(REPO):
            folders[:] = [name for name in folders
                          if name != '.git' and not name.startswith('build')]
        for name in names:
            if not name.endswith('.pyc'):
                yield os.path.relpath(os.path.join(folder, name), REPO)


def tracked_files():
    names = None
    if shutil.which('git'):
        done = subprocess.run(['git', '-C', REPO, 'ls-files', '-z'],
                              check=False, capture_output=True, text=True)
        if done.returncode == 0:
            names = done.stdout.split('\0')[:-1]
    return sorted(name for name in names or walk()
                  if (REPO / name).is_file())


def covers(pattern, name):
    """As get_maintainer.pl reads an F: line."""
    if pattern.endswith('/'):
        return name.startswith(pattern)
    return fnmatch.fnmatch(name, pattern) \
        and name.count('/') == pattern.count('/')


class TreeTest(unittest.TestCase):
    files = tracked_files()

    def test_maintainers_cover_every_file(self):
        lines = (REPO / 'MAINTAINERS').read_text().splitlines()
        patterns = [line[2:].strip() for line in lines
                    if line.startswith('F:')]
        self.assertEqual([name for name in self.files
                          if not any(covers(p, name) for p in patterns)], [],
                         'no F: line in MAINTAINERS')

    def test_readme_lists_every_folder(self):
        folders = {os.path.dirname(name) for name in self.files} - {'', '.ci'}
        text = (REPO / 'README.md').read_text()
        listed = set(re.findall(r'^- `([^`]+?)/?`: ', text, re.M))
        self.assertEqual(sorted(folders - listed), [],
                         'folders that README.md does not list')

    def test_docs_index_lists_every_page(self):
        index = (REPO / 'docs/index.rst').read_text()
        self.assertEqual([name for name in self.files
                          if re.fullmatch(r'docs/[^/]+\.rst', name)
                          and name != 'docs/index.rst'
                          and f'<{name[len("docs/"):]}>' not in index], [],
                         'pages that docs/index.rst does not list')

    def test_overlay_page_lists_every_program(self):
        page = (REPO / 'docs/overlay.rst').read_text()
        self.assertEqual([name for name in self.files
                          if re.fullmatch(r'scripts/base/[^/]+\.py', name)
                          and f'``{os.path.basename(name)}``' not in page], [],
                         'programs that docs/overlay.rst does not list')

    def test_series_lists_every_patch(self):
        lines = [line for line in
                 (REPO / 'patches/series').read_text().splitlines()
                 if line and not line.startswith('#')]
        patches = [os.path.basename(name) for name in self.files
                   if re.fullmatch(r'patches/[^/]*\.patch', name)]
        self.assertEqual(sorted(lines), patches)

    def test_other_bases_do_without_what_is_there(self):
        """No lock leaves out a patch that is gone, or one with a variant."""
        for name in self.files:
            if not re.fullmatch(r'patches/[^/]*/base\.lock', name):
                continue
            lock = (REPO / name).read_text()
            series = (REPO / 'patches/series').read_text().splitlines()
            without = re.findall(r'^without (.*)$', lock, re.M)
            own = [os.path.basename(path) for path in self.files
                   if re.fullmatch(rf'{os.path.dirname(name)}/.*\.patch', path)]
            self.assertEqual([patch for patch in without
                              if patch not in series or patch in own], [])

    def test_overlay_page_counts_patches(self):
        """How many patches are as they are, vary or are left out, with 10.2"""
        series = [line for line in
                  (REPO / 'patches/series').read_text().splitlines()
                  if line and not line.startswith('#')]
        folder = REPO / 'patches/10.2'
        variants = [path for path in folder.glob('*.patch')
                    if path.name in series]
        without = re.findall(r'^without ', (folder / 'base.lock').read_text(),
                             re.M)
        page = ' '.join((REPO / 'docs/overlay.rst').read_text().split())
        found = re.search(r'Of the (\d+) patches (\d+) apply to [\d.]+ as they '
                          r'are, (\d+) have a variant in ``patches/10.2``, and '
                          r'(\d+) are left out', page)
        alike = len(series) - len(variants) - len(without)
        self.assertEqual([int(number) for number in found.groups()],
                         [len(series), alike, len(variants), len(without)])

    def test_variants_differ(self):
        """A variant that is the patch itself is not needed."""
        alike = [name for name in self.files
                 if re.fullmatch(r'patches/[^/]*/.*\.patch', name)
                 and (REPO / 'patches' / os.path.basename(name)).exists()
                 and (REPO / name).read_text()
                 == (REPO / 'patches' / os.path.basename(name)).read_text()]
        self.assertEqual(alike, [])

    def test_headers_have_several_users(self):
        """What only one patch includes belongs in that patch."""
        texts = {name: (REPO / name).read_text(errors='replace')
                 for name in self.files
                 if name.endswith(('.c', '.h', '.patch'))}
        lonely = []
        for header in (name[len('include/'):] for name in texts
                       if name.startswith('include/')):
            users = [name for name, text in texts.items()
                     if f'#include "{header}"' in text]
            if len(users) == 1 and users[0].endswith('.patch'):
                lonely.append(f'{header}: {users[0]}')
        self.assertEqual(lonely, [])

    def test_pointers_lead_somewhere(self):
        # The test runs in the base's build folder.
        base = Path('../base')
        dead = [f'{name}: {pointer}' for name in self.files
                if not name.startswith(('patches/', 'tests/overlay/'))
                for pointer in sorted(pointers(
                    (REPO / name).read_text(errors='replace')))
                if not leads_somewhere(pointer, name, base)]
        self.assertEqual(dead, [], 'pointers to what is not there')

    def test_pointers_are_seen(self):
        self.assertEqual(
            pointers('see README.md; `data-path.rst <data-path.rst>`_, '
                     'scripts/guest/init.py: /abs/x.rst *.md x.py '
                     'https://x.org/y.rst Documentation/z.rst'),
            {'README.md', 'data-path.rst', 'scripts/guest/init.py'})

    def test_unit_tests_run(self):
        """The lists that the build goes through name every unit test."""
        text = (REPO / 'tests/unit/meson.build').read_text()
        lists = re.findall(r'(?ms)^( *)tests \+= \{\n(.*?)^\1\}$', text)
        named = re.findall(r"'(test-[\w-]+)':", ''.join(t for _, t in lists))
        written = [Path(name).stem for name in self.files
                   if fnmatch.fnmatch(name, 'tests/unit/test-*.c')]
        self.assertEqual(sorted(set(written) - set(named)), [])

    def test_programs_name_their_licence(self):
        bare = [name for name in self.files
                if name.endswith(PROGRAMS)
                and 'SPDX-License-Identifier: GPL-2.0-or-later'
                not in (REPO / name).read_text(errors='replace')]
        self.assertEqual(bare, [])


if __name__ == '__main__':
    unittest.main(verbosity=2)
