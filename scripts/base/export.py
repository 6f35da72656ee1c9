# A branch of QEMU's source with our changes, as upstream would take them.
#
#     base as it comes -> fixes -> speed -> the devices and their hooks -> tests
#                           one commit for each patch and each component
#
# Our files have the same paths as here, which are QEMU's.  Our meson.build and
# trace-events are added at the end of the base's files of the same folder.  A
# commit has only those lines of our meson.build whose files it has, so that
# every commit can be built.  patches/export says which file belongs to which
# commit.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import fnmatch
import os
import re
import shutil
import subprocess
from pathlib import Path

from layout import REPO
from prepare import apply_patch, groups, own_patches, variant
from term import Refusal, say

# Files that join the base's file of the same name.
JOINED = ('meson.build', 'trace-events')

# Folders that a developer of QEMU gets; the others make the overlay.
FOLDERS = ('block', 'hw', 'include', 'qapi', 'util', 'tests/qtest',
           'tests/unit')

# Needs what only this tree builds
STAYS = ('tests/unit/hammer-on-stock',)

# Of the commit that is not a change, and of all where git knows no user
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

    def message(self):
        if self.subject is None:
            return self.patch.read_text().split('\n--- ')[0]
        return '\n'.join([self.subject, '', *self.body])


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
        else:
            steps[-1].patterns += text.split()
    return steps


def whole_plan(repo, fixes_only):
    """
    All steps: every patch that is no hook of the overlay has one.

    A component comes right before the patch that is named after it.
    """
    by_group = groups(repo)
    if fixes_only:
        return [Step(None, patch) for patch in by_group['fixes']]
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
    """What goes into the branch, but for the files that join others."""
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
                for path in (f'include/{header}',
                             f'{os.path.dirname(name)}/{header}'):
                    if path in later:
                        raise Refusal(f'patches/export: {name} comes before '
                                      f'{path}, which it includes')


def at_home(text):
    """A source file or a patch without the overlay's ways to itself."""
    text = text.replace('../qemu-mq/util/', '')
    text = re.sub(r'"trace/trace-(?:qemu_mq_)?hw_(?:block|xen)\.h"',
                  '"trace.h"', text)
    return re.sub(r'(#include "trace\.h"\n)(?=(?:#include .*\n)*?\1)', '', text)


def lines_for(text, folder, present):
    """The part of a meson.build for which the files are there.

    A line that names files of ours stays if all of them are in `present`,
    a paragraph stays if it has lost no file or has one left.
    """
    paragraphs = []
    for paragraph in text.split('\n\n'):
        kept, lost, found = [], 0, 0
        for line in paragraph.splitlines():
            names = [os.path.normpath(os.path.join(folder, name)) for name in
                     re.findall(r"'([\w./-]+\.[chS])'", line)]
            test = re.match(r"\s+'([\w-]+)': ", line)
            if test and (REPO / folder / f'{test[1]}.c').exists():
                names.append(f'{folder}/{test[1]}.c')
            names = [name for name in names if (REPO / name).exists()]
            if all(name in present for name in names):
                kept.append(line)
                found += len(names)
            else:
                lost += 1
        if found or not lost:
            paragraphs.append('\n'.join(kept))
    return '\n\n'.join(paragraphs).rstrip('\n') + '\n'


class Branch:
    """The git repository that grows."""

    def __init__(self, folder, repo, replaced):
        self.folder = folder
        self.repo = repo
        self.replaced = replaced
        self.present = set()
        self.joined = {}        # path: what of ours stands at its end
        self.log = folder.parent / 'export.log'
        self.identity = NOBODY

    def sign_as_user(self):
        """Further commits are the user's, if git knows who that is."""
        if subprocess.run(['git', 'config', 'user.email'], cwd=self.folder,
                          stdout=subprocess.DEVNULL, check=False).returncode:
            say('git config user.email is not set: the commits are signed off '
                'by nobody, and cannot be sent')
        else:
            self.identity = {}

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

    def apply(self, patch):
        """Apply it to the base's files as they are without ours."""
        joined, self.joined = self.joined, {}
        for name, ours in joined.items():
            path = self.folder / name
            path.write_text(path.read_text().removesuffix(ours))
        aside = self.folder.parent / 'export.patch'
        aside.write_text(at_home(patch.read_text()))
        apply_patch(self.folder, aside, patch.name, self.log)
        aside.unlink()

    def take(self, names):
        """Put files of ours in, at their paths."""
        for name in names:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(at_home((self.repo / name).read_text()))
            shutil.copymode(self.repo / name, path)
        self.present.update(names)

    def drop_replaced(self):
        """Remove what of the base no longer takes part in the build."""
        for name in self.replaced:
            if name not in self.present and not (self.repo / name).exists():
                (self.folder / name).unlink(missing_ok=True)

    def join(self):
        """Have ours stand at the end of the base's build and trace files."""
        for folder in {os.path.dirname(name) for name in self.present}:
            for base in JOINED:
                source = self.repo / folder / base
                path = self.folder / folder / base
                if not source.exists() or not path.exists():
                    continue
                name = f'{folder}/{base}'
                text = path.read_text().removesuffix(self.joined.get(name, ''))
                ours = source.read_text()
                if base == 'meson.build':
                    ours = lines_for(ours, folder, self.present)
                self.joined[name] = '\n' + ours
                path.write_text(text + '\n' + ours)


def export(folder, source, lock, fixes_only, repo=REPO):
    """Make the branch in `folder` anew."""
    steps = whole_plan(repo, fixes_only)
    if not fixes_only:
        deal(steps, our_files(repo))
        check_includes(repo, steps)
    steps = fit(steps, repo, lock)
    if not fixes_only:
        steps[:0] = [Step(None, patch) for patch in own_patches(repo, lock)]
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    source.unpack(folder, folder.parent / 'export.log')
    shutil.rmtree(folder / '.git', ignore_errors=True)
    lock.check(folder)
    branch = Branch(folder, repo, lock.replaced)
    branch.git('init', '-q', '-b', 'qemu-mq')
    version = (folder / 'VERSION').read_text().strip()
    say(f'committing QEMU {version}')
    branch.commit(f'QEMU {version} as its package has it')
    branch.git('tag', 'base')
    branch.sign_as_user()
    for step in steps:
        if step.patch:
            branch.apply(step.patch)
        if not fixes_only:
            branch.take(step.files)
            branch.join()
        if step is steps[-1] and not fixes_only:
            branch.drop_replaced()
        branch.commit(step.message())
    say(f'{len(steps)} commits after the tag "base" in '
        f'{os.path.relpath(folder)}; git format-patch base makes a series')
