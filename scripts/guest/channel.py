# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands for the guest, over its second serial port.

One line each way, whatever the scripts and their output contain:

    guest  ready RELEASE
    host   ID BASE64(script)
    guest  ID STATUS BASE64(gzip(output))

Scripts run side by side; answers come in the order in which they end.
scripts/guest/init is the other end.
"""

import base64
import gzip
import socket
import time
import zlib

from .errors import RunError


class Channel:
    def __init__(self, sock):
        self.sock = sock
        self.buffer = b''
        self.answers = {}
        self.release = None
        self.last_id = 0

    def send(self, script):
        """Start a script in the guest; returns the id to ask for later."""
        self.last_id += 1
        code = base64.b64encode(script.encode()).decode()
        self.sock.settimeout(30)
        try:
            self.sock.sendall(f'{self.last_id} {code}\n'.encode())
        except OSError as error:
            raise RunError('the guest takes no commands') from error
        return self.last_id

    def pump(self, timeout):
        """Take in what the guest says, for at most timeout seconds.

        Returns False when the guest is gone.
        """
        self.sock.settimeout(max(timeout, 0.001))
        try:
            data = self.sock.recv(1 << 16)
        except socket.timeout:
            return True
        except OSError:
            data = b''
        self.buffer += data
        *lines, self.buffer = self.buffer.split(b'\n')
        for line in lines:
            self._take_line(line.strip())
        return bool(data)

    def wait_until(self, done, deadline, check):
        """Pump until done() is true; check() may raise between."""
        while not done():
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            alive = self.pump(min(left, 0.5))
            check()
            if not alive and not done():
                raise RunError('the guest ended before it answered')

    def _take_line(self, line):
        words = line.split(b' ')
        if words[0] == b'ready' and len(words) == 2:
            self.release = words[1].decode()
            return
        if len(words) != 3 or not words[0].isdigit():
            return              # noise of the port, before the guest owns it
        try:
            output = gzip.decompress(base64.b64decode(words[2]))
            self.answers[int(words[0])] = (int(words[1]),
                                           output.decode(errors='replace'))
        except (ValueError, EOFError, OSError, zlib.error):
            raise RunError('garbled answer from the guest: '
                           f'{line[:60]!r}') from None
