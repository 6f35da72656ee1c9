# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's kernel and initramfs, made from Debian packages and cached.

    build/guest/kernel/RELEASE/     unpacked packages, see kernel.py
    build/guest/initramfs-KEY       KEY: checksum of all that goes into it

Only the kernel is fetched; busybox, fio and mkfs.ext4 are the host's own.
"""

import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from . import kernel
from .arguments import build_folder
from .errors import RunError, told
from .initramfs import Archive, libraries
from .lock import locked
from .modules import Modules

HERE = Path(__file__).resolve().parent
WANTED = ('virtio_pci', 'virtio_blk', 'ext4')
OPTIONAL = ('crc32c_generic',)      # ext4 asks for it at mount time
PROGRAMS = {'fio': 'fio', 'mkfs.ext4': 'e2fsprogs'}
PARTS = ('init', 'image.py', 'initramfs.py', 'kernel.py', 'modules.py')


@dataclass
class GuestImage:
    kernel: Path
    initramfs: Path
    release: str


def guest_image(folder=None, say=lambda text: None, debs=()):
    """The image, from the cache or made now.

    folder: its place, otherwise guest/ in the build folder.
    debs: files of a kernel's packages, to use instead of Debian's kernel.
    """
    folder = folder or build_folder(os.environ) / 'guest'
    with locked(folder, say):
        try:
            return make_image(folder, say, debs)
        except OSError as error:
            raise RunError('cannot make the guest image: '
                           + told(error)) from error


def make_image(folder, say, debs):
    busybox = static_busybox()
    programs = {name: find_program(name, package)
                for name, package in PROGRAMS.items()}
    found = get_kernel(folder / 'kernel', say, debs)
    inputs = [busybox, found.image]
    for program in programs.values():
        inputs += [program, *map(Path, libraries(program))]
    initramfs = folder / f'initramfs-{key_of(inputs)}'
    if not initramfs.exists():
        say(f'making the guest image, Linux {found.release}')
        for old in folder.glob('initramfs-*'):
            old.unlink()
        write_whole(initramfs, lambda stream: fill(
            Archive(stream), busybox, programs,
            Modules(found.modules)))
    return GuestImage(found.image, initramfs, found.release)


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


def get_kernel(folder, say, debs):
    """The kernel, unpacked below @folder, which is done if need be."""
    folder.mkdir(exist_ok=True)
    found = None if debs else kernel.cached(folder)
    if found:
        return found
    with tempfile.TemporaryDirectory(dir=folder, prefix='get-') as name:
        if not debs:
            say('fetching the guest kernel from Debian')
            debs = kernel.download(Path(name))
        return kernel.install(folder, debs)


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
