# SPDX-License-Identifier: GPL-2.0-or-later
"""What a machine with Xen boots, made in build/xen and kept there.

    packages/   Debian packages unpacked: Xen, a kernel, busybox, fio, libraries
    xen         the hypervisor, as QEMU's -kernel takes it
    vmlinux     the kernel of dom0 and of the domU
    domu.cpio   initramfs of the domU: busybox, fio, xen-blkfront
    dom0.cpio   initramfs of dom0: toolstack, modules, vmlinux and domu.cpio
    model.cpio  the device model under test with its libraries
    initrd      dom0.cpio and model.cpio, what dom0 boots

The device model has an archive of its own since it changes all the time.  Its
libraries are those of the system that built it, and dom0 may be of another
release of Debian; so they lie in a folder beside the device model, with the
loader that belongs to them.
"""

import glob
import gzip
import lzma
import os
import re
import shutil
import subprocess
from pathlib import Path

from guest import kernel
from guest.errors import RunError, told
from guest.initramfs import Archive, libraries
from guest.lock import locked
from guest.modules import Modules

from . import debs, stage

HERE = Path(__file__).resolve().parent
LIBS = 'usr/lib/x86_64-linux-gnu'
LOADER = 'ld-linux-x86-64.so.2'
MODEL = '/usr/lib/qemu-mq/bin/qemu-system-x86_64'
MODEL_NAME = 'device-model'     # of its process, as pidof knows it
GRUB = 'usr/lib/grub-xen/grub-x86_64-xen.bin'
DOM0_MODULES = ('xen-privcmd', 'xenfs', 'xen-evtchn', 'xen-gntdev',
                'xen-gntalloc', 'xen-blkback', 'brd')
DOMU_MODULES = ('xen-blkfront',)
DOM0_PROGRAMS = ('xl', 'xenconsoled', 'xenstored', 'xen-init-dom0', 'lsevtchn',
                 'libxl-save-helper')
START_MODEL = f'''#!/bin/sh
folder={os.path.dirname(MODEL)}
exec $folder/{MODEL_NAME} --library-path $folder $folder/model "$@"
'''
XENSTORE_TOOLS = ('read', 'write', 'list', 'ls', 'exists')


