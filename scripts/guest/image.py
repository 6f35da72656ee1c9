# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's kernel and initramfs, made from Debian packages and cached.

    build/guest/kernel/RELEASE/     unpacked from linux-image-RELEASE.deb
    build/guest/initramfs-KEY       KEY: checksum of all that goes into it

The kernel is fetched with the host's apt, not installed; busybox, fio and
mkfs.ext4 are the host's own.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .errors import RunError
from .initramfs import Archive, libraries
from .modules import Modules
from .options import BUILD

FOLDER = BUILD / 'guest'
HERE = Path(__file__).resolve().parent
META_PACKAGE = 'linux-image-amd64'
WANTED = ('virtio_pci', 'virtio_blk', 'ext4')
OPTIONAL = ('crc32c_generic',)      # ext4 asks for it at mount time
PROGRAMS = {'fio': 'fio', 'mkfs.ext4': 'e2fsprogs'}
PARTS = ('init', 'image.py', 'initramfs.py', 'modules.py')


@dataclass
class GuestImage:
    kernel: Path
    initramfs: Path
    release: str


def guest_image(folder=FOLDER, say=lambda text: None, deb=None):
    """The image, from the cache or made now. deb: a kernel package file."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / 'lock', 'w', encoding='ascii') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)    # one maker at a time
            return make_image(folder, say, deb)
    except OSError as error:
        raise RunError(f'cannot make the guest image: {error}') from error


def make_image(folder, say, deb):
    busybox = static_busybox()
    programs = {name: find_program(name, package)
                for name, package in PROGRAMS.items()}
    unpacked = kernel_folder(folder, say, deb)
    release = unpacked.name
    kernel = unpacked / 'boot' / f'vmlinuz-{release}'
    inputs = [busybox, kernel]
    for program in programs.values():
        inputs += [program, *map(Path, libraries(program))]
    initramfs = folder / f'initramfs-{key_of(inputs)}'
    if not initramfs.exists():
        say(f'making the guest image, Linux {release}')
        for old in folder.glob('initramfs-*'):
            old.unlink()
        write_whole(initramfs, lambda stream: fill(
            Archive(stream), busybox, programs,
            Modules(unpacked / 'lib' / 'modules' / release)))
    return GuestImage(kernel, initramfs, release)


def fill(archive, busybox, programs, modules):
    archive.character_device('/dev/console', 5, 1)
    archive.file('/init', (HERE / 'init').read_bytes(), 0o755)
    archive.file('/bin/busybox', busybox.read_bytes(), 0o755)
    for name, path in programs.items():
        archive.program(path, f'/usr/bin/{name}')
    loaded = ''
    for name, data in modules.in_order(WANTED, OPTIONAL):
        archive.file(f'/lib/modules/{name}.ko', data)
        loaded += f'/lib/modules/{name}.ko\n'
    archive.file('/etc/modules-in-order', loaded.encode())
    archive.close()


def kernel_folder(folder, say, deb):
    """Where the kernel package is unpacked, which is done if need be."""
    kernels = folder / 'kernel'
    kernels.mkdir(exist_ok=True)
    if deb is None:
        found = sorted(kernels.glob('[0-9]*'))
        if found:
            return found[-1]
    with tempfile.TemporaryDirectory(dir=kernels, prefix='new-') as name:
        work = Path(name)
        if deb is None:
            say('fetching the guest kernel from Debian')
            deb = download(work)
        command(['dpkg-deb', '-x', str(deb), str(work / 'tree')],
                f'cannot unpack {deb}')
        images = list((work / 'tree' / 'boot').glob('vmlinuz-*'))
        if len(images) != 1:
            raise RunError(f'{deb} is no kernel package')
        target = kernels / images[0].name.partition('-')[2]
        keep_needed(work / 'tree')
        if target.exists():
            shutil.rmtree(target)
        os.rename(work / 'tree', target)
    return target


def keep_needed(tree):
    """Modules are 400 MB, of which an initramfs takes one."""
    for modules in tree.glob('lib/modules/*/kernel'):
        for entry in modules.iterdir():
            if entry.name not in ('drivers', 'fs', 'lib', 'crypto', 'arch'):
                shutil.rmtree(entry)
        for entry in (modules / 'drivers').iterdir():
            if entry.name not in ('block', 'virtio', 'char', 'xen'):
                shutil.rmtree(entry)
    shutil.rmtree(tree / 'usr', ignore_errors=True)


def download(folder):
    shown = command(['apt-cache', 'show', '--no-all-versions', META_PACKAGE],
                    f'apt knows no {META_PACKAGE}: run apt-get update')
    match = re.search(r'^Depends:.*?\b(linux-image-\d[^\s,]*)', shown, re.M)
    if not match:
        raise RunError(f'{META_PACKAGE} names no kernel')
    command(['apt-get', '-o', 'APT::Sandbox::User=root', 'download',
             match[1]], f'cannot fetch {match[1]}', cwd=folder)
    return next(folder.glob('*.deb'))


def static_busybox():
    path = find_program('busybox', 'busybox-static')
    if libraries(path):
        raise RunError(f'{path} is not static: install busybox-static')
    return path


def find_program(name, package):
    path = shutil.which(name, path=os.environ.get('PATH', '') +
                        ':/usr/sbin:/sbin')
    if path is None:
        raise RunError(f'{name} is missing: install the package {package}')
    return Path(path)


def key_of(paths):
    """Changes with any input; size and time stand for a big file's bytes."""
    digest = hashlib.sha256()
    for name in PARTS:
        digest.update((HERE / name).read_bytes())
    for path in paths:
        stat = path.stat()
        digest.update(f'{path} {stat.st_size} {stat.st_mtime_ns}\n'.encode())
    return digest.hexdigest()[:16]


def write_whole(path, write):
    """The file appears complete or not at all."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix='new-') as file:
        write(file)
        file.flush()
        os.chmod(file.name, 0o644)
        os.link(file.name, path)


def command(words, failure, cwd=None):
    try:
        done = subprocess.run(words, capture_output=True, text=True, cwd=cwd,
                              check=False)
    except FileNotFoundError:
        raise RunError(f'{failure}: {words[0]} is missing') from None
    if done.returncode or not (done.stdout or words[0] == 'dpkg-deb'):
        last = (done.stderr.strip().splitlines() or ['no answer'])[-1]
        raise RunError(f'{failure}: {last}')
    return done.stdout
