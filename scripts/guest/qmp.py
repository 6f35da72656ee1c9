# SPDX-License-Identifier: GPL-2.0-or-later
"""The monitor, as far as guests of this tree need it."""

import json
import socket
import time

from .errors import RunError


class Qmp:
    """A QMP connection over a connected socket.

    Events that arrive on the way are kept in self.events, oldest first.
    """

    def __init__(self, sock):
        self.sock = sock
        self.buffer = b''
        self.events = []

    def handshake(self, timeout):
        self._receive(timeout)
        self.command('qmp_capabilities', timeout=timeout)

    def command(self, name, /, timeout=30, **arguments):
        """Run a command; its return value, or RunError with QEMU's words.

        An underscore in an argument's name stands for a dash.
        """
        return self.command_as_is(
            name, timeout, **{key.replace('_', '-'): value
                              for key, value in arguments.items()})

    def command_as_is(self, name, /, timeout=30, **arguments):
        """The same, for commands whose arguments have underscores."""
        request = {'execute': name}
        if arguments:
            request['arguments'] = arguments
        try:
            self.sock.sendall(json.dumps(request).encode() + b'\n')
        except OSError as error:
            raise RunError(f'QEMU is gone, {name} not sent') from error
        deadline = time.monotonic() + timeout
        while True:
            message = self._receive(deadline - time.monotonic())
            if 'event' in message:
                self.events.append(message)
            elif 'error' in message:
                raise RunError(f"{name}: {message['error']['desc']}")
            elif 'return' in message:
                return message['return']

    def poll_events(self):
        """All events so far, without waiting."""
        while True:
            try:
                message = self._receive(0)
            except (TimeoutError, RunError):
                return self.events
            if 'event' in message:
                self.events.append(message)

    def wait_event(self, wanted, timeout=60):
        """The first event for which wanted(event) is true, also of those that
        have come already; it is taken out of self.events."""
        deadline = time.monotonic() + timeout
        while True:
            for event in self.events:
                if wanted(event):
                    self.events.remove(event)
                    return event
            message = self._receive(deadline - time.monotonic())
            if 'event' in message:
                self.events.append(message)

    def _receive(self, timeout):
        deadline = time.monotonic() + timeout
        while b'\n' not in self.buffer:
            left = deadline - time.monotonic()
            # A timeout of 0 would make the socket non-blocking for good.
            self.sock.settimeout(max(left, 0.001))
            try:
                data = self.sock.recv(1 << 16)
            except socket.timeout:
                raise TimeoutError('QEMU\'s monitor does not answer') from None
            except OSError:
                data = b''
            if not data:
                raise RunError('QEMU closed its monitor')
            self.buffer += data
        line, self.buffer = self.buffer.split(b'\n', 1)
        return json.loads(line)
