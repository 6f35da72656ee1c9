# SPDX-License-Identifier: GPL-2.0-or-later
"""A real Linux guest on a QEMU binary, for people and for tests.

    options    what the user asked for, checked
    accel      KVM where it works, TCG elsewhere
    image      kernel and initramfs, cached         (initramfs, modules)
    disk       image files and the nodes over them
    machine    QEMU, its monitor, its guest         (qmp, channel)
    survey     what the guest sees of its queues
    workload   what fio does there, and what came of it
    rings      the disk without a guest, driven by the benchmark's driver
    lock       one program at a time in a folder
    report     all of it for a reader
"""
