# SPDX-License-Identifier: GPL-2.0-or-later
"""A real Linux guest on a QEMU binary, for people and for tests.

    options    the user's choices, checked
    accel      the accelerator: KVM where it works, else TCG
    image      kernel and initramfs, cached         (initramfs, modules)
    disk       image files and the nodes over them
    machine    QEMU, its monitor, its guest         (qmp, channel)
    survey     the guest's view of its queues
    workload   the runs of fio, and their results
    rings      the disk without a guest, driven by the benchmark's driver
    lock       a folder that one program at a time works in
    report     the report for a reader
"""
