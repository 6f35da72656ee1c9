# SPDX-License-Identifier: GPL-2.0-or-later
"""What the user asked of run-xen: NAME=VALUE over the environment."""

import os
from dataclasses import dataclass
from pathlib import Path

from guest.errors import UsageError
from guest.options import BUILD, existing_file, number

MAX_VCPUS = 16
MAX_CPUS = 4
MAX_SECONDS = 600
NAMES = {
    'VCPUS': f'CPUs of the domU, 1 to {MAX_VCPUS} (4)',
    'CPUS': f'CPUs of the machine that Xen runs on, 1 to {MAX_CPUS} (1)',
    'RUNTIME': 'seconds for each measurement (3)',
    'QEMU': 'the binary: emulator and device model in one '
            '(build/qemu-system-x86_64)',
    'EMULATOR': 'another binary for the emulator (QEMU)',
}


@dataclass
class Options:
    vcpus: int = 4
    cpus: int = 1
    runtime: int = 3
    qemu: Path = BUILD / 'qemu-system-x86_64'
    emulator: Path = None
    colour: bool = None


def usage():
    names = '\n'.join(f'  {name:<9} {text}' for name, text in NAMES.items())
    return ('usage: scripts/run-xen [--no-colour] [NAME=VALUE ...]\n\n'
            'Boots a real Xen in QEMU, with a PV domU on a disk that QEMU '
            'serves from dom0, and\nreports which vCPU, event channel and '
            'IOThread each of its rings has.\n\n' + names)


def parse(arguments, environment):
    """Options from a command line and an environment, or UsageError."""
    options = Options()
    values = {name: environment[name] for name in NAMES
              if environment.get(name)}
    for argument in arguments:
        name, equals, value = argument.partition('=')
        if argument == '--no-colour':
            options.colour = False
        elif not equals or name not in NAMES:
            raise UsageError(f"unknown argument '{argument}' "
                             '(scripts/run-xen --help lists them)')
        else:
            values[name] = value
    options.vcpus = number(values, 'VCPUS', 4, MAX_VCPUS)
    options.cpus = number(values, 'CPUS', 1, MAX_CPUS)
    options.runtime = number(values, 'RUNTIME', 3, MAX_SECONDS)
    options.qemu = program('QEMU', values.get('QEMU', options.qemu),
                           'build it with make')
    options.emulator = program('EMULATOR',
                               values.get('EMULATOR') or options.qemu)
    return options


def program(name, value, hint=None):
    path = existing_file(name, value, hint)
    if not os.access(path, os.X_OK):
        raise UsageError(f'{name}={path}: not executable')
    return path
