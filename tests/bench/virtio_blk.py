# SPDX-License-Identifier: GPL-2.0-or-later
"""Bring a virtio-blk-pci device up to DRIVER_OK, register by register.

VIRTIO 1.2: section 3.1 (initialisation), 4.1.4 (PCI capabilities).
The rings lie in shared guest memory; ring-driver runs them.

    guest memory      0x0010_0000   MSI-X words, one a queue
                      0x0100_0000   queue 0: descriptors, available, used,
                                    control data, data buffers
                      ...           queue 1, and so on
"""

from qemu import BenchError

MSIX_WORDS = 0x100000
QUEUES = 0x1000000
BAR_BASE = 0xe0000000
BAR_SIZE = 0x1000000

# virtio_pci_cap.cfg_type
COMMON_CFG, NOTIFY_CFG, _, DEVICE_CFG = 1, 2, 3, 4

# Feature bits
F_FLUSH = 1 << 9
F_MQ = 1 << 12
F_INDIRECT = 1 << 28
F_EVENT_IDX = 1 << 29
F_VERSION_1 = 1 << 32

# Device status
ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK = 1, 2, 4, 8

SLOT_SIZE = 128         # ring-driver-virtio.c
BLOCK_SIZE = 4096


class PciFunction:
    """Configuration space through ports 0xcf8 and 0xcfc."""

    def __init__(self, qemu, slot):
        self.qemu = qemu
        self.address = 0x80000000 | slot << 11

    def read(self, offset, size):
        self.qemu.port_out(0xcf8, self.address | offset & ~3, 4)
        return self.qemu.port_in(0xcfc + (offset & 3), size)

    def write(self, offset, value, size):
        self.qemu.port_out(0xcf8, self.address | offset & ~3, 4)
        self.qemu.port_out(0xcfc + (offset & 3), value, size)

    def map_bars(self):
        """Give every memory BAR a place and switch the function on."""
        self.bars = {}
        bar = 0
        while bar < 6:
            offset = 0x10 + 4 * bar
            self.write(offset, 0xffffffff, 4)
            kind = self.read(offset, 4)
            if kind and not kind & 1:
                self.bars[bar] = BAR_BASE + bar * BAR_SIZE
                self.write(offset, self.bars[bar], 4)
                if kind & 4:                        # 64 bits wide
                    self.write(offset + 4, 0, 4)
                    bar += 1
            bar += 1
        self.write(4, 0x6, 2)                       # memory, bus master

    def capabilities(self):
        """Yields (offset, id) of each."""
        offset = self.read(0x34, 1)
        while offset:
            yield offset, self.read(offset, 1)
            offset = self.read(offset + 1, 1)


