# A branch of QEMU's source with our changes, as upstream would take them.
#
#     base as it comes -> fixes -> speed -> the devices and their hooks
#                  one commit for each patch and each component, with its tests
#
# Our files have the same paths as here, which are QEMU's.  joined.py
# describes what happens to files that QEMU has, too.  A commit has only those
# lines of our meson.build whose files it has, so that every commit builds.
# patches/export says which file belongs to which commit.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import fnmatch
import os
import re
import shutil
import subprocess
from pathlib import Path

import joined
import versions
from layout import REPO
from prepare import apply_patch, groups, own_patches, variant
from term import Refusal, say

# Files that join the base's file of the same name.
JOINED = ('meson.build', 'trace-events')

# Folders that a developer of QEMU gets; the others make the overlay.
TESTS = ('tests/qtest', 'tests/unit')
FOLDERS = ('block', 'hw', 'include', 'qapi', 'util', *TESTS)

# These files stay here: they need what only this tree builds, or are for more
# than one base.
STAYS = ('tests/unit/hammer-on-stock', versions.HEADER)

# Patches that no group has are fixes from this number on.
FIXES_FROM = '0100'

# The author of the first commit, which is the base, and of all others if git
# knows no user
NOBODY = {f'GIT_{who}_{what}': value
          for who in ('AUTHOR', 'COMMITTER')
          for what, value in (('NAME', 'qemu-mq'),
                              ('EMAIL', 'qemu-mq@localhost'))}


class Step:
    """A commit: a patch or a subject of its own, and files of ours."""

    def __init__(self, subject, patch=None):
        self.subject = subject      # None: the patch has one
        self.body = []
        self.patch = patch
        self.patterns = []
        self.files = []
        self.removed = []           # files of the base

    def message(self):
        if self.subject is None:
            return at_home(self.patch.read_text().split('\n--- ')[0])
        return at_home('\n'.join([self.subject, '', *self.body]))


def read_plan(path):
    """The steps of patches/export, in its order."""
    steps = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        text = line.strip()
        if not text or line.startswith('#'):
            continue
        if line.startswith('= '):
            steps.append(Step(line[2:].strip()))
        elif not line[0].isspace():
            steps.append(Step(None, path.parent / text))
        elif not steps:
            raise Refusal(f'{path.name}, line {number}: a file of no commit')
        elif text.startswith('|'):
            steps[-1].body.append(text[1:].strip())
        elif text.startswith('- '):
            steps[-1].removed += text[2:].split()
        else:
            steps[-1].patterns += text.split()
    return steps


def whole_plan(repo):
    """
    All steps: every patch that is no hook of the overlay has one.

    A component comes right before the patch that is named after it.
    """
    by_group = groups(repo)
    plan = read_plan(repo / 'patches' / 'export')
    left = [patch for name in ('fixes', 'speed', 'devices')
            for patch in by_group[name]]
    steps, components = [], []
    for step in plan:
        if step.subject is not None:
            components.append(step)
            continue
        if step.patch not in left:
            raise Refusal(f'patches/export: {step.patch.name} is not in the '
                          'series, or not in its order')
        while left[0] != step.patch:
            steps.append(Step(None, left.pop(0)))
        left.pop(0)
        steps += [*components, step]
        components = []
    return [*steps, *(Step(None, patch) for patch in left), *components]


def fit(steps, repo, lock):
    """The steps for the base of @lock, which may need other patches."""
    for step in steps:
        if step.patch:
            step.patch = variant(repo, lock, step.patch.name)
    return [step for step in steps if step.patch or step.subject is not None]


def our_files(repo):
    """The files that go into the branch, except those that join others."""
    names = subprocess.run(['git', 'ls-files', '--', *FOLDERS], cwd=repo,
                           check=True, capture_output=True,
                           text=True).stdout.split()
    return [name for name in names if os.path.basename(name) not in JOINED
            and name not in STAYS]


def deal(steps, names):
    """Give each step its files; each file has one step."""
    owner = {}
    for step in steps:
        for pattern in step.patterns:
            found = [name for name in names if fnmatch.fnmatch(name, pattern)
                     and name not in owner]
            if not found:
                raise Refusal(f'patches/export: {pattern} is no file of ours '
                              'that is left')
            owner.update(dict.fromkeys(found, step))
            step.files += found
    homeless = [name for name in names if name not in owner]
    if homeless:
        raise Refusal(f'patches/export names no commit for {homeless[0]}')


