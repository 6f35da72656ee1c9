# Meson for the base's configure.
#
# The base needs Meson 1.5 as a module of the Python that configures it.  QEMU's
# tarballs have it, Debian's source package does not.  If neither the base nor
# the system's Python has it, Debian's package is unpacked beside the build and
# made known to the base's Python environment.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import debian
from term import Refusal, run_logged

OLDEST = (1, 5)


def python_meson(python, path=None):
    """Does that Python find a Meson that is new enough?"""
    env = dict(os.environ)
    if path:
        env['PYTHONPATH'] = str(path)
    probe = ('import sys; from mesonbuild.coredata import version as v; '
             f'sys.exit(tuple(map(int, v.split(".")[:2])) < {OLDEST})')
    return subprocess.run([python, '-c', probe], env=env, check=False,
                          stderr=subprocess.DEVNULL).returncode == 0


def find_meson(python, layout, cache, lock):
    """
    A folder to add to that Python's path, None if it needs none.
    """
    if any(layout.base.glob('python/wheels/meson-*.whl')) \
            or python_meson(python):
        return None
    modules = layout.tools / 'usr/lib/python3/dist-packages'
    if not python_meson(python, modules):
        if not shutil.which('apt-get'):
            raise Refusal(f'{python} has no Meson 1.5 or newer')
        unpack(debian.fetch_meson(cache, lock, others(layout.base)),
               layout.tools)
    return modules


def others(base):
    """Packages that the base needs as soon as it is configured."""
    group = re.search(r'^\[meson\]\n(?:(?!\[).*\n)*',
                      (base / 'pythondeps.toml').read_text(), re.M)
    return ['python3-pycotap'] if group and 'pycotap =' in group[0] else []


def unpack(packages, tools):
    tools.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix='tools.tmp.', dir=tools.parent))
    try:
        for package in packages:
            if not run_logged(['dpkg-deb', '-x', package, aside / 'tools'],
                              aside / 'log'):
                raise Refusal(f'{package} cannot be unpacked')
        shutil.rmtree(tools, ignore_errors=True)
        os.rename(aside / 'tools', tools)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def remember(modules, qemu):
    """
    Let the base's Python environment find the modules from now on.

    Ninja runs Meson again when a meson.build changes, and our environment
    variables are not set then.
    """
    for site in qemu.glob('pyvenv/lib/python3*/site-packages'):
        (site / 'qemu-mq-meson.pth').write_text(f'{modules}\n')