class VirtioBlk:
    """The device in PCI slot @slot, running @n_queues split rings."""

    def __init__(self, qemu, slot, n_queues, ring_size, depth,
                 indirect=False):
        self.qemu = qemu
        self.ring_size, self.depth = ring_size, depth
        self.indirect = indirect
        self.fds = [qemu.qtest_socket.fileno()]     # that ring-driver needs
        self.pci = PciFunction(qemu, slot)
        if self.pci.read(0, 2) != 0x1af4:
            raise BenchError(f'no virtio device in PCI slot {slot}')
        self.pci.map_bars()
        self._find_capabilities()
        self._negotiate()
        self._enable_msix(n_queues)
        self.queues = [self._set_up_queue(i) for i in range(n_queues)]
        self._common_write(0x14, 1, self._status() | DRIVER_OK)
        self.blocks = qemu.mem_read(self.regions[DEVICE_CFG], 8) \
            * 512 // BLOCK_SIZE

    def _find_capabilities(self):
        self.regions = {}
        for offset, kind in self.pci.capabilities():
            if kind == 0x11:
                self.msix = offset
            elif kind == 0x09:
                region = self.pci.read(offset + 3, 1)
                base = self.pci.bars.get(self.pci.read(offset + 4, 1))
                if base is None:                    # the port I/O window
                    continue
                self.regions.setdefault(
                    region, base + self.pci.read(offset + 8, 4))
                if region == NOTIFY_CFG:
                    self.notify_multiplier = self.pci.read(offset + 16, 4)

    def _common_write(self, offset, size, value):
        self.qemu.mem_write(self.regions[COMMON_CFG] + offset, value, size)

    def _common_read(self, offset, size):
        return self.qemu.mem_read(self.regions[COMMON_CFG] + offset, size)

    def _status(self):
        return self._common_read(0x14, 1)

    def _negotiate(self):
        self._common_write(0x14, 1, 0)
        self._common_write(0x14, 1, ACKNOWLEDGE | DRIVER)
        offered = 0
        for word in (0, 1):
            self._common_write(0x00, 4, word)
            offered |= self._common_read(0x04, 4) << 32 * word
        features = offered & (F_FLUSH | F_MQ | F_INDIRECT | F_EVENT_IDX
                              | F_VERSION_1)
        if not features & F_EVENT_IDX:
            raise BenchError('the device does not offer EVENT_IDX')
        for word in (0, 1):
            self._common_write(0x08, 4, word)
            self._common_write(0x0c, 4, features >> 32 * word & 0xffffffff)
        self._common_write(0x14, 1, ACKNOWLEDGE | DRIVER | FEATURES_OK)
        if not self._status() & FEATURES_OK:
            raise BenchError('the device refuses its own features')

    def _enable_msix(self, n_queues):
        """Vector i writes 1 to word i, which is plain guest memory."""
        table = self.pci.read(self.msix + 4, 4)
        table = self.pci.bars[table & 7] + (table & ~7)
        for i in range(n_queues):
            self.qemu.mem_write(table + 16 * i, self._msix_word(i), 4)
            self.qemu.mem_write(table + 16 * i + 4, 0, 4)
            self.qemu.mem_write(table + 16 * i + 8, 1, 4)
            self.qemu.mem_write(table + 16 * i + 12, 0, 4)
        self.pci.write(self.msix + 2, 0x8000, 2)
        self._common_write(0x10, 2, 0xffff)

    @staticmethod
    def _msix_word(i):
        return MSIX_WORDS + 64 * i

    def _layout(self, i):
        """Addresses of queue i's parts, and where the next one may start."""
        size = self.ring_size
        desc = self.next_free if i else QUEUES
        avail = desc + 16 * size
        used = (avail + 6 + 2 * size + 4095) & ~4095
        slots = (used + 6 + 8 * size + 4095) & ~4095
        end = slots + self.depth * (SLOT_SIZE + BLOCK_SIZE) + 2 * BLOCK_SIZE
        self.next_free = (end + 4095) & ~4095
        if self.next_free > len(self.qemu.memory):
            raise BenchError(f'{i + 1} rings of {size} with {self.depth} '
                             'requests do not fit guest memory')
        return desc, avail, used, slots

    def _set_up_queue(self, i):
        self._common_write(0x16, 2, i)
        if self._common_read(0x18, 2) < self.ring_size:
            raise BenchError(f'queue {i} is smaller than {self.ring_size}')
        self._common_write(0x18, 2, self.ring_size)
        self._common_write(0x1a, 2, i)
        if self._common_read(0x1a, 2) != i:
            raise BenchError(f'queue {i} gets no MSI-X vector')
        desc, avail, used, slots = self._layout(i)
        for offset, addr in ((0x20, desc), (0x28, avail), (0x30, used)):
            self._common_write(offset, 4, addr)
            self._common_write(offset + 4, 4, 0)
        notify = self.regions[NOTIFY_CFG] \
            + self._common_read(0x1e, 2) * self.notify_multiplier
        self._common_write(0x1c, 2, 1)
        return desc, avail, used, slots, notify, self._msix_word(i)

    def written_words(self):
        """A guest address for each queue that only its server writes."""
        return [used for _, _, used, *_ in self.queues]

    def driver_options(self):
        """What ring-driver has to know of this device."""
        return [f'--memory-fd={self.qemu.memory_fd}',
                f'--qtest-fd={self.qemu.qtest_socket.fileno()}',
                f'--blocks={self.blocks}', f'--ring-size={self.ring_size}',
                f'--depth={self.depth}',
                *(['--indirect'] if self.indirect else []),
                *('--queue=' + ','.join(f'{a:x}' for a in q)
                  for q in self.queues)]

    def close(self):
        """Nothing to do: nothing of the driver outlives QEMU."""
