# Manual pages, made by Sphinx from the base's documentation.
#
# Only installing and packaging need them, so that other builds need neither
# Sphinx nor the minute that it takes.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import re
import shutil

import prepare
from layout import REPO
from term import Refusal, run_logged, say

OURS = REPO / 'docs/man'

# QEMU's pages by program; all emulators share one.  Programs without a page in
# QEMU have one here.
EMULATOR = 'qemu.1'
PAGES = {
    'qemu-img': 'qemu-img.1',
    'qemu-io': 'qemu-io.1',
    'qemu-nbd': 'qemu-nbd.8',
    'qemu-pr-helper': 'qemu-pr-helper.8',
    'qemu-storage-daemon': 'qemu-storage-daemon.1',
}


def pages(layout, programs):
    """Have Sphinx make QEMU's pages; {program: file}, fewer without Sphinx."""
    folder = layout.home / 'man'
    base = (layout.base / prepare.STAMP).read_text()
    stamp = folder / 'made'
    if not stamp.exists() or stamp.read_text() != base:
        shutil.rmtree(folder, ignore_errors=True)
        if make(layout, folder):
            stamp.write_text(base)
    found = {}
    for program in programs:
        name = os.path.basename(program)
        page = EMULATOR if name.startswith('qemu-system-') \
            else PAGES.get(name, name)
        for place in (OURS, folder):
            if (place / page).is_file():
                found[program] = place / page
    return found


def make(layout, folder):
    """Run Sphinx; false if there is none."""
    sphinx = shutil.which('sphinx-build', path='/usr/bin:' +
                          os.environ.get('PATH', ''))
    if not sphinx:
        say('no sphinx-build, so no manual pages of QEMU; Debian has it in '
            'python3-sphinx, and python3-sphinx-rtd-theme is needed')
        return False
    say("making QEMU's manual pages, a minute")
    log = folder / 'log'
    if not run_logged([sphinx, '-q', '-b', 'man', '-d', folder / 'doctrees',
                       layout.base / 'docs', folder], log):
        raise Refusal(f'the manual pages cannot be made, see {log}')
    shutil.rmtree(folder / 'doctrees', ignore_errors=True)
    return True


def renamed(page, program):
    """A page's text under another name, as 'man' looks it up."""
    text = page.read_text(encoding='utf-8')
    return re.sub(r'^\.TH "[^"]*"(.*)$',
                  lambda match: f'.TH "{program.upper()}"{match[1]}\n.ad l',
                  text, count=1, flags=re.M)
