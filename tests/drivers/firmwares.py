# SPDX-License-Identifier: GPL-2.0-or-later
"""Firmware that boots from a disk, and how to lead it to Linux.

Each has four steps:

    start()     until it has read the disk's first sectors, or cannot
    show()      what it reads from the file NAME
    load()      it loads Linux
    go()        it hands over to Linux
"""

import shutil

import bootdisk
from bootdisk import LOADED, READY, SHOWN, TEXT

KERNEL_AT, INITRD_AT = '0x2000000', '0x6000000'


class Firmware:
    machine = 'q35'
    packages = ()

    def __init__(self, root):
        self.root = root

    def arguments(self, folder):
        """QEMU's, for a machine whose files are in @folder."""
        raise NotImplementedError

    def start(self, machine):
        """Whether it can read the disk."""
        return machine.until(READY, self.nothing)[0] == READY

    def show(self, machine):
        """Whether NAME says what it should."""
        machine.type()
        return TEXT in machine.until(SHOWN)[1]

    def load(self, machine):
        machine.type()
        machine.until(LOADED)

    def go(self, machine):
        machine.type()


class SeaBios(Firmware):
    """With GRUB, which asks it for sectors."""
    packages = ('seabios',)
    nothing = 'No bootable device'

    def arguments(self, folder):
        # Without a graphics card its words go to the serial port, too, which
        # it then reads: GRUB would not get what is typed.
        return ['-bios', self.root / 'usr/share/seabios/bios-256k.bin',
                '-chardev', f'file,id=words,path={folder}/words',
                '-device', 'isa-debugcon,iobase=0x402,chardev=words']

    def start(self, machine):
        words = machine.folder / 'words'

        def gave_up():
            return self.nothing in words.read_text(errors='replace')
        return machine.until(READY, unless=gave_up) is not None


class Ipxe(SeaBios):
    """Started like a kernel, and told to boot from the BIOS's first disk."""
    packages = ('ipxe',)

    def arguments(self, folder):
        script = folder / 'script.ipxe'
        script.write_text('#!ipxe\nsanboot --no-describe --drive 0x80\n')
        # Debian 12 has it in /boot, and a link in the other folder.
        places = [self.root / place / 'ipxe.lkrn'
                  for place in ('boot', 'usr/lib/ipxe')]
        program = next(path for path in places if path.exists())
        return super().arguments(folder) + ['-kernel', program,
                                            '-initrd', script]

    def start(self, machine):
        reads = super().start(machine)
        words = (machine.folder / 'words').read_text(errors='replace')
        return reads and 'Booting from ROM' in words


class Ovmf(Firmware):
    """With GRUB, which calls UEFI's services for sectors."""
    packages = ('ovmf',)
    nothing = 'No bootable option'

    def arguments(self, folder):
        place = self.root / 'usr/share/OVMF'
        shutil.copy(place / 'OVMF_VARS_4M.fd', folder / 'vars')
        return ['-drive', 'if=pflash,unit=0,format=raw,readonly=on,file='
                f'{place}/OVMF_CODE_4M.fd',
                '-drive', f'if=pflash,unit=1,format=raw,file={folder}/vars']


class UBoot(Firmware):
    """On a machine of the only kind that its device tree describes."""
    machine = 'pc'
    packages = ('u-boot-qemu',)
    prompt = '=> '

    def arguments(self, folder):
        return ['-bios', self.root / 'usr/lib/u-boot/qemu-x86/u-boot.rom']

    def command(self, machine, line):
        """What a command says."""
        machine.type(f'{line}; echo the""end')
        said = machine.until('theend')[1]
        machine.until(self.prompt)
        return said

    def start(self, machine):
        machine.until('stop autoboot')
        machine.type()
        machine.until(self.prompt)
        self.command(machine, 'virtio scan')
        return 'NAME' in self.command(machine, 'ls virtio 0:1')

    def show(self, machine):
        said = self.command(machine, f'load virtio 0:1 {KERNEL_AT} NAME; '
                                     f'md.b {KERNEL_AT} 10')
        return TEXT in said

    def load(self, machine):
        self.command(machine, f'setenv bootargs {bootdisk.OPTIONS}')
        self.command(machine, f'load virtio 0:1 {KERNEL_AT} VMLINUZ')
        self.command(machine, f'load virtio 0:1 {INITRD_AT} INITRD')

    def go(self, machine):
        machine.type(f'zboot {KERNEL_AT} - {INITRD_AT} ${{filesize}}')


FIRMWARE = {'SeaBIOS': SeaBios, 'iPXE': Ipxe, 'OVMF': Ovmf, 'U-Boot': UBoot}
