# SPDX-License-Identifier: GPL-2.0-or-later
"""The whole run: seed after seed, step after step, and what came of it."""

import os
import shutil
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / 'scripts'))

# pylint: disable=wrong-import-position
import steps_errors  # noqa: E402
import steps_images  # noqa: E402
import steps_life  # noqa: E402
import steps_queues  # noqa: E402
import xen_steps  # noqa: E402
from guest import arguments, errors  # noqa: E402
from guest.errors import RunError, UsageError  # noqa: E402
from rig import Rig  # noqa: E402
from steps import Chooser  # noqa: E402
from xen_rig import XenRig  # noqa: E402

ROUND = 100         # steps for a seed
STAY = 4            # one seed of so many keeps its process
# What the guest is: the rig that it is in, and the steps.
GUESTS = {
    'virtio': (Rig, steps_queues.STEPS + steps_images.STEPS
               + steps_errors.STEPS + steps_life.STEPS),
    'xen': (XenRig, xen_steps.STEPS),
}
NAMES = {
    'HOURS': 'how long, also 0.1; without it one seed is run',
    'SEED': f'the first seed; each is good for {ROUND} steps (by chance)',
    'GUEST': 'virtio (a Linux guest of QEMU) or xen (a domU); virtio',
    'STEPS': f'steps for a seed ({ROUND})',
    'ACCEL': 'kvm, tcg or auto (auto: KVM where it works)',
    'BUILD': 'the build folder (build)',
    'QEMU': 'the binary (BUILD/qemu-system-x86_64)',
    'STOCK': 'the binary of the untouched base (BUILD/stock/qemu-...)',
    'LOAD': "the load's program (BUILD/qemu/qemu-mq/tests/soak/soak-load)",
}


@dataclass
class Options:
    build: Path
    qemu: Path
    load: Path
    stock: Path         # None: there is none
    accel: str
    guest: str          # of GUESTS
    seed: int
    seconds: float      # None: one seed
    steps: int


@dataclass
class Totals:
    seeds: int = 0
    steps: int = 0
    bytes: int = 0
    seconds: float = 0

    def __post_init__(self):
        self.kinds = Counter()
        self.most = Counter()


class SoakError(RunError):
    """A step failed; the message names it."""


def usage():
    return ('usage: tests/soak/run [--check] [NAME=VALUE ...]\n\n'
            'Does to a guest under verified load what an administrator can '
            'do, and compares\nits data after each step.\n\n'
            + arguments.describe(NAMES))


def parse(words, environment):
    values, given = arguments.read('tests/soak/run', NAMES, ('--check',),
                                   words, environment)
    checking = '--check' in given
    build = arguments.build_folder(values)
    hours = values.get('HOURS')
    try:
        seconds = float(hours) * 3600 if hours else None
        if seconds is not None and not 0 < seconds < 1e7:
            raise ValueError
    except ValueError:
        raise UsageError(f'HOURS={hours}: must be a number above 0') from None
    if values.get('ACCEL', 'auto') not in ('auto', 'kvm', 'tcg'):
        raise UsageError(f"ACCEL={values['ACCEL']}: not an accelerator")
    guest = values.get('GUEST', 'virtio')
    if guest not in GUESTS:
        raise UsageError(f'GUEST={guest}: must be '
                         + ' or '.join(GUESTS))

    def program(name, default):
        return arguments.program(name, values.get(name) or build / default,
                                 build, checking)

    stock = build / 'stock/qemu-system-x86_64'
    if 'STOCK' in values or checking or stock.exists():
        stock = program('STOCK', 'stock/qemu-system-x86_64')
    else:
        stock = None
    seed = arguments.number(values, 'SEED', Random().randint(1, 999999),
                            1 << 31)
    return Options(build, program('QEMU', 'qemu-system-x86_64'),
                   program('LOAD', 'qemu/qemu-mq/tests/soak/soak-load'),
                   stock, values.get('ACCEL', 'auto'), guest, seed, seconds,
                   arguments.number(values, 'STEPS', ROUND, 1 << 31)), checking


def all_steps(guest, stay):
    return [step for step in GUESTS[guest][1]
            if not (stay and step.ends_process)]


def run_seed(options, seed, deadline, folder, say, totals):
    """One seed, from new disks to the end of its steps or of the time."""
    rig = GUESTS[options.guest][0](options, folder, say)
    shape = rig.shape(seed)
    stay = seed % STAY == 0
    say(f'seed {seed}: {shape}' + (', one process' if stay else ''))
    chooser = Chooser(seed, all_steps(options.guest, stay))
    place = 'the start'
    try:
        rig.make_disks(**shape)
        rig.boot()
        rig.check()
        for number in range(1, options.steps + 1):
            if time.monotonic() >= deadline:
                break
            step, words = chooser.next(rig)
            place = f'step {number}, {step.name} {words}'
            started = time.monotonic()
            step.act(rig, **words)
            acted = time.monotonic()
            rig.check()
            totals.steps += 1
            totals.kinds[step.name] += 1
            say(f'seed {seed}, {place}: {acted - started:.1f} s, compared in '
                f'{time.monotonic() - acted:.1f} s')
        place = 'the end'
        rig.finish()
    except (errors.RunError, OSError, TimeoutError) as error:
        raise explain(rig, seed, place, error) from error
    finally:
        rig.kill()
        totals.bytes += rig.bytes_compared
        totals.most |= rig.watch.most
    totals.seeds += 1


def explain(rig, seed, place, error):
    details = list(getattr(error, 'details', ())) + rig.state()
    if rig.side:
        details += rig.side.failure('').details
    return SoakError(f'seed {seed}, {place}: {error}', details)


def run(options, say):
    """Seed after seed; Totals, or SoakError with the folder left to look at."""
    totals = Totals()
    started = time.monotonic()
    deadline = started + options.seconds if options.seconds else float('inf')
    seed = options.seed
    while True:
        folder = options.build / 'soak' / f'{options.guest}-{seed}'
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        run_seed(options, seed, deadline, folder, say, totals)
        shutil.rmtree(folder)
        totals.seconds = time.monotonic() - started
        say(summary(totals))
        seed += 1
        if not options.seconds or time.monotonic() >= deadline:
            return totals


def summary(totals):
    kinds = ', '.join(f'{name} {count}'
                      for name, count in sorted(totals.kinds.items()))
    return (f'{totals.seconds / 3600:.2f} h, {totals.seeds} seeds, '
            f'{totals.steps} steps, {totals.bytes / 1e9:.1f} GB compared, '
            f"at most {totals.most['memory'] >> 20} MiB, "
            f"{totals.most['handles']} handles, {totals.most['threads']} "
            f'threads; {kinds}')


def main(words):
    if '--help' in words or '-h' in words:
        print(usage())
        return 0
    signal.signal(signal.SIGTERM, lambda *unused: sys.exit(143))
    started = time.monotonic()

    def say(text):
        print(f'[{time.monotonic() - started:7.1f} s] {text}', flush=True)

    try:
        options, checking = parse(words, os.environ)
        if checking:
            return 0
        run(options, say)
    except errors.RunError as error:
        print(f'soak: {error}', file=sys.stderr)
        for line in error.details:
            print(f'  {line}', file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print('soak: interrupted', file=sys.stderr)
        return 130
    return 0