def check_includes(repo, steps):
    """No file may include one of ours that comes in a later commit."""
    later = set(our_files(repo))
    for step in steps:
        later.difference_update(step.files)
        for name in step.files:
            for header in re.findall(r'^#include "(.*)"',
                                     (repo / name).read_text(), re.M):
                for path in (header, f'include/{header}', os.path.normpath(
                        f'{os.path.dirname(name)}/{header}')):
                    if path in later:
                        raise Refusal(f'patches/export: {name} comes before '
                                      f'{path}, which it includes')


def at_home(text):
    """A source file or a patch without the paths that only the overlay has."""
    text = text.replace('../qemu-mq/util/', '')
    text = re.sub(r'"trace/trace-(?:qemu_mq_)?hw_(?:block|xen)\.h"',
                  '"trace.h"', text)
    text = re.sub(r'(#include "trace\.h"\n)(?=(?:#include .*\n)*?\1)', '', text)
    return versions.without_vendor(text)


def check_removed(repo, steps, replaced):
    """A base file that is removed without a replacement needs a step."""
    named = {name for step in steps for name in step.removed}
    gone = {name for name in replaced if not (repo / name).exists()}
    for name in sorted(named ^ gone):
        raise Refusal(f'patches/export removes {name}, which base.lock does '
                      'not replace' if name in named else
                      f'patches/export names no commit that removes {name}')


class Branch:
    """The git repository that grows."""

    def __init__(self, folder, repo):
        self.folder = folder
        self.repo = repo
        self.version = (folder / 'VERSION').read_text().strip()
        header = repo / versions.HEADER
        self.header = header.read_text() if header.exists() else ''
        self.present = []       # files of ours
        self.plain = {}         # files of the base, without our lines
        self.owned = []         # our lines of MAINTAINERS
        self.others = []        # files of the base
        self.log = folder.parent / 'export.log'
        self.identity = NOBODY
        self.user = None        # name and address, as in a Signed-off-by

    def begin(self):
        """Commit what is there, as the base."""
        self.git('init', '-q', '-b', 'qemu-mq')
        say(f'committing QEMU {self.version}')
        self.commit(f'QEMU {self.version} as its package has it')
        self.git('tag', 'base')
        self.others = self.git('ls-files').splitlines()

    def sign_as_user(self):
        """Further commits are the user's, if git knows who that is."""
        if subprocess.run(['git', 'config', 'user.email'], cwd=self.folder,
                          stdout=subprocess.DEVNULL, check=False).returncode:
            say('git config user.email is not set: the commits are signed off '
                'by nobody, and cannot be sent')
        else:
            self.identity = {}
        self.user = self.git('var', 'GIT_AUTHOR_IDENT').rsplit(' ', 2)[0]

    def git(self, *arguments, stdin=None):
        done = subprocess.run(['git', *arguments], cwd=self.folder, text=True,
                              input=stdin, capture_output=True, check=False,
                              env=self.identity | os.environ)
        if done.returncode:
            raise Refusal(f'git {arguments[0]}: {done.stderr.strip()}')
        return done.stdout

    def commit(self, message):
        self.git('add', '-A', '-f', '.')
        self.git('commit', '-q', '--no-verify', '-s', '-F', '-',
                 stdin=message.rstrip('\n') + '\n')

    def read(self, name):
        """A file of the base, without ours; None if there is no such file."""
        try:
            return self.plain.setdefault(name, (self.folder / name).read_text())
        except FileNotFoundError:
            return None

    def make_plain(self):
        """Restore the files of the base that have lines of ours."""
        for name, text in self.plain.items():
            (self.folder / name).write_text(text)
        self.plain.clear()

    def apply(self, patch):
        aside = self.folder.parent / 'export.patch'
        aside.write_text(at_home(patch.read_text()))
        apply_patch(self.folder, aside, patch.name, self.log)
        aside.unlink()

    def take(self, names):
        """Put files of ours in, at their paths."""
        for name in names:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            text = at_home((self.repo / name).read_text())
            path.write_text(self.settled(name, text))
            shutil.copymode(self.repo / name, path)
        self.present += names

    def settled(self, name, text):
        try:
            return versions.settle(text, self.header, self.version)
        except Refusal as refusal:
            raise Refusal(f'{name}: {refusal}') from None

    def remove(self, names):
        """Remove files of the base; nothing may name them after that."""
        for name in names:
            (self.folder / name).unlink()
        left = self.git('ls-files', '-c', '-o').splitlines()
        left = [name for name in left if (self.folder / name).exists()]
        for name in names:
            folder, base = os.path.split(name)
            if f"'{base}'" in (self.read(f'{folder}/meson.build') or ''):
                raise Refusal(f'{folder}/meson.build still has {base}')
            for lines in joined.sections(self.read('MAINTAINERS') or
                                         '').values():
                for line in lines:
                    if joined.covers(line, name) and \
                            not any(joined.covers(line, path) for path in left):
                        raise Refusal(f'MAINTAINERS still has {line}')

    def join(self, names):
        """Add our lines to the base's files, if what they are about is there.

        @names are what this commit adds.
        """
        for folder in sorted({os.path.dirname(name) for name in self.present}):
            for base in JOINED:
                name = f'{folder}/{base}'
                source = self.repo / name
                text = self.read(name)
                if text is not None and source.exists():
                    (self.folder / name).write_text(
                        self.with_ours(text, source.read_text(), folder, base))
        self.join_maintainers(names)

    def with_ours(self, text, ours, folder, base):
        if base == 'trace-events':
            return joined.put_last(text, joined.events_for(ours, folder,
                                                           self.present))
        if not folder.startswith('tests'):
            text = joined.put_last(text, joined.lines_for(
                ours, text, folder, self.present, self.repo))
            for name in joined.named_files(ours, folder, self.repo):
                if name in self.present and \
                        f"'{Path(name).name}'" not in text:
                    raise Refusal(f'patches/export: {name} comes before files '
                                  'that are built in the same line')
            return text
        text = joined.join_tests(text, ours, folder, self.present, self.repo)
        for name in self.present:
            if re.fullmatch(rf'{folder}/(?:test-.*|.*-test)\.c', name) and \
                    f"'{Path(name).stem}'" not in text:
                raise Refusal(f'patches/export: {name} comes before files that '
                              'it is linked with')
        return text

    def join_maintainers(self, names):
        text = self.read('MAINTAINERS')
        if text is None:
            return
        ours = (self.repo / 'MAINTAINERS').read_text()
        for title, line in self.owned:
            text = joined.add_maintainers(text, title, line, self.user)
        for name in names:
            title, line = joined.maintainers_line(name, text, ours, self.others)
            if line:
                text = joined.add_maintainers(text, title, line, self.user)
                self.owned.append((title, line))
        (self.folder / 'MAINTAINERS').write_text(text)


