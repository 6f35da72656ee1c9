# Firmware for the programs in the build folder and for installing.
#
# Debian's source package has no firmware; SeaBIOS, the VGA BIOSes, option ROMs
# and iPXE are packages of their own.  A program that runs from its build folder
# looks for firmware below qemu-bundle/ there, at the path of an installation.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import re
import shutil
from pathlib import Path

from term import say

# Later folders add what earlier ones lack.
FOLDERS = ('/usr/share/qemu', '/usr/share/seabios', '/usr/lib/ipxe/qemu')

NEEDED = 'bios-256k.bin'

X86_EMULATORS = ('qemu-system-x86_64', 'qemu-system-i386')
# SeaBIOS and the BIOSes of its cards, and what starts a kernel without them.
X86 = re.compile(r'(vga)?bios.*\.bin|(pxe|efi)-.*\.rom|sgabios\.bin|'
                 r'(kvmvapic|(linux|multi)boot(_dma)?|pvh)\.bin|qboot\.rom')

SUFFIXES = ('.bin', '.rom', '.fd', '.dtb', '.img')


def files(base):
    """Firmware files on this machine and in the base, by name."""
    found = {}
    for folder in (*map(Path, FOLDERS), base / 'pc-bios'):
        if folder.is_dir():
            for path in sorted(folder.iterdir()):
                if path.is_file() and path.suffix in SUFFIXES:
                    found.setdefault(path.name, path)
    return found


def data_folder(layout):
    """Where the configured programs expect their data."""
    return layout.configured('CONFIG_QEMU_DATADIR')[0].lstrip('/')


def link(layout):
    folder = layout.qemu / 'qemu-bundle' / data_folder(layout)
    folder.mkdir(parents=True, exist_ok=True)
    found = files(layout.base)
    for name, path in found.items():
        place = folder / name
        if place.is_symlink() and not place.exists():
            place.unlink()
        if not place.exists():
            place.symlink_to(path)
    if NEEDED not in found:
        say(f'no firmware ({NEEDED}) on this machine; Debian has it in '
            'seabios, qemu-system-data and ipxe-qemu')


def wanted(name, emulators):
    """Whether one of these emulators loads the file."""
    return X86.fullmatch(name) or not all(emulator in X86_EMULATORS
                                          for emulator in emulators)


def install(layout, destdir, emulators):
    """Copy what the emulators need; the files that are there now."""
    folder = Path(destdir or '/') / data_folder(layout)
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in files(layout.base).items():
        if wanted(name, emulators):
            shutil.copyfile(path, folder / name)
            yield folder / name
