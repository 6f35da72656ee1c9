# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian packages, fetched and unpacked without installing anything.

apt-get works on lists, a cache and an (empty) record of installed packages
of our own, with the system's own sources or with those of another release of
Debian.  An ordinary user can do that, and the system is left as it was.  All
packages that are needed are found, whatever is installed here.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from guest.errors import RunError

from .stage import remove

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'base'))
# pylint: disable=wrong-import-position
import debian                                           # noqa: E402


class Apt:
    """apt-get and apt-cache on private state in @folder.

    The packages are those of @suite, "trixie" for one, or of the system.
    """

    def __init__(self, folder, say, suite=None):
        self.folder = folder
        self.say = say
        for tool in ('apt-get', 'apt-cache', 'dpkg-deb'):
            if not shutil.which(tool):
                raise RunError(f'{tool} is missing: the Xen images are made '
                               'from Debian packages, on a Debian system')
        for part in ('lists/partial', 'cache/archives/partial'):
            (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / 'status').write_text('', encoding='ascii')
        self.sources = self._sources(suite) if suite else []

    def _sources(self, suite):
        """The options that make apt read @suite from a mirror of Debian."""
        mirrors = debian.mirrors()
        if not mirrors:
            raise RunError('apt on this machine knows no Debian mirror')
        path = self.folder / 'sources.list'
        path.write_text(f'deb [signed-by={debian.KEYRING}] {mirrors[0]} '
                        f'{suite} main\n', encoding='ascii')
        return [f'Dir::Etc::sourcelist={path}', 'Dir::Etc::sourceparts=-',
                'Dir::Etc::preferences=-', 'Dir::Etc::preferencesparts=-']

    def _run(self, tool, *words, cwd=None):
        options = []
        for option in (f'Dir::State::lists={self.folder}/lists',
                       f'Dir::State::status={self.folder}/status',
                       f'Dir::Cache={self.folder}/cache',
                       'APT::Architecture=amd64', 'APT::Architectures=amd64',
                       'APT::Install-Recommends=false',
                       'APT::Sandbox::User=', 'Debug::NoLocking=1',
                       'Acquire::Retries=2', *self.sources):
            options += ['-o', option]
        run = subprocess.run([tool, '-q', *options, *words], cwd=cwd,
                             env={**os.environ, 'LC_ALL': 'C'}, text=True,
                             stdin=subprocess.DEVNULL, capture_output=True)
        if run.returncode:
            lines = [line for line in run.stderr.splitlines()
                     if line.startswith('E:')] or [run.stderr.strip()]
            raise RunError(f'{tool} {words[0]}: {lines[-1]}')
        return run.stdout

    def update(self):
        """Fetch the lists of the sources."""
        self.say('fetching the package lists')
        remove(self.folder / 'lists')
        (self.folder / 'lists/partial').mkdir(parents=True)
        # Otherwise a list that cannot be fetched is only a warning
        self._run('apt-get', 'update', '-o', 'APT::Update::Error-Mode=any')

    def newest(self, prefix, pattern):
        """The package with the highest version in its name, and that."""
        found = []
        for name in self._run('apt-cache', 'pkgnames', prefix).split():
            match = re.fullmatch(pattern, name)
            if match:
                version = match.group(1)
                found.append(([int(x) for x in version.split('.')],
                              name, version))
        if not found:
            raise RunError(f'no package {prefix}* in the lists of apt: '
                           'is "main" among the sources of this system?')
        return max(found)[1:]

    def closure(self, names):
        """@names and all that they depend on, from an empty system."""
        plan = self._run('apt-get', '-s', 'install', *names)
        return re.findall(r'^Inst (\S+)', plan, re.MULTILINE)

    def show(self, name):
        """What the lists say of the newest package @name."""
        return self._run('apt-cache', 'show', '--no-all-versions', name)

    def fetch(self, names, folder):
        """Download the packages @names into @folder."""
        folder.mkdir()
        for at in range(0, len(names), 16):
            self.say(f'fetching packages: {at} of {len(names)}')
            self._run('apt-get', 'download', *names[at:at + 16], cwd=folder)


def unpack(package, root, wanted):
    """Unpack the files of @package for which wanted(path) into @root.

    bin, sbin, lib and lib64 move below usr, as on an installed system.
    """
    with subprocess.Popen(['dpkg-deb', '--fsys-tarfile', package],
                          stdout=subprocess.PIPE) as run:
        with tarfile.open(fileobj=run.stdout, mode='r|') as archive:
            for member in archive:
                path = merge_usr(os.path.normpath(member.name))
                if wanted(path):
                    _unpack_member(archive, member, os.path.join(root, path),
                                   root)
    if run.returncode:
        raise RunError(f'{os.path.basename(package)} cannot be unpacked')


def merge_usr(path):
    """@path (relative) as a system with a merged /usr names it."""
    return re.sub(r'^(bin|sbin|lib|lib64)(?=/|$)', r'usr/\1', path)


def _unpack_member(archive, member, target, root):
    if member.isdir():
        return
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if member.issym():
        os.symlink(member.linkname, target)
    elif member.islnk():
        os.link(os.path.join(root, merge_usr(
            os.path.normpath(member.linkname))), target)
    elif member.isreg():
        with open(target, 'wb') as out:
            shutil.copyfileobj(archive.extractfile(member), out, 1 << 20)
        os.chmod(target, member.mode & 0o755)
