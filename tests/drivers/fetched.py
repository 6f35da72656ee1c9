# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels, firmware and boot loaders of a release of Debian.

    build/drivers/SUITE/kernel/RELEASE     see scripts/guest/kernel.py
    build/drivers/SUITE/initramfs          busybox and modules
    build/drivers/SUITE/firmware           packages, unpacked

What is there is not fetched again; 'make distclean' removes it.
"""

import os
import shutil
import tempfile
from pathlib import Path

from guest import image, kernel
from guest.arguments import build_folder
from guest.initramfs import Archive
from guest.lock import locked
from guest.modules import Modules
from xen import debs, stage


class Suite:
    def __init__(self, name, say):
        self.name = name
        self.say = say
        self.folder = build_folder(os.environ) / 'drivers' / name

    def _apt(self):
        apt = debs.Apt(self.folder / 'apt', self.say, self.name)
        apt.update()
        return apt

    def linux(self):
        """A small image of the release's kernel."""
        with locked(self.folder, self.say):
            place = self.folder / 'kernel'
            place.mkdir(exist_ok=True)
            found = kernel.cached(place) or self._fetch_kernel(place)
            initramfs = self.folder / 'initramfs'
            inputs = [str(found.image), image.WANTED,
                      (image.HERE / 'init').read_bytes()]
            stage.stage(initramfs, inputs,
                        lambda new: make_initramfs(new, found),
                        f'initramfs for Linux {found.release}', self.say)
        return image.GuestImage(found.image, initramfs, found.release)

    def _fetch_kernel(self, place):
        apt = self._apt()
        with tempfile.TemporaryDirectory(dir=place, prefix='get-') as name:
            fetched = Path(name) / 'debs'
            apt.fetch(kernel.packages(apt.show), fetched)
            return kernel.install(place, sorted(fetched.iterdir()))

    def firmware(self, packages, libraries):
        """The folder with the files of @packages and of @libraries, and of
        the libraries that these need."""
        root = self.folder / 'firmware'
        with locked(self.folder, self.say):
            stage.stage(root, [packages, libraries],
                        lambda new: self._unpack(packages, libraries, new),
                        f'firmware of Debian {self.name}', self.say)
        return root

    def _unpack(self, packages, libraries, root):
        fetched = self.folder / 'debs'
        shutil.rmtree(fetched, ignore_errors=True)
        try:
            apt = self._apt()
            needed = [name for name in apt.closure(libraries)
                      if name.startswith('lib')]
            apt.fetch([*packages, *needed], fetched)
            for package in sorted(fetched.iterdir()):
                debs.unpack(package, root, is_wanted)
        finally:
            shutil.rmtree(fetched, ignore_errors=True)


def is_wanted(path):
    return not path.startswith(('usr/share/doc', 'usr/share/locale'))


def make_initramfs(path, found):
    with open(path, 'wb') as stream:
        archive = Archive(stream)
        image.fill(archive, image.static_busybox(), {},
                   Modules(found.modules))
