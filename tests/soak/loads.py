# SPDX-License-Identifier: GPL-2.0-or-later
"""The loads in the guest, and what the disks must hold.

A load is a program in the guest (load.c) that says what has reached the disk by
a debug port of its own, which is a file of the host's.  So this is known also
after the guest is gone.
"""

import subprocess

from guest.errors import RunError

WRITERS = 16
PORTS = {'data': 0xe9, 'files': 0xea, 'plugged': 0xeb}
# Operations between two flushes: as many may be on a disk unreported.
SLACK = {'blocks': 16, 'files': 1}
# Seconds; for a disk with limits, on a busy host without KVM.
PATIENCE = 240


def log_of(folder, name):
    """The file behind the debug port."""
    return folder / f'{name}.flushed'


class Load:
    def __init__(self, kind, program, folder, name):
        self.kind, self.program, self.name = kind, program, name
        self.log = log_of(folder, name)
        self.log.touch()
        self.epoch = 0
        self.place = None           # the device or the folder, in the guest
        self.block = 512
        self.slack = SLACK[kind]
        self.done = [0] * WRITERS   # operations at the last answer
        self.flushed = [0] * WRITERS    # of these, reported to be on the disk
        self.offset = 0             # of the log, that is taken in
        self.bytes = 0              # compared, in all

    def start(self, machine, place, epoch):
        """Begin anew; the writers do not run yet."""
        self.place, self.epoch = place, epoch
        self.go_back([0] * WRITERS)
        self.slack = SLACK[self.kind]
        words = [place, epoch]
        words += [self.block] if self.kind == 'blocks' else []
        folder = self.control
        machine.run(f'''
killall -9 soak-{self.name} 2>/dev/null
rm -rf {folder} && mkdir {folder} && mkfifo {folder}/in {folder}/out || exit 1
ln -sf /usr/bin/soak-load /usr/bin/soak-{self.name}
soak-{self.name} {self.kind} {' '.join(map(str, words))} \\
    {folder} {PORTS[self.name]} > {folder}/said 2>&1 &
''')
        self.tell(machine, 'hold')

    @property
    def control(self):
        return f'/run/load-{self.name}'

    # Commands to the program

    def begin(self, machine, word):
        folder = self.control
        return machine.begin(f'echo {word} > {folder}/in && cat {folder}/out '
                             f'|| {{ cat {folder}/said; exit 1; }}')

    def end(self, machine, job):
        """Bytes that were compared; the operations go to self.done."""
        answer = machine.wait(job, PATIENCE).strip()
        numbers = answer.split()
        if len(numbers) != 1 + WRITERS or answer.startswith('bad'):
            raise RunError(f'{self.kind} in {self.place}, epoch {self.epoch}: '
                           + (answer or 'the load has ended'))
        self.done = list(map(int, numbers[1:]))
        self.bytes += int(numbers[0])
        return int(numbers[0])

    def tell(self, machine, word):
        return self.end(machine, self.begin(machine, word))

    # After the guest was cut off

    def read_log(self):
        """What has been reported, by writer."""
        letter = self.kind[0]
        with open(self.log, 'rb') as file:
            file.seek(self.offset)
            lines = file.read()
        lines = lines[:lines.rfind(b'\n') + 1]
        self.offset += len(lines)
        for line in lines.decode().splitlines():
            words = line.split()
            if words[0] == letter:
                writer, number = map(int, words[1:])
                self.flushed[writer] = max(self.flushed[writer], number)
        return list(self.flushed)

    def go_back(self, flushed):
        """The guest, which is stopped, has gone back to when it had reported
        this."""
        self.offset, self.flushed = self.log.stat().st_size, flushed

    def verify_words(self, place, slack, done):
        words = [f'verify-{self.kind}', place, self.epoch]
        words += [self.block] if self.kind == 'blocks' else []
        return [str(word) for word in (*words, slack, *done)]

    def verify_in(self, machine, place):
        """Compare with the reports, in a guest that was started anew."""
        words = self.verify_words(place, self.slack, self.read_log())
        status, output = machine.run(f"soak-load {' '.join(words)}", PATIENCE,
                                     check=False)
        if status:
            raise RunError(f'{self.kind}, epoch {self.epoch}, after the guest '
                           f'was cut off: {output.strip()}')
        self.bytes += int(output)

    def bounds(self, action):
        """What has been reported before an action, and how many operations
        more of each writer there may have been at its end."""
        before = list(self.read_log())
        action()
        more = max(now - then for now, then in zip(self.read_log(), before))
        return before, more + SLACK[self.kind]

    def verify_here(self, path, done, slack=0):
        """Compare a raw image that has these operations, and of each writer
        as many more as slack says."""
        done = subprocess.run(
            [self.program, *self.verify_words(path, slack, done)],
            capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stdout + done.stderr).strip()
            raise RunError(f'{path.name}: {said}')
        self.bytes += int(done.stdout)
