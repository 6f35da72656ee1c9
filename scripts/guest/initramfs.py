# SPDX-License-Identifier: GPL-2.0-or-later
"""An initramfs archive: the kernel's "newc" cpio, written entry by entry.

See Documentation/driver-api/early-userspace/buffer-format.rst in Linux.
"""

import os
import subprocess
from pathlib import Path

from .errors import RunError

S_DIRECTORY, S_FILE, S_LINK, S_CHAR = 0o040000, 0o100000, 0o120000, 0o020000


class Archive:
    """Entries appear in the order of the calls; parents are made first."""

    def __init__(self, stream):
        self.stream = stream
        self.names = set()
        self.inode = 0

    def folder(self, name):
        name = name.strip('/')
        if name and name not in self.names:
            self.folder(os.path.dirname(name))
            self._entry(name, S_DIRECTORY | 0o755)

    def file(self, name, data, mode=0o644):
        self._make_parent(name)
        self._entry(name, S_FILE | mode, data)

    def link(self, name, target):
        self._make_parent(name)
        self._entry(name, S_LINK | 0o777, target.encode())

    def character_device(self, name, major, minor):
        self._make_parent(name)
        self._entry(name, S_CHAR | 0o600, device=(major, minor))

    def program(self, path, name=None):
        """A program of this machine with the libraries that it loads."""
        path = os.fspath(path)
        self.file(name or path, Path(path).read_bytes(), 0o755)
        for library in libraries(path):
            if library.strip('/') not in self.names:
                self.file(library, Path(library).read_bytes(), 0o755)

    def close(self):
        self._entry('TRAILER!!!', 0)

    def _make_parent(self, name):
        self.folder(os.path.dirname(name.strip('/')))

    def _entry(self, name, mode, data=b'', device=(0, 0)):
        name = name.strip('/')
        if name in self.names:
            return
        self.names.add(name)
        self.inode += 1
        # inode, mode, uid, gid, links, mtime, size, the device that holds
        # it, the device that it is, length of the name, checksum.
        fields = (self.inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device,
                  len(name) + 1, 0)
        head = b'070701' + b''.join(b'%08X' % value for value in fields)
        self._padded(head + name.encode() + b'\0')
        self._padded(data)

    def _padded(self, data):
        self.stream.write(data)
        self.stream.write(bytes(-len(data) % 4))


def libraries(program):
    """Paths of the shared libraries of a program; none if it is static."""
    done = subprocess.run(['ldd', program], capture_output=True, text=True,
                          env={**os.environ, 'LC_ALL': 'C'}, check=False)
    found = []
    for line in done.stdout.splitlines():
        if 'not found' in line:
            raise RunError(f'{program} lacks a library: {line.strip()}')
        found += [word for word in line.split() if word.startswith('/')]
    return [path.rstrip(':') for path in found]
