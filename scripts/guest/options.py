# SPDX-License-Identifier: GPL-2.0-or-later
"""What the user asked for: NAME=VALUE arguments over the environment.

make exports the variables of its command line, so `make run QUEUES=8`
and `scripts/run QUEUES=8` arrive here alike.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

from .accel import why_no_kvm_here
from .arguments import (build_folder, describe, existing_file, number,
                        program, read)
from .errors import RunError, UsageError

MAX_QUEUES = 1023       # VIRTIO_QUEUE_MAX is 1024, MSI-X takes one more
MAX_IOTHREADS = 64
MAX_VCPUS = 255         # above it x2APIC and an IOMMU are needed
MAX_AUTO_VCPUS = 16     # how far QUEUES alone raises the vCPUs
MAX_SECONDS = 600
ACCELERATORS = ('auto', 'kvm', 'tcg')
SWITCHES = ('--shell', '--check', '--no-colour')
NAMES = {
    'QUEUES': f'queues of the disk, 1 to {MAX_QUEUES} (4)',
    'IOTHREADS': 'IOThreads that serve them, at most QUEUES (2)',
    'VCPUS': f'CPUs of the guest, 1 to {MAX_VCPUS} (4, or QUEUES up to '
             f'{MAX_AUTO_VCPUS})',
    'IMAGE': 'disk image to use; it is only read, writes go to a '
             'temporary overlay',
    'FORMAT': 'format of IMAGE, if it must not be guessed',
    'ACCEL': 'kvm, tcg or auto (auto: KVM where it works)',
    'MACHINE': 'machine type (q35)',
    'BUILD': 'the build folder (build)',
    'QEMU': 'the binary (BUILD/qemu-system-x86_64)',
    'RUNTIME': 'seconds for each measurement (3)',
}


@dataclass
class Options:
    queues: int = 4
    iothreads: int = 2
    vcpus: int = 4
    image: Path = None
    format: str = None
    accel: str = 'auto'
    machine: str = 'q35'
    build: Path = None
    qemu: Path = None
    runtime: int = 3
    shell: bool = False
    check: bool = False     # only check the arguments
    colour: bool = None
    notes: list = field(default_factory=list)


def usage():
    return ('usage: scripts/run [--shell | --check] [--no-colour] '
            '[NAME=VALUE ...]\n\n'
            'Boots a Linux guest on a virtio disk with several queues, runs '
            'verified I/O\non it and reports which CPU, interrupt and '
            'IOThread serves each queue.\n--shell: an interactive guest '
            'instead (Ctrl-A X ends it).\n--check: only say what is wrong '
            'with the arguments, if anything is.\n\n' + describe(NAMES))


def parse(arguments, environment):
    """Options from a command line and an environment, or UsageError."""
    options = Options()
    values, switches = read('scripts/run', NAMES, SWITCHES, arguments,
                            environment)
    options.shell = '--shell' in switches
    options.check = '--check' in switches
    if '--no-colour' in switches:
        options.colour = False
    apply_numbers(options, values)
    apply_names(options, values)
    return options


def apply_numbers(options, values):
    options.queues = number(values, 'QUEUES', 4, MAX_QUEUES)
    default = min(2, options.queues)
    options.iothreads = number(values, 'IOTHREADS', default, MAX_IOTHREADS)
    if options.iothreads > options.queues:
        raise UsageError(f'IOTHREADS={options.iothreads} is more than '
                         f'QUEUES={options.queues}: an IOThread without a '
                         'queue has nothing to do')
    default = max(4, min(options.queues, MAX_AUTO_VCPUS))
    options.vcpus = number(values, 'VCPUS', default, MAX_VCPUS)
    if 'VCPUS' not in values and options.vcpus > 4:
        options.notes.append(f'{options.vcpus} vCPUs instead of 4, for '
                             f'{options.queues} queues (VCPUS= says '
                             'otherwise)')
    options.runtime = number(values, 'RUNTIME', 3, MAX_SECONDS)


def apply_names(options, values):
    options.accel = values.get('ACCEL', 'auto')
    if options.accel not in ACCELERATORS:
        raise UsageError(f"ACCEL={options.accel}: not an accelerator, use "
                         + ', '.join(ACCELERATORS))
    if options.accel == 'kvm' and options.check and why_no_kvm_here():
        raise RunError(f'ACCEL=kvm: {why_no_kvm_here()}')
    options.machine = values.get('MACHINE', options.machine)
    options.format = values.get('FORMAT')
    if options.format and 'IMAGE' not in values:
        raise UsageError('FORMAT= says what IMAGE= is, and there is no IMAGE=')
    if 'IMAGE' in values:
        options.image = existing_file('IMAGE', values['IMAGE'])
        if not os.access(options.image, os.R_OK):
            raise UsageError(f'IMAGE={options.image}: no permission to read '
                             'it')
    options.build = build_folder(values)
    options.qemu = program('QEMU', values.get('QEMU')
                           or options.build / 'qemu-system-x86_64',
                           options.build, options.check)
