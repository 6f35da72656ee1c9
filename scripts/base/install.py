# make install and make uninstall.
#
# BUILD/installed lists the files that were installed at each place;
# uninstalling removes these files.  Both put DESTDIR before the paths.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import gzip
import os
import shutil
import subprocess
from pathlib import Path
from urllib.parse import quote

import check
import firmware
import manuals
import ninja
import qemu
from layout import REPO
from term import Refusal, say

LICENCES = {'COPYING': REPO, 'LICENSE': None}


def place(layout):
    """DESTDIR, the prefix within it, and the list of what was put there."""
    destdir = os.environ.get('DESTDIR', '')
    prefix, = layout.configured('CONFIG_PREFIX')
    root = Path(destdir + prefix)
    return destdir, root, \
        layout.home / 'installed' / quote(str(root), safe='')


def install(layout):
    """Install for the targets that were configured."""
    destdir, root, listed = place(layout)
    # Meson alone would build the tests too.
    installed = [name for target in check.read_json(layout, 'targets')
                 if target['installed']
                 for name in check.outputs(layout, target)]
    if not ninja.build(layout.qemu, installed):
        raise SystemExit(1)
    done = subprocess.run([layout.qemu / 'pyvenv/bin/meson', 'install',
                           '--no-rebuild', '--quiet', '--strip'],
                          cwd=layout.qemu, check=False)
    if done.returncode:
        raise Refusal(f'installing to {root} failed')
    log = layout.qemu / 'meson-logs/install-log.txt'
    files = [line for line in log.read_text().splitlines()
             if line.startswith('/')]
    files += map(str, firmware.install(layout, destdir,
                                       qemu.emulators(layout)))
    files += map(str, install_texts(layout, root))
    listed.parent.mkdir(exist_ok=True)
    listed.write_text(''.join(f'{name}\n' for name in sorted(set(files))))
    say(f'installed {len(set(files))} files to {root}; '
        f'the programs are in {root}/bin')


def install_texts(layout, root):
    """Licences and manual pages; the files that are there now."""
    documents = root / 'share/doc/qemu-mq'
    documents.mkdir(parents=True, exist_ok=True)
    for name, folder in LICENCES.items():
        shutil.copyfile((folder or layout.base) / name, documents / name)
        yield documents / name
    for program, page in manuals.pages(layout, qemu.programs(layout)).items():
        name = os.path.basename(program)
        section = page.suffix[1:]
        target = root / f'share/man/man{section}/{name}.{section}.gz'
        if target.with_suffix('').exists():
            continue            # from --enable-docs
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(gzip.compress(
            manuals.renamed(page, name).encode(), 9, mtime=0))
        yield target


def uninstall(layout):
    """Remove what 'make install' has listed, and folders that are empty."""
    _destdir, root, listed = place(layout)
    try:
        files = listed.read_text().splitlines()
    except FileNotFoundError:
        raise Refusal(f'nothing was installed to {root} from {layout.home}') \
            from None
    for name in files:
        path = Path(name)
        if path.is_dir() and not path.is_symlink():
            continue
        path.unlink(missing_ok=True)
    for folder in sorted({parent for name in files
                          for parent in Path(name).parents
                          if root in parent.parents},
                         key=lambda path: len(path.parts), reverse=True):
        try:
            folder.rmdir()
        except OSError:
            continue            # somebody else's files are there
    listed.unlink()
    say(f'removed {len(files)} files from {root}')
