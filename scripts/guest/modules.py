# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel modules in the order in which insmod takes them.

Debian's kernel package carries no modules.dep (its installation makes
one), so the dependencies come from the modules themselves.
"""

import gzip
import lzma
import re

from .errors import RunError

SUFFIXES = ('.ko', '.ko.xz', '.ko.gz')


class Modules:
    """The modules of one kernel, below its lib/modules/RELEASE folder."""

    def __init__(self, folder):
        self.files = {}
        for path in folder.glob('kernel/**/*.ko*'):
            if path.name.endswith(SUFFIXES):
                self.files[canonical(path.name.split('.')[0])] = path
        builtin = (folder / 'modules.builtin').read_text().splitlines()
        self.builtin = {canonical(re.sub(r'.*/|\.ko$', '', line))
                        for line in builtin}

    def in_order(self, wanted, optional=()):
        """[(name, bytes)] of wanted and all they need, without built-in ones.

        Names in optional are of some kernels only.
        """
        order = {}
        for name in optional:
            if canonical(name) in self.files:
                self._visit(canonical(name), order)
        for name in wanted:
            self._visit(canonical(name), order)
        return list(order.items())

    def _visit(self, name, order):
        if name in order or name in self.builtin:
            return
        if name not in self.files:
            raise RunError(f'the guest kernel has no module {name}')
        data = contents(self.files[name])
        for needed in dependencies(data):
            self._visit(needed, order)
        order[name] = data


def canonical(name):
    return name.replace('-', '_')


def contents(path):
    data = path.read_bytes()
    if path.suffix == '.xz':
        return lzma.decompress(data)
    return gzip.decompress(data) if path.suffix == '.gz' else data


def dependencies(module):
    """Names in the .modinfo entry that says what must be loaded before."""
    match = re.search(rb'(?:^|\0)depends=([^\0]*)\0', module)
    names = match[1].split(b',') if match else []
    return [canonical(name.decode()) for name in names if name]
