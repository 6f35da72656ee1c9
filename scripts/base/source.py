# The base as it comes: Debian's source package, a folder, or a tarball.
#
# A source has an identity, a string that changes when its content does, and can
# be unpacked into a folder that does not exist yet.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import hashlib
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import debian
from term import Refusal, last_line, run_logged


class DebianSource:
    def __init__(self, cache, lock):
        self.dsc = debian.fetch_source(cache, lock)

    def identity(self):
        return 'debian ' + hashlib.sha256(self.dsc.read_bytes()).hexdigest()

    def unpack(self, folder, log):
        # The archive's signature has been checked by apt; dpkg-source checks
        # the sums of what lies in the cache.
        if not run_logged(['dpkg-source', '--no-copy', '-x', self.dsc,
                           folder], log):
            reason = last_line(log, 'dpkg-source: error') or 'dpkg-source'
            raise Refusal(f'the base cannot be unpacked: {reason}')


class FolderSource:
    SKIPPED = ('.git', 'build')

    def __init__(self, path):
        self.path = Path(path)

    def identity(self):
        total = hashlib.sha256(str(self.path).encode())
        for folder, folders, files in os.walk(self.path):
            if folder == str(self.path):
                folders[:] = [f for f in folders if f not in self.SKIPPED]
            folders.sort()
            for name in sorted(files):
                path = os.path.join(folder, name)
                info = os.lstat(path)
                total.update(f'{path}\0{info.st_size}\0{info.st_mtime_ns}\n'
                             .encode())
        return 'folder ' + total.hexdigest()

    def unpack(self, folder, _log):
        def skipped(where, names):
            return self.SKIPPED if Path(where) == self.path else ()
        shutil.copytree(self.path, folder, symlinks=True, ignore=skipped)


class TarballSource:
    def __init__(self, path):
        self.path = Path(path)

    def identity(self):
        info = self.path.stat()
        return f'tarball {self.path} {info.st_size} {info.st_mtime_ns}'

    def unpack(self, folder, log):
        Path(folder).mkdir()
        if not run_logged(['tar', '-xf', self.path, '-C', folder,
                           '--strip-components=1', '--no-same-owner'], log):
            raise Refusal(f'{self.path} cannot be unpacked: '
                          + (last_line(log, 'tar:') or 'tar failed'))


def version_of(with_base):
    """What the file VERSION of a base says; None if there is none."""
    path = Path(with_base)
    try:
        if path.is_dir():
            return (path / 'VERSION').read_text().strip()
        done = subprocess.run(
            ['tar', '-xOf', path, '--wildcards', '--no-wildcards-match-slash',
             '--occurrence', '*/VERSION'], check=True, capture_output=True,
            text=True)
        return done.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def find_source(with_base, cache, lock):
    """The source that the user chose, or Debian's."""
    if with_base is None:
        return DebianSource(cache, lock)
    path = Path(with_base)
    if path.is_dir():
        return FolderSource(path)
    if path.is_file() and tarfile.is_tarfile(path):
        return TarballSource(path)
    if path.exists():
        raise Refusal(f'--with-base={with_base} is neither a folder '
                      'nor a tarball')
    raise Refusal(f'--with-base={with_base} does not exist')
