# SPDX-License-Identifier: GPL-2.0-or-later
"""Connect a Xen PV disk as its frontend does, through our stand-in for Xen.

docs/xen-standin.rst has the control words, blkif.h the nodes in xenstore.

    guest memory      0x0200_0000   the grant table, version 1
                      0x0300_0000   ring 0: shared ring, a page of data for
                                    each slot, a page of indirect segments
                      ...           ring 1, and so on
"""

import ctypes
import os
import socket
import struct

from qemu import BenchError

GRANTS, GRANT_FRAMES = 0x2000000, 16
RINGS = 0x3000000
FIRST_REF = 8           # those before it belong to console and xenstore
PERMIT_ACCESS = 1
PAGE = 4096
RING_ORDER = 3          # pages of a ring, as a power of two
RING_ENTRIES = 256      # of 112 bytes, what fits them, as a power of two
VDEV = 202 << 8         # xvda

# xenbus states
INIT_WAIT, INITIALISED, CONNECTED = 2, 3, 4

FRONTEND = f'/local/domain/1/device/vbd/{VDEV}'
BACKEND = f'/local/domain/0/backend/qdisk/1/{VDEV}'


def eventfd():
    fd = ctypes.CDLL(None, use_errno=True).eventfd(0, os.O_NONBLOCK
                                                   | os.O_CLOEXEC)
    if fd < 0:
        raise BenchError(f'eventfd: {os.strerror(ctypes.get_errno())}')
    return fd


class XenBlk:
    """The connected disk; use it in a 'with': it owns file descriptors."""

    def __init__(self, qemu, n_rings, depth, indirect=False, persistent=True):
        self.qemu, self.depth = qemu, depth
        self.indirect, self.persistent = indirect, persistent
        self.control = qemu.sockets['xen']
        self.answers = self.control.makefile('rb')
        self.next_ref, self.next_page = FIRST_REF, RINGS
        self.fds = []
        try:
            self._connect(n_rings)
        except BaseException:
            self.close()
            raise

    # --- Control words ---

    def ask(self, word, fds=()):
        socket.send_fds(self.control, [word.encode() + b'\n'], list(fds))
        try:
            answer = self.answers.readline().decode().strip()
        except socket.timeout:
            raise BenchError(f'no answer to {word}') from None
        if not answer.startswith('OK'):
            self.qemu.check_alive()
            raise BenchError(f'{word}: {answer}')
        return answer[3:]

    def offers(self, key, otherwise=0):
        """A number that the backend has written."""
        try:
            return int(self.ask(f'xs_read {BACKEND}/{key}'))
        except BenchError:
            return otherwise

    def wait_for_backend(self, state):
        answer = self.ask(f'xs_wait {BACKEND}/state {state} 5 6')
        if int(answer) != state:
            raise BenchError(f'the Xen disk goes to state {answer}, not '
                             f'{state}')

    def grant_stats(self):
        """(calls that mapped, calls that copied)"""
        words = self.ask('gnttab_stats').split()
        return int(words[0]), int(words[2])

    # --- Memory ---

    def grant(self, n_pages):
        """Grant fresh pages; returns (address, first reference)."""
        address, ref = self.next_page, self.next_ref
        self.next_page += n_pages * PAGE
        self.next_ref += n_pages
        if (self.next_ref > GRANT_FRAMES * PAGE // 8
                or self.next_page > len(self.qemu.memory)):
            raise BenchError('too many rings for guest memory')
        for i in range(n_pages):
            struct.pack_into('<HHI', self.qemu.memory, GRANTS + 8 * (ref + i),
                             PERMIT_ACCESS, 0, address // PAGE + i)
        return address, ref

    # --- Negotiation ---

    def _connect(self, n_rings):
        self.ask(f'gnttab_setup {GRANTS // PAGE} {GRANT_FRAMES}')
        self.wait_for_backend(INIT_WAIT)
        if self.offers('multi-queue-max-queues', 1) < n_rings:
            raise BenchError(f'the Xen disk does not offer {n_rings} rings')
        if self.offers('max-ring-page-order') < RING_ORDER:
            raise BenchError('the Xen disk does not offer rings of '
                             f'{1 << RING_ORDER} pages')
        if self.indirect and not self.offers('feature-max-indirect-segments'):
            raise BenchError('the Xen disk does not offer indirect requests')
        self.persistent &= bool(self.offers('feature-persistent'))
        if n_rings > 1:
            self._write('multi-queue-num-queues', n_rings)
        self._write('ring-page-order', RING_ORDER)
        self._write('protocol', 'x86_64-abi')
        self._write('feature-persistent', int(self.persistent))
        self.rings = [self._set_up_ring(f'queue-{i}/' if n_rings > 1 else '')
                      for i in range(n_rings)]
        self._write('state', INITIALISED)
        self.wait_for_backend(CONNECTED)
        self._write('state', CONNECTED)
        self.ask('xs_sync')
        self.blocks = self.offers('sectors') * 512 // PAGE

    def _write(self, key, value):
        self.ask(f'xs_write {FRONTEND}/{key} {value}')

    def _set_up_ring(self, prefix):
        ring, ring_ref = self.grant(1 << RING_ORDER)
        # req_prod, req_event, rsp_prod, rsp_event
        struct.pack_into('<IIII', self.qemu.memory, ring, 0, 1, 0, 1)
        for i in range(1 << RING_ORDER):
            self._write(f'{prefix}ring-ref{i}', ring_ref + i)
        send, wait = eventfd(), eventfd()
        self.fds += [send, wait]
        port = self.ask('evtchn_alloc', (send, wait))
        self._write(f'{prefix}event-channel', port)
        _, data_ref = self.grant(self.depth)
        tables, table_ref = self.grant(self.depth if self.indirect else 0)
        return ring, tables, data_ref, table_ref, send, wait, VDEV

    def written_words(self):
        """A guest address for each ring that only its server writes."""
        return [ring + 8 for ring, *_ in self.rings]

    def driver_options(self):
        """What ring-driver has to know of this disk."""
        return ['--xen', f'--memory-fd={self.qemu.memory_fd}',
                f'--blocks={self.blocks}', f'--ring-size={RING_ENTRIES}',
                f'--depth={self.depth}',
                *(['--indirect'] if self.indirect else []),
                *('--queue=' + ','.join(f'{a:x}' for a in r)
                  for r in self.rings)]

    def close(self):
        while self.fds:
            os.close(self.fds.pop())
