# SPDX-License-Identifier: GPL-2.0-or-later
"""What a Xen host holds for its domUs, and whether it is more than before."""

import re

# What dom0 and Xen hold for all domUs.
# A domain stays in the list as long as a grant of it is mapped, so that the
# number of domains tells of grants and of entries of Xen's maptrack table, too.
HOST = '''
echo channels $(lsevtchn 0 | wc -l)
echo domains $(xl list | tail -n +2 | wc -l)
echo models $(pidof device-model | wc -w)
echo backends $(xenstore-list /local/domain/0/backend/qdisk | wc -l)
echo open_files $(cut -f 1 /proc/sys/fs/file-nr)
echo xen_kib $(($(xl info | sed -n 's/^free_memory *: //p') * 1024))
echo free_kib $(sed -n 's/^MemAvailable: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo)
'''
# What the device model of one domU holds.
MODEL = '''
pid=$(xenstore-read /local/domain/$(xl domid NAME)/image/device-model-pid)
echo channels $(lsevtchn 0 | wc -l)
echo threads $(ls /proc/$pid/task | wc -l)
echo objects $(xl qemu-monitor-command NAME 'qom-list /objects' | wc -l)
echo files $(ls /proc/$pid/fd | wc -l)
echo grants $(grep -c gntdev /proc/$pid/maps)
status=/proc/$pid/status
echo used_kib $(sed -n 's/^RssAnon:[^0-9]*\\([0-9]*\\) kB/\\1/p' $status)
'''
# Page cache, the kernel's own caches and the workers of QEMU's thread pool come
# and go; the kernel counts open files in batches of a CPU.  IOThreads are
# objects, too.
SLACK = {'free_kib': 24 << 10, 'xen_kib': 1 << 10, 'used_kib': 4 << 10,
         'threads': 64, 'open_files': 64}


def numbers(text):
    return {name: int(value) for name, value
            in re.findall(r'^(\w+) (\d+)$', text, re.M)}


def host(dom0):
    return numbers(dom0.run(HOST))


def model(dom0, name):
    return numbers(dom0.run(MODEL.replace('NAME', name)))


def grown(before, now):
    """What is held now and was not before, beyond the slack."""
    found = {}
    for name, value in now.items():
        more = value - before[name]
        if name in ('free_kib', 'xen_kib'):
            more = -more
        if more > SLACK.get(name, 0):
            found[name] = (before[name], value)
    return found
