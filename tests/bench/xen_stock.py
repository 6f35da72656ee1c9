# SPDX-License-Identifier: GPL-2.0-or-later
"""The untouched base's Xen disk behind our stand-in for Xen.

The base has no stand-in, so that of hw/xen is compiled as the base's own Xen
bus is, and linked with the objects of the stock build.  Nothing else changes.
"""

import glob
import json
import os
import shlex
import shutil
import subprocess

from qemu import BenchError

REPO = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
STANDIN = os.path.join(REPO, 'hw/xen')
GROUP = 'qemu_mq_hw_xen'
LIKE = 'libcommon.a.p/hw_xen_xen-bus.c.o'


def run(command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True,
                          stderr=subprocess.PIPE, check=False, **options)
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines()
        errors = [line for line in words if 'error:' in line] + words[-1:]
        raise BenchError(f'{os.path.basename(command[0])}: '
                         + (errors[0] if errors else 'failed'))
    return done.stdout


def build(stock, output):
    """Returns the program, made from the build that @stock belongs to."""
    folder = os.path.dirname(os.path.realpath(stock))
    program = os.path.join(output, 'qemu-system-x86_64-stock-xen')
    sources = sorted(glob.glob(f'{STANDIN}/xen-standin*.c'))
    newest = max(map(os.path.getmtime, [stock, *sources]))
    if os.path.exists(program) and os.path.getmtime(program) >= newest:
        return program
    ninja = shutil.which('ninja')
    if ninja is None:
        raise BenchError('ninja is missing: install the Debian package '
                         '"ninja-build"')
    compile_like = shlex.split(run(
        [ninja, '-t', 'commands', '-s', LIKE], cwd=folder).splitlines()[-1])
    parts = os.path.join(output, 'stock-xen')
    os.makedirs(os.path.join(parts, 'trace'), exist_ok=True)
    base = os.path.join(folder, compile_like[-1].rsplit('/hw/xen/', 1)[0])
    sources.append(make_trace(base, parts))
    objects = [compile_one(compile_like, source, folder, parts)
               for source in sources]
    link(ninja, folder, program, objects)
    return program


def make_trace(base, parts):
    """The stand-in's trace events, as the base's build would make them."""
    name = os.path.join(parts, 'trace', f'trace-{GROUP}')
    for suffix in ('h', 'c'):
        run(['python3', os.path.join(base, 'scripts/tracetool.py'),
             '--backend=log', f'--group={GROUP}', f'--format={suffix}',
             os.path.join(STANDIN, 'trace-events'), f'{name}.{suffix}'])
    return f'{name}.c'


def compile_one(compile_like, source, folder, parts):
    """Compile @source as @compile_like does, in the stock build's folder."""
    target = os.path.join(parts, os.path.basename(source) + '.o')
    command = [*compile_like[:-1], source]
    for i, word in enumerate(command):
        if word == '-o':
            command[i + 1] = target
        elif word in ('-MF', '-MQ'):
            command[i + 1] = target + '.d'
    # Our headers come last: where both trees have one, it is the base's.
    run([*command, '-DXEN_STANDIN_FOR_STOCK', '-iquote', parts, '-idirafter',
         os.path.join(REPO, 'include')], cwd=folder)
    return target


def link(ninja, folder, program, objects):
    """The stock program's link command, with more objects."""
    database = json.loads(run(
        [ninja, '-t', 'compdb', '-x', 'c_LINKER_RSP'], cwd=folder))
    for entry in database:
        if entry['output'] == 'qemu-system-x86_64':
            command = shlex.split(entry['command'])
            command[command.index('-o') + 1] = program
            run([*command, *objects], cwd=folder)
            return
    raise BenchError(f'{folder}: no rule for qemu-system-x86_64')
