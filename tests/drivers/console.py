# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine on whose first serial port firmware and boot loaders talk."""

import re
import socket
import threading
import time

from guest.errors import RunError
from guest.machine import Machine

KEPT_LINES = 20
# What moves the cursor and sets colours.
ESCAPES = re.compile(rb'\x1b\[[0-9;=?]*[A-Za-z]')
# Long enough for an emulated machine on a busy host.
PATIENCE = 180


class Console:
    """The port: what is said is kept, and taken in as it is waited for."""

    def __init__(self, sock):
        self.sock = sock
        self.said = b''
        self.changed = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        """Take in what is said; a port that nobody reads stops the machine."""
        while True:
            try:
                data = self.sock.recv(1 << 16)
            except OSError:
                data = b''
            with self.changed:
                self.said += data
                self.changed.notify_all()
            if not data:
                return

    def has(self, texts):
        """The first of @texts that has been said; what is before it, and
        itself, is taken."""
        with self.changed:
            plain = ESCAPES.sub(b'', self.said)
            found = [(plain.index(text.encode()), text) for text in texts
                     if text.encode() in plain]
            if not found:
                return None
            at, text = min(found)
            self.said = plain[at + len(text):]
            return text, plain[:at].decode(errors='replace')

    def wait(self, seconds):
        """Until something is said."""
        with self.changed:
            self.changed.wait(seconds)

    def type(self, line):
        self.sock.sendall(line.encode() + b'\r')

    def lines(self):
        with self.changed:
            text = ESCAPES.sub(b'', self.said).decode(errors='replace')
        return [line for line in text.splitlines() if line][-KEPT_LINES:]


class TalkingMachine(Machine):
    """Boots what its firmware finds."""

    def console_port(self):
        ours, theirs = socket.socketpair()
        self.closers.append(ours)
        self.console = Console(ours)
        return (f'socket,fd={theirs.fileno()},logfile={self.console_log}',
                [theirs])

    def until(self, *texts, seconds=PATIENCE, unless=lambda: False):
        """Wait for one of @texts; that, and what was said before it.

        None if unless() says that it will not come.
        """
        end = time.monotonic() + seconds
        while True:
            found = self.console.has(texts)
            if found:
                return found
            self.check()
            if unless():
                return None
            if time.monotonic() > end:
                raise RunError(f'the console does not say {texts[0]!r}',
                               self.console.lines())
            self.console.wait(0.5)

    def type(self, line=''):
        self.console.type(line)
