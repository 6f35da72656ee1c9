# SPDX-License-Identifier: GPL-2.0-or-later
"""Disk images for guests, and the block nodes that open them.

There are two kinds: a scratch image of our own, and a user's image, which is
only read; what the guest writes goes to a qcow2 overlay that is thrown away.
"""

import json
import os
import re
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .errors import RunError, UsageError

MIB = 1 << 20
SCRATCH_SIZE = 128 * MIB
SMALLEST = 16 * MIB
# How QEMU's message ends when another process holds an image's lock; what
# comes before has the image's name in it.
LOCKED = re.compile(r': Failed to (get (shared )?"[a-z ]+" lock|'
                    r'lock byte \d+)$')


@dataclass
class Disk:
    """One image: its file, what the guest sees, and the words for it."""
    path: Path
    format: str
    size: int           # bytes that the guest sees
    backing: Path = None
    backing_format: str = None

    def node(self, name):
        """The -blockdev that opens it."""
        node = {'node-name': name, 'driver': self.format,
                'discard': 'unmap', **file_child(self.path)}
        if self.backing:
            node['backing'] = {'driver': self.backing_format,
                               'read-only': True,
                               **file_child(self.backing)}
        return node

    def describe(self):
        size = f'{self.size // MIB:,} MiB'
        if self.backing:
            return (f'{show_path(self.backing)} ({self.backing_format}, '
                    f'{size}; opened read-only)')
        return f'{show_path(self.path)} ({self.format}, {size}, sparse)'


def scratch(path, size=SCRATCH_SIZE):
    """A new sparse raw image."""
    need_space(path.parent, size)
    with open(path, 'xb') as file:
        file.truncate(size)
    return Disk(path, 'raw', size)


def overlay(image, image_format, path, qemu_img, writes=SCRATCH_SIZE):
    """A throw-away overlay at path, over a user's image."""
    described = inspect(image, image_format, qemu_img)
    size, image_format = described['virtual-size'], described['format']
    if size < SMALLEST:
        raise UsageError(f'IMAGE={image}: holds {size:,} bytes, at least '
                         f'{SMALLEST // MIB} MiB are needed')
    need_space(path.parent, min(size, writes))
    run_img(qemu_img, 'create', '-q', '-f', 'qcow2', '-b', image, '-F',
            image_format, path)
    return Disk(path, 'qcow2', size, image, image_format)


def inspect(image, image_format, qemu_img):
    """What qemu-img info says; a clear error if it cannot be opened."""
    words = ['info', '--output=json']
    words += ['-f', image_format] if image_format else []
    try:
        return json.loads(run_img(qemu_img, *words, image))
    except RunError as error:
        text = str(error)
        if LOCKED.search(text):
            raise UsageError(f'IMAGE={image}: in use by another process '
                             '(its lock is held)') from None
        raise UsageError(f'IMAGE={image}: {text}') from None


def find_qemu_img(qemu):
    """The qemu-img beside the binary, or the one on the PATH."""
    beside = qemu.parent / 'qemu-img'
    found = beside if beside.exists() else shutil.which('qemu-img')
    if found is None:
        raise RunError(f'qemu-img is neither beside {qemu} nor on the PATH')
    return Path(found)


def run_img(qemu_img, *words):
    done = subprocess.run([str(word) for word in (qemu_img, *words)],
                          capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ['qemu-img failed']
        raise RunError(lines[0].partition('qemu-img: ')[2] or lines[0])
    return done.stdout


def file_child(path):
    """The protocol node: without the page cache where the file allows."""
    block = stat.S_ISBLK(os.stat(path).st_mode)
    file = {'driver': 'host_device' if block else 'file',
            'filename': str(path), 'discard': 'unmap'}
    if takes_direct(path):
        file.update({'aio': 'native', 'cache': {'direct': True}})
    return {'file': file}


def takes_direct(path):
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECT))
        return True
    except OSError:
        return False


def need_space(folder, size):
    free = shutil.disk_usage(folder).free
    if free < size:
        raise RunError(f'{folder}: {free // MIB:,} MiB free, '
                       f'{size // MIB:,} MiB needed')


def show_path(path):
    """Relative when that is shorter to read."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith('..') else relative
