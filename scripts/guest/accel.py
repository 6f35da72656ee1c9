# SPDX-License-Identifier: GPL-2.0-or-later
"""Which accelerator to use: KVM where it works, TCG elsewhere.

/dev/kvm alone proves nothing: under some hypervisors it is there, and an
ordinary guest fails in its first instructions, or has them emulated a
thousand times too slowly.  So the CPU must have the extension for it, and
a boot sector is tried that does what every kernel does first, from real
mode to long mode, spends some instructions there, and tells QEMU to exit.
"""

import os
import subprocess
import tempfile
import time
from dataclasses import dataclass

from .errors import RunError

PROBE_SECONDS = 5
ANSWER = 0x2a

BOOT_SECTOR = b''.join(bytes.fromhex(code) for code in (
    'fa',                           # cli
    '31c0 8ed8 8ec0',               # ds = es = 0
    'bf0010 6631c0 b9000c 66f3ab',  # clear 3 pages at 0x1000
    '66c7060010 03200000',          # page tables at 0x1000, 0x2000 and
    '66c7060020 03300000',          # 0x3000: the first 2 MiB as they are
    '66c7060030 83000000',
    '66b800100000 0f22d8',          # cr3 = 0x1000
    '66b820000000 0f22e0',          # cr4 = PAE
    '66b9800000c0 0f32',            # EFER |= long mode
    '660d00010000 0f30',
    '0f0116907c',                   # lgdt 0x7c90
    '66b801000080 0f22c0',          # cr0 = paging, protection
    'ea637c0800',                   # jump to the 64-bit segment
    'b900000002 ffc9 75fc',         # 2^25 turns: no time, unless emulated
    f'b0{ANSWER:02x} e6f4',         # out 0xf4: QEMU exits
    'f4 ebfd',                      # should it not: halt
)).ljust(0x80, b'\0') + bytes.fromhex(
    '0000000000000000 00000000009a2000'     # 0x7c80: none, 64-bit code
    '0f00 807c0000'                         # 0x7c90: limit and base of it
).ljust(510 - 0x80, b'\0') + b'\x55\xaa'


@dataclass
class Accelerator:
    name: str       # kvm or tcg
    reason: str     # for the report


def choose(wanted, qemu):
    """The accelerator to use for 'auto', 'kvm' or 'tcg'."""
    if wanted == 'tcg':
        return Accelerator('tcg', 'as asked')
    if wanted == 'kvm':
        problem = why_not_kvm(qemu)
        if problem:
            raise RunError(f'ACCEL=kvm: {problem}')
        return Accelerator('kvm', 'as asked')
    problem = why_not_kvm(qemu)
    if problem:
        return Accelerator('tcg', f'no KVM: {problem}')
    return Accelerator('kvm', 'a test guest ran in it')


def why_not_kvm(qemu):
    """None if KVM works, else what is wrong."""
    return why_no_kvm_here() or probe(qemu, ['-accel', 'kvm', '-cpu', 'host'])


def why_no_kvm_here():
    """What is wrong with this machine's KVM, as far as a look tells."""
    if not os.path.exists('/dev/kvm'):
        return '/dev/kvm is not there'
    if not os.access('/dev/kvm', os.R_OK | os.W_OK):
        return 'no permission for /dev/kvm'
    if not cpu_flags() & {'vmx', 'svm'}:
        return '/dev/kvm is there, but the CPU shows neither VMX nor SVM'
    return None


def cpu_flags():
    with open('/proc/cpuinfo', encoding='utf-8') as file:
        for line in file:
            if line.startswith('flags'):
                return set(line.split())
    return set()


def probe(qemu, arguments, seconds=PROBE_SECONDS):
    """Boot the boot sector; None if it ran, else what went wrong.

    It boots on a pc machine, whatever the guest's machine is, because the
    firmware finds the IDE disk at once.
    """
    with tempfile.NamedTemporaryFile(suffix='.boot') as disk, \
            tempfile.TemporaryFile() as errors:
        disk.write(BOOT_SECTOR)
        disk.flush()
        process = subprocess.Popen(
            [os.fspath(qemu), '-machine', 'pc', '-nodefaults',
             '-no-user-config', '-display', 'none', '-m', '64',
             '-drive', f'file={disk.name},format=raw,snapshot=on',
             '-device', 'isa-debug-exit,iobase=0xf4', *arguments],
            stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)
        try:
            return outcome(process, errors, seconds)
        finally:
            process.kill()
            process.wait()


def outcome(process, errors, seconds):
    """Wait for the answer, the end of QEMU, or a failure of KVM."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            status = process.wait(0.05)
        except subprocess.TimeoutExpired:
            status = None
        errors.seek(0)
        said = errors.read().decode(errors='replace').splitlines()
        if status == ANSWER << 1 | 1:
            return None
        if status is not None:
            return said[-1] if said else f'QEMU ended with status {status}'
        # After an internal error QEMU stops the guest and does not end.
        if any('KVM internal error' in line for line in said):
            return 'a test guest fails in it (internal error)'
    return f'a test guest takes more than {seconds} s'
