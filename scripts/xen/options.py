# SPDX-License-Identifier: GPL-2.0-or-later
"""What the user asked of run-xen: NAME=VALUE over the environment."""

from dataclasses import dataclass
from pathlib import Path

from guest.arguments import build_folder, describe, number, program, read

MAX_VCPUS = 16
MAX_CPUS = 4
MAX_SECONDS = 600
NAMES = {
    'VCPUS': f'CPUs of the domU, 1 to {MAX_VCPUS} (4)',
    'CPUS': f'CPUs of the machine that Xen runs on, 1 to {MAX_CPUS} (1)',
    'RUNTIME': 'seconds for each measurement (3)',
    'BUILD': 'the build folder (build)',
    'QEMU': 'the binary: emulator and device model in one '
            '(BUILD/qemu-system-x86_64)',
    'EMULATOR': 'another binary for the emulator (QEMU)',
}


@dataclass
class Options:
    vcpus: int = 4
    cpus: int = 1
    runtime: int = 3
    build: Path = None
    qemu: Path = None
    emulator: Path = None
    check: bool = False     # only check the arguments
    colour: bool = None


def usage():
    return ('usage: scripts/run-xen [--check] [--no-colour] '
            '[NAME=VALUE ...]\n\n'
            'Boots a real Xen in QEMU, with a PV domU on a disk that QEMU '
            'serves from\ndom0, and reports which vCPU, event channel and '
            'IOThread each of its rings\nhas.\n--check: only say what is '
            'wrong with the arguments, if anything is.\n\n' + describe(NAMES))


def parse(arguments, environment):
    """Options from a command line and an environment, or UsageError."""
    options = Options()
    values, switches = read('scripts/run-xen', NAMES,
                            ('--check', '--no-colour'), arguments,
                            environment)
    options.check = '--check' in switches
    if '--no-colour' in switches:
        options.colour = False
    options.vcpus = number(values, 'VCPUS', 4, MAX_VCPUS)
    options.cpus = number(values, 'CPUS', 1, MAX_CPUS)
    options.runtime = number(values, 'RUNTIME', 3, MAX_SECONDS)
    options.build = build_folder(values)
    options.qemu = program('QEMU', values.get('QEMU')
                           or options.build / 'qemu-system-x86_64',
                           options.build, options.check)
    options.emulator = program('EMULATOR',
                               values.get('EMULATOR') or options.qemu,
                               options.build, options.check)
    return options
