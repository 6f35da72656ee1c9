# The base's own configure: its options, its run, its results.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import hashlib
import json
import os
import shutil
import subprocess
import tempfile

import firmware
import meson
from defaults import defaults
from term import Refusal, meson_error, run_logged, say

# Variables of the environment that the base's configure uses.
VARIABLES = ('AR', 'AS', 'CC', 'CFLAGS', 'CXX', 'CXXFLAGS', 'LD', 'LDFLAGS',
             'NM', 'OBJCOPY', 'PKG_CONFIG', 'PKG_CONFIG_LIBDIR',
             'PKG_CONFIG_PATH', 'STRIP')

# Files of the base that decide what configuring does.  Changes of any
# meson.build are seen by Ninja.
DECIDING = ('VERSION', 'configure', 'meson_options.txt', 'pythondeps.toml',
            'python/scripts/mkvenv.py', 'scripts/meson-buildoptions.sh')

TOOLS = ('qemu-img', 'qemu-io', 'qemu-nbd',
         'storage-daemon/qemu-storage-daemon', 'qemu-bridge-helper',
         'qemu-pr-helper')

STAMP = '.qemu-mq-configured'


def environment():
    """The variables to configure with, now and whenever it is repeated."""
    env = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    if 'CC' not in env and shutil.which('ccache'):
        env['CC'] = 'ccache cc'
    return env


def python_of(options):
    """The Python that the base is going to use."""
    for option in reversed(options):
        if option.startswith('--python='):
            return option.split('=', 1)[1]
    return os.path.realpath('/usr/bin/python3') \
        if os.access('/usr/bin/python3', os.X_OK) else 'python3'


def check_options(base, options):
    """
    Let the base's configure refuse what it does not know, and do no more:
    asked for help it reads all options first.
    """
    with tempfile.TemporaryDirectory(prefix='qemu-mq.') as folder:
        done = subprocess.run(
            ['sh', base / 'configure', *defaults(options, base), *options,
             '--help'],
            cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stdout + done.stderr).splitlines()
        errors = [line for line in lines if line.startswith('ERROR: ')]
        raise Refusal(errors[0][len('ERROR: '):] if errors
                      else "the base's configure refuses these options")


def help_text(base):
    with tempfile.TemporaryDirectory(prefix='qemu-mq.') as folder:
        done = subprocess.run(['sh', base / 'configure', '--help'],
                              cwd=folder, capture_output=True, text=True,
                              check=False)
    return done.stdout


def key_of(layout, options, env, modules):
    """A string that changes when the base has to be configured again."""
    total = hashlib.sha256(json.dumps(
        [defaults(options, layout.base), options, env, str(modules)],
        sort_keys=True).encode())
    for name in DECIDING:
        path = layout.base / name
        total.update(path.read_bytes() if path.exists() else b'')
    return total.hexdigest()


def configure(layout, options, env, cache, lock):
    """Configure layout.qemu unless it is as it should be."""
    python = python_of(options)
    modules = meson.find_meson(python, layout, cache, lock)
    key = key_of(layout, options, env, modules)
    stamp = layout.qemu / STAMP
    if stamp.is_file() and stamp.read_text() == key:
        return
    say("running the base's configure" + (' for stock' if layout.stock
                                          else '')
        + ', half a minute')
    fresh = not layout.qemu.exists()
    layout.qemu.mkdir(parents=True, exist_ok=True)
    stamp.unlink(missing_ok=True)
    done = False
    try:
        layout.log.unlink(missing_ok=True)
        done = run_logged([layout.base / 'configure', f'--python={python}',
                           *defaults(options, layout.base), *options],
                          layout.log, cwd=layout.qemu,
                          env=with_modules({**os.environ, **env}, modules))
    finally:
        if not done and fresh:
            shutil.rmtree(layout.qemu, ignore_errors=True)
    if not done:
        reason = meson_error(layout.log) or "the base's configure failed"
        raise Refusal(f'{reason} (all of it: {layout.log})')
    if modules:
        meson.remember(modules, layout.qemu)
    stamp.write_text(key)


def with_modules(env, modules):
    if modules:
        env['PYTHONPATH'] = str(modules)
    else:
        env.pop('PYTHONPATH', None)
    return env


def emulators(layout):
    """qemu-system-* as configured."""
    for line in (layout.qemu / 'config-host.mak').read_text().splitlines():
        if line.startswith('TARGET_DIRS='):
            targets = line.split('=', 1)[1].split()
            return [f'qemu-system-{target[:-len("-softmmu")]}'
                    for target in targets if target.endswith('-softmmu')]
    return []


def programs(layout):
    """What a plain 'make' builds, as Ninja's targets."""
    return emulators(layout) + list(TOOLS)


def link_programs(layout):
    """Link the programs and their firmware into the build folder."""
    for program in programs(layout):
        link = layout.home / os.path.basename(program)
        target = os.path.join('qemu', program)
        if not (link.is_symlink() and os.readlink(link) == target):
            link.unlink(missing_ok=True)
            link.symlink_to(target)
    firmware.link(layout)
