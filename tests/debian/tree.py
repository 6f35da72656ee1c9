# SPDX-License-Identifier: GPL-2.0-or-later
"""Another Debian, in a folder that debootstrap makes, entered as a root.

    tree = Tree('trixie', folder)
    tree.install('libvirt-daemon')
    tree.run('libvirtd', '--version')

Only root can do that.  What is mounted inside is seen only by the programs
inside, and goes when they end.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / 'scripts'))
sys.path.insert(0, str(REPO / 'scripts/base'))
# pylint: disable=wrong-import-position
import debian                                       # noqa: E402
from guest.errors import RunError                   # noqa: E402
from layout import cache_folder                     # noqa: E402

PATH = '/usr/sbin:/usr/bin:/sbin:/bin'
CHECKOUT = '/root/qemu-mq'
DAYS = 14       # for which a minimal tree is kept
ENTER = '''
set -e
root=$1; shift
mount --bind "$root" "$root"
cd "$root"
mount --rbind /dev dev
mount --rbind /sys sys
mount -t proc proc proc
while [ "$1" != -- ]; do
    mkdir -p ".$1"
    mount --bind "$1" ".$1"
    shift
done
shift
# No chroot: a program inside may make a user namespace.
pivot_root . .
umount -l .
exec "$@"
'''


def why_not():
    """None if trees can be made here, else the reason."""
    if os.geteuid():
        return 'only root can make a tree of another Debian'
    if not shutil.which('debootstrap', path=PATH):
        return 'debootstrap is missing'
    return None


def minimal(suite):
    """An archive of a minimal system, which is made anew after DAYS."""
    archive = cache_folder() / f'debootstrap-{suite}.tar'
    if archive.exists() and \
            time.time() - archive.stat().st_mtime < DAYS * 86400:
        return archive
    mirrors = debian.mirrors()
    if not mirrors:
        raise RunError('apt on this machine knows no Debian mirror')
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='tree-',
                                     dir=archive.parent) as name:
        root = Path(name) / 'root'
        command(['debootstrap', '--variant=minbase',
                 f'--keyring={debian.KEYRING}', suite, root, mirrors[0]])
        command(['tar', '-C', root, '--exclude=./var/cache/apt/archives/*',
                 '-cf', f'{name}/tar', '.'])
        os.replace(f'{name}/tar', archive)
    return archive


def command(words, timeout=1800, **options):
    """Run a program; what it prints.  RunError with its last words."""
    done = subprocess.run([str(word) for word in words], check=False,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True,
                          timeout=timeout, **options)
    if done.returncode:
        lines = done.stdout.strip().splitlines()
        raise RunError(f'{shlex.join(map(str, words))[-200:]}: status '
                       f'{done.returncode}', lines[-30:])
    return done.stdout


class Tree:
    """@folder must not exist yet; remove() it at the end."""

    def __init__(self, suite, folder):
        self.suite = suite
        self.root = Path(folder)
        self.root.mkdir()
        command(['tar', '-C', self.root, '-xpf', minimal(suite)])
        # No daemon is started.
        policy = self.root / 'usr/sbin/policy-rc.d'
        policy.write_text('#!/bin/sh\nexit 101\n', encoding='ascii')
        policy.chmod(0o755)
        self.updated = False

    def add_suite(self, name):
        """Packages of another suite can be had, too: install(suite=name)."""
        security = name.endswith('-security')
        uris = [uri for uri, suite in debian.sources()
                if suite.endswith('-security')] if security \
            else debian.mirrors()
        if not uris:
            raise RunError(f'apt on this machine knows no mirror for {name}')
        (self.root / f'etc/apt/sources.list.d/{name}.list').write_text(
            f'deb [signed-by={debian.KEYRING}] {uris[0]} {name} main\n',
            encoding='ascii')
        self.updated = False

    def put_checkout(self):
        """A copy of this repository, as somebody gets it; where it is."""
        shutil.copytree(REPO, self.root / CHECKOUT[1:], symlinks=True,
                        ignore=shutil.ignore_patterns('.git', 'build*',
                                                      '__pycache__'))
        return CHECKOUT

    def remove(self):
        shutil.rmtree(self.root, ignore_errors=True)

    def enter(self, *binds):
        """The command line that enters; @binds are folders to be seen."""
        return ['unshare', '--mount', '--propagation', 'private', 'sh', '-c',
                ENTER, 'sh', str(self.root), *map(str, binds), '--',
                'env', '-u', 'TMPDIR', f'PATH={PATH}', 'LC_ALL=C.UTF-8']

    def run(self, *words, binds=(), **options):
        return command([*self.enter(*binds), 'HOME=/root',
                        'DEBIAN_FRONTEND=noninteractive', *words], **options)

    def install(self, *packages, suite=None):
        """Packages by name, or package files inside by path.

        @suite: where the version is to come from, however old it is.
        """
        wanted = [f'--target-release={suite}', '--allow-downgrades'] \
            if suite else []
        if not self.updated:
            self.run('apt-get', '-q', 'update', '-o',
                     'APT::Update::Error-Mode=any')
            self.updated = True
        self.run('apt-get', '-q', '-y', '--no-install-recommends', *wanted,
                 'install', *packages)

    def lend_libraries(self, program, *binds):
        """Put in what a program of this machine loads and is not there."""
        lent = self.root / 'usr/local/lib'
        mine = {}
        for line in command(['ldd', program]).splitlines():
            name, arrow, rest = line.strip().partition(' => ')
            if arrow and rest.startswith('/'):
                mine[name] = rest.split()[0]
        while True:
            said = self.run('ldd', program, binds=binds)
            missing = [line.split()[0] for line in said.splitlines()
                       if '=> not found' in line]
            if not missing:
                return
            for name in missing:
                shutil.copy(mine[name], lent / name)
            self.run('ldconfig')
