# SPDX-License-Identifier: GPL-2.0-or-later
"""What is run in the guest: queue by queue, then verified, then measured."""

import json
from dataclasses import dataclass

from .disk import MIB
from .errors import RunError
from .survey import refresh

TRACE_READS = 256
VERIFY_BYTES = 32 * MIB     # in all, split over the CPUs
BLOCK = 4096
AREA_UNIT = 64 << 10        # the largest write below

COMMON = '''
[global]
filename=/dev/{disk}
ioengine=libaio
direct=1
thread=1
iodepth=32
'''


@dataclass
class Verified:
    written: int            # bytes
    checked: int            # blocks that were read back and compared
    cpus: int
    errors: list            # fio's words


def trace(machine, disk):
    """Find out which IOThread serves each queue, by using it alone.

    A CPU of the queue reads.  The IOThread whose CPU time grows most becomes
    Queue.iothread, and other queues whose interrupt counts rise become
    Queue.others.
    """
    for queue in disk.queues:
        interrupts = refresh(machine, disk)
        times = machine.iothread_times()
        machine.run(f'taskset -c {queue.cpus[0]} dd if=/dev/{disk.name} '
                    f'of=/dev/null bs={BLOCK} count={TRACE_READS} '
                    'iflag=direct')
        grown = {name: after - times[name]
                 for name, after in machine.iothread_times().items()}
        now = refresh(machine, disk)
        raised = [other.number for other in disk.queues
                  if now[other.number] > interrupts[other.number]]
        if not disk.queues[0].shared:
            queue.others = [n for n in raised if n != queue.number]
        queue.iothread = max(grown, key=grown.get) if grown else None


def fill(machine, disk, size):
    """Allocate the image, so that reads reach data and not holes."""
    machine.run(f'dd if=/dev/zero of=/dev/{disk.name} bs=1M oflag=direct '
                f'count={size // MIB}', timeout=120)


def write_and_verify(machine, disk, vcpus, size=VERIFY_BYTES):
    """Random writes from every CPU, then checked from another CPU each."""
    written, errors = write(machine, disk, vcpus, size)
    if errors:
        return Verified(written, 0, vcpus, errors)
    return verify(machine, disk, vcpus, size)


def write(machine, disk, vcpus, size, timeout=180):
    """Each CPU fills an area of its own; (bytes written, errors)."""
    result = fio(machine, verify_job(disk, vcpus, size, 0, 'do_verify=0'),
                 timeout)
    return total(result.jobs, 'write', 'io_bytes'), result.errors


def verify(machine, disk, vcpus, size, timeout=180):
    """Read back what write() wrote, every area from the next CPU.

    fio repeats its random sequence to know what must be where; each block
    holds a checksum (crc32c), its offset and the job's seed.
    """
    result = fio(machine, verify_job(disk, vcpus, size, 1, 'verify_only=1'),
                 timeout)
    errors = list(result.errors)
    written = area_size(size, vcpus) * vcpus
    read = total(result.jobs, 'read', 'io_bytes')
    if read != written:
        errors.append(f'{read:,} of {written:,} bytes read back')
    return Verified(written, read // BLOCK, vcpus, errors)


def area_size(size, vcpus):
    return max(size // vcpus // AREA_UNIT, 1) * AREA_UNIT


def verify_job(disk, vcpus, size, shift, mode):
    area = area_size(size, vcpus)
    text = COMMON.format(disk=disk.name) + f'''
rw=randwrite
bssplit=4k/60:16k/25:64k/15
verify=crc32c
verify_interval={BLOCK}
verify_fatal=1
size={area}
{mode}
'''
    for cpu in range(vcpus):
        text += f'''
[area{cpu}]
offset={cpu * area}
cpus_allowed={(cpu + shift) % vcpus}
'''
    return text


def total(jobs, direction, field):
    return sum(job[direction][field] for job in jobs)


def random_read_iops(machine, disk, vcpus, size, seconds):
    """4 KiB random reads from every CPU at once, depth 32 each."""
    result = fio(machine, COMMON.format(disk=disk.name) + f'''
rw=randread
bs={BLOCK}
size={size}
norandommap=1
time_based=1
runtime={seconds}
numjobs={vcpus}
cpus_allowed=0-{vcpus - 1}
cpus_allowed_policy=split
group_reporting=1
[read]
''', timeout=seconds + 60)
    if result.errors:
        raise RunError('fio failed while reading', result.errors)
    return total(result.jobs, 'read', 'iops')


@dataclass
class FioResult:
    jobs: list
    errors: list


def fio(machine, job, timeout):
    """Run a job file in the guest."""
    status, output = machine.run(f'''
mkdir -p /run/fio && cd /run/fio
cat > job <<'END_OF_JOB'
{job}
END_OF_JOB
fio --output-format=json --output=result job > messages 2>&1
status=$?
grep -v '^$' messages | head -20
echo ==== result
cat result
exit $status
''', timeout, check=False)
    messages, _, result = output.partition('==== result\n')
    try:
        # fio puts warnings before the JSON text.
        jobs = json.loads(result[result.index('{'):])['jobs']
    except (ValueError, KeyError):
        raise RunError(f'fio gave no result (status {status})',
                       output.splitlines()[-10:]) from None
    errors = [f"{entry['jobname']}: error {entry['error']}"
              for entry in jobs if entry['error']]
    if status or errors:
        errors = messages.splitlines()[:6] + errors
        errors = errors or [f'fio ended with status {status}']
    return FioResult(jobs, errors)
