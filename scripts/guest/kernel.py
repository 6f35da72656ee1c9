# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel out of Debian's packages, which are fetched and not installed.

                    image                        modules, modules.builtin
    up to 6.12      boot/vmlinuz-RELEASE         lib/modules/RELEASE
    Debian 13       boot/vmlinuz-RELEASE         usr/lib/modules/RELEASE
    7.x             usr/lib/modules/RELEASE/     usr/lib/modules/RELEASE
                    vmlinuz

One package holds all of it, except with 7.x: there linux-image-RELEASE is
empty and depends on linux-binary-, linux-modules- and linux-base-RELEASE.
"""

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .errors import RunError

META_PACKAGE = 'linux-image-amd64'
PACKAGES = r'linux-(image|binary|modules|base)-\d.*-amd64'
MODULES = ('lib/modules', 'usr/lib/modules')
# The modules that a guest may need, of a release's 400 MB.
KEPT = ('drivers', 'fs', 'lib', 'crypto', 'arch')
KEPT_DRIVERS = ('block', 'virtio', 'char', 'xen')


@dataclass
class Kernel:
    release: str
    image: Path
    modules: Path       # the folder that has modules.builtin


def find(tree):
    """The kernel in a folder of unpacked packages; RunError if none is whole.

    Of several the newest.
    """
    found = {}
    for folder in MODULES:
        for modules in tree.glob(f'{folder}/*'):
            release = modules.name
            for image in (tree / 'boot' / f'vmlinuz-{release}',
                          modules / 'vmlinuz'):
                if image.exists() and (modules / 'modules.builtin').exists():
                    found[release] = Kernel(release, image, modules)
    if not found:
        raise RunError(f'{tree} holds no kernel with its modules')
    return found[max(found, key=in_order)]


def in_order(release):
    """A key that sorts 6.9 before 6.12."""
    return [int(word) if word.isdigit() else 0
            for word in re.split(r'\D+', release)]


def cached(folder):
    """The newest kernel below @folder/RELEASE, or None.

    What another version of this program left there may not be whole.
    """
    for tree in sorted(folder.glob('[0-9]*'), reverse=True,
                       key=lambda path: in_order(path.name)):
        try:
            return find(tree)
        except RunError:
            continue
    return None


def install(folder, packages):
    """Unpack package files into @folder/RELEASE; the Kernel there."""
    with tempfile.TemporaryDirectory(dir=folder, prefix='new-') as name:
        tree = Path(name) / 'tree'
        for package in packages:
            command(['dpkg-deb', '-x', str(package), str(tree)],
                    f'cannot unpack {package}')
        try:
            release = find(tree).release
        except RunError:
            names = ' '.join(Path(package).name for package in packages)
            raise RunError(f'no kernel with its modules in {names}') from None
        drop_needless(find(tree).modules)
        shutil.rmtree(tree / 'usr/share', ignore_errors=True)
        target = folder / release
        if target.exists():
            shutil.rmtree(target)
        os.rename(tree, target)
    return find(target)


def drop_needless(modules):
    for folder, kept in ((modules / 'kernel', KEPT),
                         (modules / 'kernel' / 'drivers', KEPT_DRIVERS)):
        for entry in folder.iterdir() if folder.exists() else ():
            if entry.is_dir() and entry.name not in kept:
                shutil.rmtree(entry)


def download(folder):
    """Fetch the packages of Debian's kernel into @folder; their files."""
    wanted = packages(lambda name: command(
        ['apt-cache', 'show', '--no-all-versions', name],
        f'apt knows no {name}: run apt-get update'))
    command(['apt-get', '-o', 'APT::Sandbox::User=root', 'download', *wanted],
            f'cannot fetch {wanted[0]}', cwd=folder)
    return sorted(folder.glob('*.deb'))


def packages(show):
    """Names of the packages that make up Debian's kernel.

    show(name): what apt-cache show says of a package.
    """
    names = depends(show(META_PACKAGE), r'linux-image-\d\S*')
    if not names:
        raise RunError(f'{META_PACKAGE} names no kernel')
    release = names[0].partition('linux-image-')[2]
    parts = depends(show(names[0]),
                    r'linux-(?:binary|modules|base)-' + re.escape(release))
    return [names[0], *parts]


def depends(shown, pattern):
    """Names in the first Depends field that match @pattern."""
    field = re.search(r'^Depends:(.*)', shown, re.M)
    words = re.split(r'[,|]', field[1]) if field else []
    names = [word.split()[0].partition(':')[0] for word in words
             if word.strip()]
    return [name for name in names if re.fullmatch(pattern, name)]


def command(words, failure, cwd=None):
    """Run a program; its output, or a RunError that gives its last line."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, cwd=cwd,
                              stdin=subprocess.DEVNULL, check=False)
    except FileNotFoundError:
        raise RunError(f'{failure}: {words[0]} is missing') from None
    if done.returncode or not (done.stdout or words[0] == 'dpkg-deb'):
        last = (done.stderr.strip().splitlines() or ['no answer'])[-1]
        raise RunError(f'{failure}: {last}')
    return done.stdout
