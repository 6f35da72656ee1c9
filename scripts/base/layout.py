# The places of files and folders.
#
#     BUILD/                  default: build
#         state.json          options of the last configure
#         base/               the base, prepared; base/qemu-mq is this tree
#         qemu/               the base's build folder
#         qemu-system-x86_64  and the other programs: links into qemu/
#         tools/              Meson, where the system has none
#         stock/              the same again for the untouched base
#
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import re
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent.parent


class Layout:
    """One build: of our tree, or of the untouched base beside it."""

    def __init__(self, build, stock=False):
        self.build = Path(build)
        self.stock = stock
        self.home = self.build / 'stock' if stock else self.build
        self.base = self.home / 'base'
        self.qemu = self.home / 'qemu'
        self.state = self.build / 'state.json'
        self.tools = self.build / 'tools'
        # Not in the build folder, which goes if configuring fails.
        self.log = cache_folder() / 'configure.log'

    def configured(self, name):
        """The strings that config-host.h defines a name as."""
        text = (self.qemu / 'config-host.h').read_text()
        match = re.search(rf'^#define {name} (.*)', text, re.M)
        return re.findall(r'"([^"]*)"', match[1]) if match else []


def cache_folder():
    """Downloads live here, shared by all build folders of a user."""
    root = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(root) / 'qemu-mq'
