# A base so small that preparing it takes no time, and a checkout to go with it.
#
# The fake configure knows two options, refuses the others in the base's words,
# and counts how often it was run for real.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(REPO / 'scripts/base'))

# pylint: disable=wrong-import-position
from defaults import defaults  # noqa: E402

CONFIGURE = r'''#!/bin/sh
for option; do
    case "$option" in
    --help) help=yes ;;
    --enable-thing|--python=*|--fail|--disable-*) ;;
    --enable-asan|--enable-ubsan|--enable-tsan) ;;
    DEFAULTS) ;;
    *) echo "ERROR: unknown option $option"; exit 1 ;;
    esac
done
if test "$help" = yes; then
    echo "  the options of the base"
    exit 0
fi
case " $* " in *" --fail "*) echo "ERROR: a library is missing"; exit 1 ;; esac
echo "$@" >> runs
echo '#define CONFIG_QEMU_DATADIR "/usr/local/share/qemu"' > config-host.h
echo 'TARGET_DIRS=x86_64-softmmu' > config-host.mak
'''

PATCH = '''why

--- a/meson.build
+++ b/meson.build
@@ -2,2 +2,3 @@
 line 2
+subdir('qemu-mq')
 line 3
'''


def write(path, text, mode=0o644):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


class FakeBase:
    """A tree that passes for the base."""

    def __init__(self, folder, version='10.0.99'):
        self.path = Path(folder)
        write(self.path / 'VERSION', f'{version}\n')
        write(self.path / 'configure',
              CONFIGURE.replace('DEFAULTS', '|'.join(defaults())), 0o755)
        write(self.path / 'meson.build', 'line 1\nline 2\nline 3\n')
        write(self.path / 'scripts/meson-buildoptions.sh',
              '--enable-avx2) --enable-avx512bw)\n')
        write(self.path / 'hw/old.c', 'old\n')
        write(self.path / 'hw/kept.c', 'kept\n')
        write(self.path / 'qapi/schema.json', '')
        # Spares the test a look for Meson.
        write(self.path / 'python/wheels/meson-9.whl', '')


class FakeCheckout:
    """This tree's programs with a lock and patches that fit the fake base."""

    def __init__(self, folder):
        self.path = Path(folder)
        self.path.mkdir()
        shutil.copy(REPO / 'configure', self.path)
        shutil.copytree(REPO / 'scripts/base', self.path / 'scripts/base',
                        ignore=shutil.ignore_patterns('__pycache__'))
        write(self.path / 'base.lock',
              'package qemu\nsuite trixie\nseries 10.0\n'
              f'replace {sha256("old" + chr(10))} hw/old.c\n')
        write(self.path / 'patches/series', '0001-hook.patch\n')
        write(self.path / 'patches/0001-hook.patch', PATCH)
        write(self.path / 'qapi/ours.json', '')
        self.build = self.path / 'build'

    def run(self, *argv, env=None):
        """(exit status, output, errors) of a program of the checkout."""
        env = {**os.environ, 'XDG_CACHE_HOME': str(self.path / 'cache'),
               **(env or {})}
        done = subprocess.run(argv, cwd=self.path, env=env, text=True,
                              capture_output=True, check=False)
        return done.returncode, done.stdout, done.stderr

    def configure(self, *options, env=None):
        return self.run('./configure', *options, env=env)

    def configured(self):
        """How often the base's configure has run."""
        runs = self.build / 'qemu/runs'
        return len(runs.read_text().splitlines()) if runs.exists() else 0
