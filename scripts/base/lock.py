# base.lock: which base this tree fits.
#
#     package qemu                  Debian's source package
#     suite trixie                  where it is taken from
#     series 10.0                   the first two numbers of its version
#     replace SHA256 PATH           a base file that ours stands in for
#     without PATCH                 a patch of patches/series that this base
#                                   does without
#
# A replaced file is absent from the prepared base.  The checksum makes sure
# that nobody misses a fix that a later base makes in this file.  A path may
# have several lines, one for each content that has been reviewed.
#
# patches/SERIES/ is for another base.  It has a base.lock of its own, and
# variants of the patches that do not fit this base, under the same names.  A
# patch there that patches/series does not name comes before all others.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import hashlib
import re
from pathlib import Path

from term import Refusal


class BaseLock:
    def __init__(self, path):
        self.path = Path(path)
        self.words = {}
        self.replaced = {}
        self.without = set()
        for number, line in enumerate(self.path.read_text().splitlines(), 1):
            fields = line.split('#')[0].split()
            if not fields:
                continue
            if fields[0] == 'replace' and len(fields) == 3:
                self.replaced.setdefault(fields[2], set()).add(fields[1])
            elif fields[0] == 'without' and len(fields) == 2:
                self.without.add(fields[1])
            elif fields[0] in ('package', 'suite', 'series') \
                    and len(fields) == 2:
                self.words[fields[0]] = fields[1]
            else:
                raise Refusal(f'{path}:{number}: cannot read this line')
        for word in ('package', 'suite', 'series'):
            if word not in self.words:
                raise Refusal(f'{path}: no line "{word}"')

    def fits_version(self, version):
        """True for 10.0.3, 10.0.13 and the like when the series is 10.0."""
        series = re.escape(self.words['series'])
        return re.fullmatch(rf'{series}(\.\d+)?', version) is not None

    def check(self, base):
        """Refuse a tree of another series or with other replaced files."""
        base = Path(base)
        for name in ('VERSION', 'configure', 'meson.build'):
            if not (base / name).is_file():
                raise Refusal('the base is no QEMU source tree: '
                              f'{name} is missing')
        version = (base / 'VERSION').read_text().strip()
        if not self.fits_version(version):
            raise Refusal(f'the base is QEMU {version}, but base.lock asks '
                          f'for {self.words["series"]}')
        wrong = [name for name, sums in sorted(self.replaced.items())
                 if file_sum(base / name) not in sums]
        if wrong:
            raise Refusal('these files of the base differ from base.lock: '
                          + ' '.join(wrong))

    def update(self, base):
        """Rewrite every 'replace' line with the sum of the base's file."""
        lines = []
        seen = set()
        for line in self.path.read_text().splitlines():
            fields = line.split()
            if fields[:1] == ['replace']:
                name = fields[-1]
                if name in seen:
                    continue
                seen.add(name)
                total = file_sum(Path(base) / name)
                if total is None:
                    raise Refusal(f'{self.path}: the base has no {name}')
                line = f'replace {total} {name}'
            lines.append(line)
        self.path.write_text('\n'.join(lines) + '\n')


def lock_for(repo, version):
    """The lock of a base: base.lock, or that of patches/SERIES/."""
    lock = BaseLock(repo / 'base.lock')
    if version and not lock.fits_version(version):
        for path in sorted((repo / 'patches').glob('*/base.lock')):
            other = BaseLock(path)
            if other.fits_version(version):
                return other
    return lock


def file_sum(path):
    """SHA-256 of a file's content in hexadecimal, None if there is none."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return None
