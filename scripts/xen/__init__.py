# SPDX-License-Identifier: GPL-2.0-or-later
"""A real Xen under emulation: images from Debian packages, a machine, a disk.

    debs.py      Debian packages, fetched and unpacked without installing
    stage.py     a build step that runs only when its inputs changed
    images.py    hypervisor, kernel, the initramfs of dom0 and of the domU
    machine.py   QEMU booting them; scripts for dom0 and for the domU
    domu.py      the PV domU: its life, its disks, its queues
    session.py   one whole run for a person
    report.py    the report that it prints
    inside/      programs that run inside: init of both domains, and their agent

Code that is not about Xen is in the package guest next to this one.
"""
