# SPDX-License-Identifier: GPL-2.0-or-later
"""A build step: runs when its inputs changed, and leaves all or nothing.

    inputs -> digest -- same as NAME.stamp? -- yes: nothing to do
                             | no
               build(NAME.new) -> rename to NAME -> write NAME.stamp

The stamp goes first when a step starts over, so that a step that was cut
short is run again whatever it left.
"""

import contextlib
import hashlib
import shutil
import time
from pathlib import Path


def digest(inputs):
    """A name for @inputs: strings, bytes, or lists of them."""
    return hashlib.sha256(repr(inputs).encode()).hexdigest()


def file_state(path):
    """Enough of @path to see that it changed, without reading it."""
    info = path.stat()
    return f'{path} {info.st_size} {info.st_mtime_ns}'


def remove(path):
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def stage(path, inputs, build, what, say):
    """Make @path by build(new path) unless it stands for @inputs already."""
    stamp, new = Path(f'{path}.stamp'), Path(f'{path}.new')
    wanted = digest(inputs)
    with contextlib.suppress(OSError):
        if stamp.read_text(encoding='ascii') == wanted and path.exists():
            return
    start = time.monotonic()
    remove(stamp)
    remove(new)
    try:
        build(new)
    except BaseException:
        remove(new)
        raise
    remove(path)
    new.rename(path)
    stamp.write_text(wanted, encoding='ascii')
    say(f'made: {what} ({time.monotonic() - start:.0f} s)')
