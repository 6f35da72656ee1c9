# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk with one partition, a FAT16 of files that a boot loader reads.

    sector 0            master boot record
    1 MiB               partition 1: boot sector, two FATs, root, clusters

All in sectors of the disk, which may be of 4 KiB.  Names are in capitals, as
8.3, and paths have folders: 'EFI/BOOT/BOOTX64.EFI'.
"""

import struct

MIB = 1 << 20
START = 1 * MIB
CLUSTER = 8192
ROOT_ENTRIES = 512
EFI_SYSTEM = 0xef       # of a partition
END_OF_CHAIN = 0xffff
ARCHIVE, FOLDER = 0x20, 0x10


def name83(name):
    stem, _, suffix = name.partition('.')
    if len(stem) > 8 or len(suffix) > 3 or name != name.upper():
        raise ValueError(f'{name} is no short name')
    return stem.ljust(8).encode() + suffix.ljust(3).encode()


def entry(name, attributes, cluster, size):
    """What a folder has of a file."""
    return struct.pack('<11sB14xHI', name, attributes, cluster, size)


class Fat:
    """A FAT16 of @size bytes; add files, then write()."""

    def __init__(self, size, sector):
        self.sector = sector
        self.clusters = size // CLUSTER
        self.size = size
        self.chains = [0xfff8, END_OF_CHAIN]
        self.data = []          # of clusters, from number 2 on
        self.tree = {}

    def add(self, path, data):
        *folders, name = path.split('/')
        place = self.tree
        for folder in folders:
            place = place.setdefault(folder, {})
        place[name] = data

    def _store(self, data):
        """Put @data into clusters; the first one's number."""
        first = len(self.chains)
        count = -(-len(data) // CLUSTER)
        self.chains += list(range(first + 1, first + count)) + [END_OF_CHAIN]
        self.data.append(data.ljust(count * CLUSTER, b'\0'))
        return first

    def _entries(self, tree, here=None, parent=0):
        """The entries of a folder, whose files are stored first."""
        found = b''
        if here is not None:
            found += entry(b'.'.ljust(11), FOLDER, here, 0)
            found += entry(b'..'.ljust(11), FOLDER, parent, 0)
        for name, what in tree.items():
            if isinstance(what, dict):
                found += entry(name83(name), FOLDER,
                               self._folder(what, here or 0), 0)
            else:
                found += entry(name83(name), ARCHIVE, self._store(what),
                               len(what))
        return found

    def _folder(self, tree, parent):
        """Store a folder, which has to fit in a cluster; its number."""
        place, number = len(self.data), len(self.chains)
        self.chains.append(END_OF_CHAIN)
        self.data.append(None)
        self.data[place] = self._entries(tree, number, parent).ljust(
            CLUSTER, b'\0')
        return number

    def image(self):
        root = self._entries(self.tree).ljust(ROOT_ENTRIES * 32, b'\0')
        sectors = self.size // self.sector
        fat = -(-(self.clusters + 2) * 2 // self.sector)
        boot = struct.pack(
            '<3s8sHBHBHHBHHHIIBBBI11s8s', b'\xeb\x3c\x90', b'qemu-mq ',
            self.sector, CLUSTER // self.sector, 1, 2, ROOT_ENTRIES, 0, 0xf8,
            fat, 63, 255, START // self.sector, sectors, 0x80, 0, 0x29,
            0x12345678, b'DRIVERS    ', b'FAT16   ').ljust(510, b'\0')
        table = struct.pack(f'<{len(self.chains)}H', *self.chains).ljust(
            fat * self.sector, b'\0')
        return b''.join([(boot + b'\x55\xaa').ljust(self.sector, b'\0'),
                         table, table, root, *self.data])


def boot_record(code, size, sector):
    """The master boot record, with @code at its start."""
    part = struct.pack('<B3sB3sII', 0x80, b'\xfe\xff\xff', EFI_SYSTEM,
                       b'\xfe\xff\xff', START // sector,
                       (size - START) // sector)
    return (code[:440].ljust(440, b'\0') + b'MQMQ\0\0' + part
            + bytes(48) + b'\x55\xaa')


def write_disk(path, size, sector, files, code=b'', core=b''):
    """A disk at @path; @code and @core are a boot loader's for a BIOS."""
    fat = Fat(size - START, sector)
    for name, data in files.items():
        fat.add(name, data)
    with open(path, 'wb') as file:
        file.write(boot_record(code, size, sector))
        file.seek(512)
        file.write(core)
        file.seek(START)
        file.write(fat.image())
        file.truncate(size)
