# SPDX-License-Identifier: GPL-2.0-or-later
"""A folder that one program at a time works in."""

import contextlib
import fcntl

from .errors import RunError, told


@contextlib.contextmanager
def locked(folder, say):
    """Have @folder, which is made if need be, to ourselves."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / '.lock', 'w', encoding='ascii')
    except OSError as error:
        raise RunError(told(error)) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f'waiting for another program that works in {folder}')
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
