# SPDX-License-Identifier: GPL-2.0-or-later
"""A program on a terminal, as a person uses it: read, type, wait."""

import os
import pty
import select
import subprocess
import time


class Terminal:
    """Runs @words on a terminal of its own; use it in a with statement."""

    def __init__(self, *words, cwd=None, env=None):
        self.said = ''
        self.master, slave = pty.openpty()
        try:
            self.process = subprocess.Popen(
                [str(word) for word in words], stdin=slave, stdout=slave,
                stderr=slave, start_new_session=True, cwd=cwd, env=env)
        finally:
            os.close(slave)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait()
        os.close(self.master)

    def read_until(self, text, timeout):
        """Wait until the program has printed @text."""
        deadline = time.monotonic() + timeout
        while text not in self.said:
            if not self._read(deadline):
                raise AssertionError(f'no {text!r} in: {self.said}')

    def type(self, line):
        os.write(self.master, line.encode() + b'\r')

    def wait(self, timeout):
        """The program's exit status."""
        deadline = time.monotonic() + timeout
        while self._read(deadline):
            pass
        return self.process.wait(max(deadline - time.monotonic(), 1))

    def _read(self, deadline):
        """Take in what is there; False at the end, or if time is up."""
        left = max(deadline - time.monotonic(), 0)
        if not select.select([self.master], [], [], left)[0]:
            return False
        try:
            data = os.read(self.master, 1 << 16)
        except OSError:             # the other end is closed
            return False
        self.said += data.decode(errors='replace')
        return bool(data)