class Images:
    """The finished files in one folder.

    Xen, dom0 and the domU are those of @suite of Debian, or of the system.
    """

    def __init__(self, folder, model, say=print, suite=None):
        self.folder = Path(folder).absolute()
        self.suite = suite
        self.model = Path(model).absolute()
        self.root = self.folder / 'packages'
        self.hypervisor = self.folder / 'xen'
        self.kernel = self.folder / 'vmlinux'
        self.initrd = self.folder / 'initrd'
        self.say = say

    def build(self):
        """Make what is not there or out of date."""
        with locked(self.folder, self.say):
            try:
                self._build()
            except OSError as error:
                raise RunError(told(error)) from None
        return self

    def _build(self):
        packages = [code('debs.py'), _is_needed.__code__.co_code,
                    _is_needed.__code__.co_consts, kernel.PACKAGES,
                    DOM0_MODULES, DOMU_MODULES, GRUB, str(self.suite)]
        boot = [packages, code('images.py')]
        domu = [boot, code('inside/agent'), code('inside/domu-init')]
        dom0 = [domu, code('inside/dom0-init'), code('inside/attach-domu')]
        model = [boot, stage.file_state(self.model)]
        parts = [self.folder / name for name in
                 ('domu.cpio', 'dom0.cpio', 'model.cpio')]
        for path, inputs, build, what in (
                (self.root, packages, self._unpack, 'Xen, kernel and tools'),
                (self.hypervisor, boot, self._hypervisor, 'hypervisor'),
                (self.kernel, boot, self._kernel, 'kernel'),
                (parts[0], domu, self._domu, 'initramfs of the domU'),
                (parts[1], dom0, self._dom0, 'initramfs of dom0'),
                (parts[2], model, self._model, 'device model for dom0'),
                (self.initrd, [dom0, model],
                 lambda out: concatenate(parts[1:], out), 'boot image')):
            stage.stage(path, inputs, build, what, self.say)

    # From packages

    def _unpack(self, root):
        apt = debs.Apt(self.folder / 'apt', self.say, self.suite)
        apt.update()
        hypervisor, version = apt.newest('xen-hypervisor-',
                                         r'xen-hypervisor-([\d.]+)-amd64')
        tools = [f'xen-utils-{version}', 'xenstore-utils', 'busybox-static',
                 'fio', 'grub-xen-host']
        wanted = [name for name in apt.closure([*tools, kernel.META_PACKAGE])
                  if name in tools or _is_library(name)
                  or re.fullmatch(kernel.PACKAGES, name)]
        fetched = Path(f'{root}.debs')
        stage.remove(fetched)
        try:
            apt.fetch([hypervisor, *wanted], fetched)
            self.say('unpacking packages')
            for package in sorted(fetched.iterdir()):
                debs.unpack(package, root, _is_needed)
        finally:
            stage.remove(fetched)

    def _hypervisor(self, out):
        out.write_bytes(gzip.decompress(
            only(self.root, 'boot/xen-*.gz').read_bytes()))

    def _kernel(self, out):
        """The kernel, unpacked here: emulated, it takes half a minute."""
        out.write_bytes(unpack_kernel(
            kernel.find(self.root).image.read_bytes()))

    # Parts of an initramfs

    def _base(self, archive, init, modules):
        """busybox, the loader, the agent, @init, kernel modules."""
        for name in ('bin', 'sbin', 'lib', 'lib64'):
            archive.folder(f'usr/{name}')
            archive.link(name, f'usr/{name}')
        for name in ('dev', 'proc', 'sys', 'tmp', 'run', 'var'):
            archive.folder(name)
        archive.link('var/run', '/run')
        add_file(archive, 'usr/bin/busybox', self.root / 'usr/bin/busybox')
        archive.link('usr/bin/sh', 'busybox')
        self._add(archive, f'{LIBS}/{LOADER}')
        archive.link(f'usr/lib64/{LOADER}', f'/{LIBS}/{LOADER}')
        add_file(archive, 'init', HERE / 'inside' / init)
        add_file(archive, 'agent', HERE / 'inside/agent')
        order = []
        found = Modules(kernel.find(self.root).modules)
        for name, data in found.in_order(modules):
            archive.file(f'modules/{name}.ko', data)
            order.append(f'/modules/{name}.ko\n')
        archive.file('etc/modules-in-order', ''.join(order).encode())

    def _add(self, archive, path):
        """A file of the packages, under its name there."""
        add_file(archive, path, inside(self.root, path))

    def _program(self, archive, path):
        """A program of the packages with the libraries that it loads."""
        self._add(archive, path)
        for library in self._libraries(self.root / path):
            self._add(archive, library)

    def _libraries(self, program):
        """Where the libraries of @program are among the packages."""
        folders = [self.root / LIBS, self.root / LIBS / 'ceph']
        done = subprocess.run(
            [inside(self.root, f'{LIBS}/{LOADER}'), '--inhibit-cache',
             '--library-path', ':'.join(map(str, folders)), '--list',
             program], capture_output=True, text=True)
        if done.returncode or 'not found' in done.stdout:
            raise RunError(f'{program} lacks a library',
                           done.stdout.splitlines() + [done.stderr.strip()])
        for path in re.findall(r' => (/\S+)', done.stdout):
            # A path built into a library leads out of the packages
            if path.startswith(f'{self.root}/'):
                path = path[len(str(self.root)):]
            yield debs.merge_usr(path[1:])

    # The archives

    def _domu(self, out):
        with open(out, 'wb') as stream:
            archive = Archive(stream)
            self._base(archive, 'domu-init', DOMU_MODULES)
            self._program(archive, 'usr/bin/fio')
            archive.close()

    def _dom0(self, out):
        with open(out, 'wb') as stream:
            archive = Archive(stream)
            self._base(archive, 'dom0-init', DOM0_MODULES)
            self._toolstack(archive)
            add_file(archive, 'usr/bin/attach-domu',
                     HERE / 'inside/attach-domu')
            add_file(archive, 'domu/grub', self.root / GRUB)
            add_file(archive, 'domu/vmlinux', self.kernel)
            add_file(archive, 'domu/initrd', self.folder / 'domu.cpio')
            archive.close()

    def _toolstack(self, archive):
        tools = only(self.root, 'usr/lib/xen-*/bin').relative_to(self.root)
        for name in DOM0_PROGRAMS:
            self._program(archive, f'{tools}/{name}')
        archive.link('usr/lib/xen', f'/{tools.parent}')
        for name in XENSTORE_TOOLS:
            self._program(archive, f'usr/bin/xenstore-{name}')
        # Threads that end early load this one by its name
        self._add(archive, f'{LIBS}/libgcc_s.so.1')
        for name in ('var/lib/xen', 'var/log/xen/console'):
            archive.folder(name)
        archive.file('etc/xen/xl.conf', b'autoballoon="off"\n')

    def _model(self, out):
        """The device model; MODEL starts it with a loader of its own.

        It looks for its data beside the program that the kernel has started,
        which is the loader.
        """
        folder = os.path.dirname(MODEL)
        lean = out.with_suffix('.lean')
        with open(out, 'wb') as stream:
            archive = Archive(stream)
            try:
                strip(self.model, lean)
                add_file(archive, f'{folder}/model', lean)
            finally:
                stage.remove(lean)
            for library in libraries(self.model):
                name = os.path.basename(library)
                if name == LOADER:
                    name = MODEL_NAME
                add_file(archive, f'{folder}/{name}', library)
            archive.file(MODEL, START_MODEL.encode(), 0o755)
            # -vnc needs them even if nobody types
            share = folder + '/../share/qemu/keymaps'
            for keymap in bundled(self.model, 'keymaps/*'):
                add_file(archive, os.path.normpath(
                    f'{share}/{os.path.basename(keymap)}'), keymap)
            archive.close()


