# SPDX-License-Identifier: GPL-2.0-or-later
"""The libvirt of another Debian, in a tree of its own.

The emulator is this machine's binary; the tree gets the libraries that it
lacks.  The daemon runs as an ordinary user there.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'debian'))
# pylint: disable=wrong-import-position
import tree                                         # noqa: E402

FIRMWARE = ('seabios', 'qemu-system-data', 'ipxe-qemu')
LIBVIRT = ('libvirt-clients', 'libvirt-daemon', 'libvirt-daemon-driver-qemu')
NOBODY = 65534
AS_NOBODY = ['setpriv', f'--reuid={NOBODY}', f'--regid={NOBODY}',
             '--clear-groups']


class Host:
    """@suite: trixie, or trixie-backports for the libvirt of its backports."""

    def __init__(self, suite):
        self.suite = suite

    def enter(self, folder, emulators, build):
        """Make the tree; the prefix with which Daemon runs programs there.

        @folder: for all that guests need, seen from inside and outside.
        @build: a folder that holds the emulators and the guest image.
        """
        other = tree.Tree(self.suite.partition('-')[0], folder / 'tree')
        other.install(*FIRMWARE)
        if self.suite != other.suite:
            other.add_suite(self.suite)
        other.install(*LIBVIRT, suite=self.suite)
        for emulator in emulators:
            other.lend_libraries(emulator, build)
        folder.chmod(0o755)
        # A home folder is closed to others, but there are none inside.
        (other.root / 'root').chmod(0o755)
        return other, [*other.enter(folder, build), *AS_NOBODY]

    @staticmethod
    def give(path):
        """Let the daemon have a folder."""
        for place in (path, *path.rglob('*')):
            os.chown(place, NOBODY, NOBODY)


def from_arguments():
    """The host that --suite=NAME on the command line asks for, or None."""
    for word in sys.argv[1:]:
        name, equals, suite = word.partition('=')
        if name == '--suite' and equals:
            sys.argv.remove(word)
            reason = tree.why_not()
            if reason:
                print(f'1..0 # SKIP {reason}')
                sys.exit(0)
            return Host(suite)
    return None
