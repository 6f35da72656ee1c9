# SPDX-License-Identifier: GPL-2.0-or-later
"""What is left of an image if the power fails: what was flushed.

blklogwrites writes down each write that has ended, with its data, and each
flush.  All of them up to a flush, done to the image as it was before, make the
image of a disk that has lost its cache.
"""

import os
import struct

ENTRY = struct.Struct('<4Q')    # sector, sectors, flags, unused
FLUSH, DISCARD = 1, 4           # flags
SECTOR = 512


def entries(log, size):
    """(flags, offset in the image, bytes, offset of the data in the log) of
    all entries that begin in the first @size bytes, in their order."""
    at = SECTOR
    while at < size:
        log.seek(at)
        sector, count, flags, _ = ENTRY.unpack(log.read(ENTRY.size))
        length = 0 if flags & (FLUSH | DISCARD) else count * SECTOR
        yield flags, sector * SECTOR, length, at + SECTOR
        at += SECTOR + length


def replay(path, size, image):
    """Do to an image what was flushed within the first @size bytes of a log.

    What is discarded stays as it is, as it may on a disk.  Returns how many
    writes there were, and how many of them are lost."""
    with open(path, 'rb') as log, open(image, 'r+b') as file:
        found = list(entries(log, size))
        flushes = [number for number, entry in enumerate(found)
                   if entry[0] & FLUSH]
        end = flushes[-1] if flushes else -1
        for _, offset, length, data in found[:max(end, 0)]:
            if length:
                log.seek(data)
                os.pwrite(file.fileno(), log.read(length), offset)
    writes = [number for number, entry in enumerate(found) if entry[2]]
    return len(writes), sum(number > end for number in writes)