def _is_library(name):
    """A package that can hold a library which a program needs."""
    return (re.match(r'lib|gcc-|zlib', name)
            and not re.search(r'perl|python', name))


def _is_needed(path):
    """Which files of the packages are worth unpacking."""
    if path.startswith('usr/lib/modules/'):
        name = os.path.basename(path).split('.')[0].replace('_', '-')
        return (path.endswith(('/modules.builtin', '/vmlinuz'))
                or '/xen/' in path
                or name in DOM0_MODULES + DOMU_MODULES)
    return (path.startswith((f'{LIBS}/', 'usr/lib/xen-'))
            or path == GRUB
            or re.match(r'usr/bin/(busybox|fio|xenstore.*)$', path)
            or re.match(r'boot/(vmlinuz|xen-[\d.]+-amd64.gz)', path))


def inside(root, path):
    """The file that @path is within @root, absolute links followed there."""
    target = root / path
    while target.is_symlink():
        link = os.readlink(target)
        target = (root / debs.merge_usr(link[1:]) if link.startswith('/')
                  else target.parent / link)
    return target


def only(root, pattern):
    """The one file or folder that matches."""
    found = sorted(glob.glob(str(root / pattern)))
    if not found:
        raise RunError(f'{pattern} is not among the unpacked packages')
    return Path(found[-1])


def unpack_kernel(image):
    """The ELF file in a bzImage, or the bzImage if it cannot be unpacked."""
    for magic, unpack in ((b'\xfd7zXZ\0', unpack_xz),
                          (b'\x28\xb5\x2f\xfd', unpack_zstd),
                          (b'\x1f\x8b\x08', unpack_gzip)):
        at = image.find(magic)
        while at >= 0:
            kernel = unpack(image[at:])
            if kernel.startswith(b'\x7fELF'):
                return kernel
            at = image.find(magic, at + 1)
    return image


def unpack_xz(data):
    try:
        return lzma.LZMADecompressor().decompress(data)
    except lzma.LZMAError:
        return b''


def unpack_gzip(data):
    try:
        return gzip.zlib.decompressobj(31).decompress(data)
    except gzip.zlib.error:
        return b''


def unpack_zstd(data):
    """zstd complains about what follows the frame, but after its output."""
    if not shutil.which('zstd'):
        return b''
    return subprocess.run(['zstd', '-q', '-d', '-c'], input=data,
                          capture_output=True).stdout


def bundled(qemu, pattern):
    """What a binary finds beside itself before it is installed."""
    folder = glob.escape(str(qemu.resolve().parent / 'qemu-bundle'))
    return glob.glob(f'{folder}/**/{pattern}', recursive=True)


def strip(program, out):
    """The program without its debugging information, which is most of it."""
    if not shutil.which('objcopy'):
        raise RunError('objcopy (Debian package binutils) is missing')
    done = subprocess.run(['objcopy', '--strip-debug', program, out],
                          capture_output=True, text=True)
    if done.returncode:
        raise RunError(f'{program} is no program: {done.stderr.strip()}')


def code(name):
    """The text of a file of ours, as the input of a step."""
    return (HERE / name).read_bytes()


def add_file(archive, name, path):
    archive.file(name, Path(path).read_bytes(), 0o755)


def concatenate(parts, out):
    with open(out, 'wb') as whole:
        for part in parts:
            with open(part, 'rb') as file:
                shutil.copyfileobj(file, whole, 1 << 20)
