# SPDX-License-Identifier: GPL-2.0-or-later
"""The disks of the benchmark: their images, and how QEMU is told of them.

    null-co, throttle, bitmap     no image
    limits                        the same, with limits of the device
    mirror                        the same, and a job copies what is written
    raw-*, qcow2, luks            all data are there
    chain                         the same below seven empty overlays
    detect-zeroes                 qcow2 whose writes are looked at for zeroes
    qcow2-cold                    its tables are twice as large as the cache
    qcow2-empty                   a new image for each QEMU, 16 GiB of nothing
    copy-on-read                  a new overlay for each QEMU
"""

import contextlib
import json
import os
import shutil
import subprocess

from qemu import BenchError

DISK_SIZE = 128 << 20
EMPTY_SIZE = 16 << 30       # a random write finds an empty cluster
COLD_SIZE = 64 << 30
COLD_CACHE = 4 << 20        # half of the tables: 8 bytes for 64 KiB
BITMAP_SIZE = 256 << 30     # and a clear bit
BITMAP_GRANULARITY = 4096
MANY_IOPS = 1000000000
CHAIN_DEPTH = 8

BACKENDS = ('null-co', 'raw-io_uring', 'raw-native', 'qcow2')
NO_IMAGE = ('null-co', 'throttle', 'limits', 'bitmap', 'mirror')

SECRET = ['--object', 'secret,id=key,data=benchmark']
LUKS_OPTIONS = ['-o', 'key-secret=key,iter-time=10']


def write_random(path):
    try:
        with open(path, 'wb') as f:
            for _ in range(DISK_SIZE >> 20):
                f.write(os.urandom(1 << 20))
            os.fsync(f.fileno())
    except OSError as e:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise BenchError(f'{path}: {e.strerror}') from None


