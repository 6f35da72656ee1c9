# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk that BIOS, UEFI and U-Boot find something to boot on.

    GRUB in the boot record and behind it       for a BIOS
    EFI/BOOT/BOOTX64.EFI                        GRUB, for UEFI
    VMLINUZ, INITRD                             Linux
    NAME                                        a text that a loader shows

GRUB says when it runs, when it has shown NAME, and when it has loaded Linux.
It waits for a line each time.
"""

import subprocess

import fat
from guest.errors import RunError
from guest.machine import LINUX_OPTIONS

SIZE = 64 << 20
TEXT = 'this is the disk'
READY, SHOWN, LOADED = 'grub: ready', 'grub: shown', 'grub: loaded'
OPTIONS = f'{LINUX_OPTIONS} quiet'
MODULES = ('terminal', 'echo', 'read', 'cat', 'linux', 'part_msdos', 'fat',
           'boot')
# On UEFI the console is the serial port, which the firmware reads, too.
SERIAL = '''serial --unit=0 --speed=115200
terminal_output serial
terminal_input serial
'''
SCRIPT = f'''echo {READY}
read line
cat (hd0,msdos1)/NAME
echo {SHOWN}
read line
linux (hd0,msdos1)/VMLINUZ {OPTIONS}
initrd (hd0,msdos1)/INITRD
echo {LOADED}
read line
boot
'''
PACKAGES = ('grub-common', 'grub-pc-bin', 'grub-efi-amd64-bin')
# What grub-mkimage needs; with all that these depend on.
LIBRARIES = ('libdevmapper1.02.1', 'liblzma5')
LIBS = 'usr/lib/x86_64-linux-gnu'


def grub(root, folder, platform, script, modules):
    """An image of GRUB, made by the packages unpacked in @root."""
    config, image = folder / 'early.cfg', folder / 'grub.img'
    config.write_text(script)
    libs = root / LIBS
    done = subprocess.run(
        [libs / 'ld-linux-x86-64.so.2', '--library-path', libs,
         root / 'usr/bin/grub-mkimage', '-d', root / 'usr/lib/grub' / platform,
         '-O', platform, '-p', '/grub', '-c', config, '-o', image, *modules],
        capture_output=True, text=True, check=False)
    if done.returncode:
        raise RunError('grub-mkimage failed', done.stderr.splitlines())
    return image.read_bytes()


class BootDisk:
    """Disks with the same files, in sectors of each size."""

    def __init__(self, root, linux, folder):
        self.folder = folder
        self.core = grub(root, folder, 'i386-pc', SERIAL + SCRIPT,
                         (*MODULES, 'serial', 'biosdisk'))
        self.code = (root / 'usr/lib/grub/i386-pc/boot.img').read_bytes()
        self.files = {
            'NAME': f'{TEXT}\n'.encode(),
            'VMLINUZ': linux.kernel.read_bytes(),
            'INITRD': linux.initramfs.read_bytes(),
            'EFI/BOOT/BOOTX64.EFI': grub(root, folder, 'x86_64-efi', SCRIPT,
                                         MODULES)}

    def make(self, sector):
        """The path of a disk with such sectors."""
        path = self.folder / f'boot-{sector}.raw'
        if not path.exists():
            fat.write_disk(path, SIZE, sector, self.files, self.code,
                           self.core)
        return path
