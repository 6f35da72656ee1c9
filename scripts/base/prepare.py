# The prepared base: unpacked, checked, patched, this tree hooked in.
#
# It is made in another folder and then renamed, so that it is either complete
# or absent.  Files whose content has not changed keep their times, so that
# Ninja rebuilds only what is needed.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import collections
import filecmp
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from layout import REPO
from term import Refusal, last_line, run_logged, say

STAMP = '.qemu-mq-stamp'


def names_in_series(repo):
    lines = (repo / 'patches' / 'series').read_text().splitlines()
    return [line.strip() for line in lines
            if line.strip() and not line.startswith('#')]


def variant(repo, lock, name):
    """The patch of this name for the base of @lock; None if it needs none."""
    if name in lock.without:
        return None
    own = lock.path.parent / name
    if lock.path.parent != repo and own.exists():
        return own
    return repo / 'patches' / name


def own_patches(repo, lock):
    """Patches for the base of @lock alone, which come before all others."""
    if lock.path.parent == repo:
        return []
    names = set(names_in_series(repo))
    return [path for path in sorted(lock.path.parent.glob('*.patch'))
            if path.name not in names]


def series(repo, lock):
    """The patches in the order in which they apply."""
    found = [variant(repo, lock, name) for name in names_in_series(repo)]
    return own_patches(repo, lock) + [path for path in found if path]


def groups(repo):
    """{group: [patch, ...]}, as headlines "## NAME" divide the series."""
    found = collections.defaultdict(list)
    group = None
    for line in (repo / 'patches' / 'series').read_text().splitlines():
        if line.startswith('## '):
            group = found[line[3:].strip()]
        elif line.strip() and not line.startswith('#'):
            if group is None:
                raise Refusal(f'patches/series: {line} is in no group')
            group.append(repo / 'patches' / line.strip())
    return found


def stamp_of(source, lock, stock, repo=REPO):
    """A string that changes when the prepared base has to."""
    total = hashlib.sha256(source.identity().encode())
    if not stock:
        total.update(lock.path.read_bytes())
        for patch in series(repo, lock):
            try:
                total.update(patch.read_bytes())
            except FileNotFoundError:
                raise Refusal(f'patches/series names {patch.name}, '
                              'which is not there') from None
        for schema in schemas(repo):
            total.update(schema.name.encode())
    return total.hexdigest()


def schemas(repo):
    """Our QAPI modules; the generator wants them beside the base's."""
    return sorted((repo / 'qapi').glob('*.json'))


def apply_patch(base, path, name, log):
    """Apply the patch in file `path`, which the user knows as `name`."""
    log.unlink(missing_ok=True)
    if not run_logged(['patch', '-p1', '-F0', '-f', '-s', '-r', '-',
                       '--no-backup-if-mismatch', '-i', path], log, cwd=base):
        reason = last_line(log, "can't find", '1 out', 'Hunk',
                           'patch:') or 'see patch(1)'
        raise Refusal(f'{name} does not apply to the base ({reason})')


def apply_patches(base, log, lock, repo=REPO):
    for patch in series(repo, lock):
        apply_patch(base, patch, patch.name, log)


def hook_in(base, final, lock, repo=REPO):
    """Link this tree into the base, and remove the files that it replaces."""
    for name in lock.replaced:
        (base / name).unlink()
    (base / 'qemu-mq').symlink_to(os.path.relpath(repo, final))
    for schema in schemas(repo):
        link = base / 'qapi' / schema.name
        if link.exists():
            raise Refusal(f'the base has a qapi/{schema.name} of its own')
        link.symlink_to(os.path.join('..', 'qemu-mq', 'qapi', schema.name))


def keep_times(old, new):
    """Give files of `new` the times that they have in `old` if they are alike.

    A file that changed gets the present time, whatever its archive says: it
    has to be newer than what was built from it.
    """
    for folder, _folders, files in os.walk(new):
        before = os.path.join(old, os.path.relpath(folder, new))
        for name in files:
            path = os.path.join(folder, name)
            other = os.path.join(before, name)
            if os.path.islink(path):
                continue
            try:
                info = os.lstat(other)
                same = filecmp.cmp(path, other)
            except FileNotFoundError:
                same = False
            if same:
                os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
            else:
                os.utime(path)


def replace_folder(old, new):
    """Put folder `new` in the place of `old`."""
    if old.exists():
        keep_times(old, new)
        gone = Path(tempfile.mkdtemp(prefix='gone.', dir=old.parent))
        os.rename(old, gone / 'base')
        os.rename(new, old)
        shutil.rmtree(gone)
    else:
        os.rename(new, old)


def clear_leftovers(home):
    """Remove what an interrupted preparation left."""
    for pattern in ('base.tmp.*', 'gone.*'):
        for path in home.glob(pattern):
            shutil.rmtree(path, ignore_errors=True)


def prepare(layout, source, lock, check):
    """
    Have layout.base hold the prepared base; true if it had to be made.

    `check` is called with the tree before it takes its place.
    """
    stamp = stamp_of(source, lock, layout.stock)
    try:
        if (layout.base / STAMP).read_text() == stamp:
            return False
    except FileNotFoundError:
        pass
    layout.home.mkdir(parents=True, exist_ok=True)
    clear_leftovers(layout.home)
    say('preparing the untouched base' if layout.stock
        else 'preparing the base')
    aside = Path(tempfile.mkdtemp(prefix='base.tmp.', dir=layout.home))
    try:
        base = aside / 'base'
        source.unpack(base, aside / 'log')
        lock.check(base)
        if not layout.stock:
            apply_patches(base, aside / 'log', lock)
            hook_in(base, layout.base, lock)
        check(base)
        (base / STAMP).write_text(stamp)
        replace_folder(layout.base, base)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return True