class Disks:
    """The disks whose images lie in one folder."""

    def __init__(self, folder, programs=''):
        """programs: a folder to look for qemu-img in, too"""
        self.folder, self.programs = folder, programs
        self.new_images = []

    def _path(self, name):
        return os.path.join(self.folder, name)

    def _qemu_img(self, binary, *arguments):
        folders = [os.path.dirname(binary), self.programs,
                   os.environ.get('PATH', '')]
        program = shutil.which('qemu-img', path=os.pathsep.join(folders))
        if program is None:
            raise BenchError('qemu-img is missing: build it beside '
                             f'{binary}')
        run = subprocess.run([program, *arguments], stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE, check=False)
        if run.returncode:
            raise BenchError('qemu-img: ' + run.stderr.decode().strip())

    # --- Images ---

    def raw(self):
        """A file whose blocks are all written, and that O_DIRECT can read."""
        path = self._path('disk.raw')
        if not os.path.exists(path):
            write_random(path + '.part')
            os.rename(path + '.part', path)
        try:
            os.close(os.open(path, os.O_RDWR | os.O_DIRECT))
        except OSError as e:
            raise BenchError(f'{path}: no O_DIRECT there ({e.strerror}); '
                             'choose another --output') from None
        return path

    def _full(self, binary, form, options=()):
        """The same in another format.  It is not made from the raw image,
        because runs have written to that."""
        path = self._path('disk.' + form)
        if os.path.exists(path):
            return path
        write_random(path + '.raw')
        try:
            self._qemu_img(binary, 'convert', *options, '-f', 'raw', '-O',
                           form, path + '.raw', path + '.part')
        finally:
            os.unlink(path + '.raw')
        os.rename(path + '.part', path)
        return path

    def _overlay(self, binary, backing, depth):
        path = self._path(f'disk.{depth}.qcow2')
        if not os.path.exists(path):
            self._qemu_img(binary, 'create', '-f', 'qcow2', '-F', 'qcow2',
                           '-b', backing, path)
        return path

    def _cold(self, binary):
        """Clusters that nobody has written; the kernel reads zeroes there."""
        path = self._path('cold.qcow2')
        if not os.path.exists(path):
            self._qemu_img(binary, 'create', '-f', 'qcow2', '-o',
                           'preallocation=metadata', path, str(COLD_SIZE))
        return path

    def _empty(self, binary, *options):
        path = self._path(f'new.{os.getpid()}.{len(self.new_images)}.qcow2')
        self._qemu_img(binary, 'create', '-f', 'qcow2', path, *options)
        self.new_images.append(path)
        return path

    def forget_new(self):
        """Unlink images that were made for one QEMU, which has them open."""
        for path in self.new_images:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        self.new_images = []

    # --- Nodes ---

    @staticmethod
    def _file(path, aio='io_uring'):
        """Two QEMUs may have it open at a time.  With an image for each, the
        blocks of the host's disk that it lies in would make more of a
        difference than the programs."""
        return {'driver': 'file', 'cache': {'direct': True}, 'locking': 'off',
                'aio': aio, 'filename': path}

    def _chain(self, binary):
        path = self._full(binary, 'qcow2')
        node = {'driver': 'qcow2', 'file': self._file(path)}
        for depth in range(2, CHAIN_DEPTH + 1):
            path = self._overlay(binary, path, depth)
            node = {'driver': 'qcow2', 'file': self._file(path),
                    'backing': node}
        return node

    def _node(self, binary, backend):
        if backend.startswith('raw-'):
            return {'driver': 'raw',
                    'file': self._file(self.raw(), backend[4:])}
        if backend == 'luks':
            path = self._full(binary, 'luks', SECRET + LUKS_OPTIONS)
            return {'driver': 'luks', 'key-secret': 'key',
                    'file': self._file(path)}
        if backend == 'chain':
            return self._chain(binary)
        if backend == 'qcow2-empty':
            return {'driver': 'qcow2',
                    'file': self._file(self._empty(binary, str(EMPTY_SIZE)))}
        if backend == 'qcow2-cold':
            return {'driver': 'qcow2', 'l2-cache-size': COLD_CACHE,
                    'file': self._file(self._cold(binary))}
        if backend == 'copy-on-read':
            path = self._empty(binary, str(DISK_SIZE))
            return {'driver': 'copy-on-read',
                    'file': {'driver': 'qcow2', 'file': self._file(path),
                             'backing': self._node(binary, 'qcow2')}}
        if backend == 'detect-zeroes':
            return {**self._node(binary, 'qcow2'), 'detect-zeroes': 'on'}
        if backend == 'qcow2':
            return {'driver': 'qcow2',
                    'file': self._file(self._full(binary, 'qcow2'))}
        null = {'driver': 'null-co',
                'size': BITMAP_SIZE if backend == 'bitmap' else DISK_SIZE}
        if backend == 'throttle':
            return {'driver': 'throttle', 'throttle-group': 'limit',
                    'file': null}
        return null

    def options(self, binary, backend):
        """QEMU's options for the node 'disk'."""
        options = []
        if backend == 'luks':
            options = ['-object', SECRET[1]]
        elif backend == 'throttle':
            options = ['-object', json.dumps(
                {'qom-type': 'throttle-group', 'id': 'limit',
                 'limits': {'iops-total': MANY_IOPS}})]
        return options + ['-blockdev', json.dumps(
            {'node-name': 'disk', **self._node(binary, backend)})]


def finish(qemu, backend):
    """Do what the disk needs when QEMU has started."""
    if backend == 'bitmap':
        qemu.qmp('block-dirty-bitmap-add', node='disk', name='bitmap',
                 granularity=BITMAP_GRANULARITY)
    elif backend == 'limits':
        qemu.qmp('block_set_io_throttle',
                 id='/machine/peripheral/blk/virtio-backend',
                 bps=0, bps_rd=0, bps_wr=0, iops=MANY_IOPS, iops_rd=0,
                 iops_wr=0)
    elif backend == 'mirror':
        qemu.qmp('blockdev-add', **{'driver': 'null-co', 'size': DISK_SIZE,
                                    'node-name': 'target'})
        qemu.qmp('blockdev-mirror', **{'job-id': 'mirror', 'device': 'disk',
                                       'target': 'target', 'sync': 'none',
                                       'copy-mode': 'write-blocking'})
