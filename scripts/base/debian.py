# Fetching from Debian's archive, with apt.
#
# apt is pointed at lists of our own, so that the system's configuration stays
# as it is and root is not needed.  The mirror is the one that the system uses.
# Signatures are checked by apt against Debian's keys.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from term import Refusal, last_line, run_logged, say

KEYRING = Path('/usr/share/keyrings/debian-archive-keyring.gpg')
SUITES = ('buster', 'bullseye', 'bookworm', 'trixie', 'forky', 'sid',
          'oldstable', 'stable', 'testing', 'unstable')


def sources():
    """
    The archives that the system uses, as (address, suite).

    apt itself is asked, because it knows all the formats of its sources.
    """
    try:
        done = subprocess.run(['apt-get', '--print-uris', 'update'],
                              capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return []
    return re.findall(r"^'([^']*?)/?dists/([^/']+)/InRelease'", done.stdout,
                      re.M)


def mirrors():
    """Addresses that may be a mirror of Debian, likeliest first."""
    found = []
    for uri, suite in sources():
        if suite in SUITES and uri not in found:
            found.append(uri)
    return sorted(found, key=lambda uri: not uri.rstrip('/')
                  .endswith('/debian'))


class PrivateApt:
    """apt with one suite of one mirror, all its state in a folder."""

    def __init__(self, folder, kind, suite):
        self.folder = Path(folder)
        self.log = self.folder / 'log'
        for name in ('lists/partial', 'cache/archives/partial', 'get'):
            (self.folder / name).mkdir(parents=True)
        self._connect(kind, suite)

    def _connect(self, kind, suite):
        if not KEYRING.is_file():
            raise Refusal(f"Debian's keys are missing ({KEYRING}); "
                          'give the base with --with-base=')
        candidates = mirrors()
        if not candidates:
            raise Refusal('apt on this machine knows no Debian mirror; '
                          'give the base with --with-base=')
        for uri in candidates:
            (self.folder / 'sources.list').write_text(
                f'{kind} [signed-by={KEYRING}] {uri} {suite} main\n')
            if self.apt('update', '-o', 'APT::Update::Error-Mode=any'):
                return
        reason = last_line(self.log, 'E: Failed', 'W: Failed') \
            or last_line(self.log, 'E:', 'W:') or 'apt-get says no more'
        raise Refusal(f"Debian's {suite} cannot be reached: {reason}")

    def apt(self, *args):
        options = []
        for option in (f'Dir::Etc::sourcelist={self.folder}/sources.list',
                       'Dir::Etc::sourceparts=-',
                       'Dir::Etc::preferences=-',
                       'Dir::Etc::preferencesparts=-',
                       f'Dir::State::lists={self.folder}/lists',
                       f'Dir::Cache={self.folder}/cache',
                       'Acquire::Languages=none',
                       'Acquire::Retries=2',
                       'APT::Get::List-Cleanup=false',
                       'APT::Sandbox::User=root'):
            options += ['-o', option]
        # The messages are searched, so their language matters.
        return run_logged(['apt-get', '-q', *options, *args], self.log,
                          cwd=self.folder / 'get',
                          env={**os.environ, 'LC_ALL': 'C'})

    def get(self, what, *args):
        """Download into self.folder/'get'."""
        if not self.apt(*args):
            reason = last_line(self.log, 'E:') or 'apt-get failed'
            raise Refusal(f'{what} cannot be fetched: {reason}')


def fetch(cache, name, kind, suite, what, args, wanted, anew=False):
    """
    Have the folder cache/name hold files that apt fetches.

    Files are downloaded to another folder, which is renamed when it is
    complete, so a folder with the final name is whole.  `wanted` is a glob that
    a complete folder satisfies.  A folder that is there already is used,
    unless `anew` is true.
    """
    final = cache / name
    if not anew and any(final.glob(wanted)):
        return final
    try:
        cache.mkdir(parents=True, exist_ok=True)
        aside = tempfile.mkdtemp(prefix='fetch.', dir=cache)
    except OSError as error:
        raise Refusal(f'no place for downloads in {cache}: '
                      f'{error.strerror}') from None
    try:
        say(f'fetching {what} from Debian {suite}')
        apt = PrivateApt(aside, kind, suite)
        apt.get(what, *args)
        if not any((apt.folder / 'get').glob(wanted)):
            raise Refusal(f'{what}: apt-get brought no {wanted}')
        shutil.rmtree(final, ignore_errors=True)
        os.rename(apt.folder / 'get', final)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return final


def fetch_source(cache, lock, anew=False):
    """The base as Debian's source package: the path of its .dsc file."""
    package, suite = lock.words['package'], lock.words['suite']
    folder = fetch(cache, f'{package}-{suite}-source', 'deb-src', suite,
                   f'the source package {package}',
                   ('source', '--download-only', package),
                   f'{package}_{lock.words["series"]}.*.dsc', anew)
    return next(folder.glob('*.dsc'))


def fetch_meson(cache, lock, others=()):
    """Debian's Meson, and other packages (all Python alone, for every
    architecture): their .deb files."""
    folder = fetch(cache, f'meson-{lock.words["suite"]}', 'deb',
                   lock.words['suite'], 'Meson', ('download', 'meson', *others),
                   f'{others[-1] if others else "meson"}_*.deb')
    return sorted(folder.glob('*.deb'))