def plan_for(repo, lock, fixes_only):
    """The steps of a branch on the base of @lock."""
    steps = whole_plan(repo)
    deal(steps, our_files(repo))
    check_includes(repo, steps)
    check_removed(repo, steps, lock.replaced)
    own = own_patches(repo, lock)
    if fixes_only:
        fixes = groups(repo)['fixes']
        steps = [step for step in steps if step.patch in fixes]
        own = [patch for patch in own if patch.name >= FIXES_FROM]
    return [*(Step(None, patch) for patch in own), *fit(steps, repo, lock)]


def make_sense(steps, repo, version):
    """Leave out tests of what this version does otherwise."""
    for folder in TESTS:
        path = repo / folder / 'meson.build'
        if path.exists():
            left_out = {f'{folder}/{name}.c' for name
                        in joined.senseless(path.read_text(), version)}
            for step in steps:
                step.files = [name for name in step.files
                              if name not in left_out]


def export(folder, source, lock, fixes_only, repo=REPO):
    """Make the branch in `folder` anew."""
    steps = plan_for(repo, lock, fixes_only)
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    source.unpack(folder, folder.parent / 'export.log')
    shutil.rmtree(folder / '.git', ignore_errors=True)
    lock.check(folder)
    branch = Branch(folder, repo)
    make_sense(steps, repo, branch.version)
    branch.begin()
    branch.sign_as_user()
    for step in steps:
        branch.make_plain()
        if step.patch:
            branch.apply(step.patch)
        branch.remove(step.removed)
        branch.take(step.files)
        branch.join(step.files)
        branch.commit(step.message())
    say(f'{len(steps)} commits after the tag "base" in '
        f'{os.path.relpath(folder)}; git format-patch base makes a series')
