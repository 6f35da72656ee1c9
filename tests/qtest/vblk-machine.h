/*
 * A machine with PCI slots for the tests of devices with several queues
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef VBLK_MACHINE_H
#define VBLK_MACHINE_H

#include "tests/qtest/libqtest.h"
#include "tests/qtest/libqos/libqos-malloc.h"
#include "tests/qtest/libqos/pci.h"

/* Slots for devices under test; each can be plugged and unplugged. */
#define VBLK_SLOTS 2

/* The longest that anything may take before a test is called stuck. */
#define VBLK_DEADLINE_US (60 * G_USEC_PER_SEC)

/**
 * VblkVariant: the machine that a test runs on and the interface that its
 * driver speaks.
 * @machine: the machine type
 * @interface: "legacy" or "modern", as in the VIRTIO specification; -mmio for
 *             that with memory mapped devices
 * @pcie: the slots are root ports of a PCI Express machine
 * @modern: the interface is that of VIRTIO 1.0 and later
 * @mmio: the slots are virtio-mmio transports, there is no PCI
 */
typedef struct VblkVariant {
    const char *machine;
    const char *interface;
    bool pcie;
    bool modern;
    bool mmio;
} VblkVariant;

/* Sets of variants, for vblk_test_add(). */
enum {
    VBLK_PC_LEGACY = 1 << 0,
    VBLK_PC_MODERN = 1 << 1,
    VBLK_Q35_LEGACY = 1 << 2,
    VBLK_Q35_MODERN = 1 << 3,
    VBLK_MICROVM_LEGACY = 1 << 4,
    VBLK_MICROVM_MODERN = 1 << 5,
    VBLK_MODERN = VBLK_PC_MODERN | VBLK_Q35_MODERN,
    VBLK_BOTH = VBLK_PC_LEGACY | VBLK_Q35_MODERN,
    VBLK_MMIO = VBLK_MICROVM_LEGACY | VBLK_MICROVM_MODERN,
    VBLK_ALL = VBLK_PC_LEGACY | VBLK_Q35_LEGACY | VBLK_MODERN,
};

/**
 * vblk_variant: by the number of its bit in these sets; NULL after the last.
 */
const VblkVariant *vblk_variant(unsigned index);

/**
 * VblkMachine: one QEMU.
 * @other: runs in $QTEST_QEMU_BINARY_DST
 */
typedef struct VblkMachine {
    const VblkVariant *variant;
    bool other;
    QTestState *qts;
    QGuestAllocator alloc;
    QPCIBus *pci;
} VblkMachine;

/**
 * vblk_test_add: register a test as /ARCH/virtio-blk-mq/MACHINE/INTERFACE/@path
 * for every variant in @variants.
 */
void vblk_test_add(const char *path, void (*fn)(const VblkVariant *variant),
                   unsigned variants);

/**
 * vblk_test_add_with: the same for a test that has a disk with @options.
 *
 * Cases that differ only in the options of the disk are lines that differ in
 * one column.
 */
void vblk_test_add_with(const char *path, void (*fn)(const VblkVariant *variant,
                                                     const char *options),
                        const char *options, unsigned variants);

/**
 * vblk_machine_start: start QEMU on @variant's machine.
 * @fmt: further command line, as for printf(); split into words by a shell
 *
 * Never fails: what makes QEMU refuse its command line ends the test.
 */
VblkMachine *vblk_machine_start(const VblkVariant *variant, const char *fmt,
                                ...)
    G_GNUC_PRINTF(2, 3);

/**
 * vblk_machine_start_target: start a machine that @from can be migrated to.
 *
 * As vblk_machine_start(), with "-incoming defer".  If $QTEST_QEMU_BINARY_DST
 * names another QEMU, it and $QTEST_QEMU_BINARY take turns: so a test that
 * migrates there and back tries both directions between two versions.
 */
VblkMachine *vblk_machine_start_target(const VblkMachine *from, const char *fmt,
                                       ...)
    G_GNUC_PRINTF(2, 3);

void vblk_machine_stop(VblkMachine *m);

/**
 * vblk_machine_has_other: whether $QTEST_QEMU_BINARY_DST names another QEMU,
 * and so vblk_machine_start_other() can start a machine in it.
 * @args: further command line, as for vblk_machine_start()
 */
bool vblk_machine_has_other(void);
VblkMachine *vblk_machine_start_other(const VblkVariant *variant,
                                      const char *args);

/**
 * vblk_machine_init_pci: do what firmware would do to the PCI bridges; needed
 * again after a system reset.
 */
void vblk_machine_init_pci(VblkMachine *m);

/**
 * vblk_device_arg: the value of a -device option that puts a virtio-blk-pci, or
 * a virtio-blk-device, called disk@slot into @slot.
 * @props: more properties, "name=value,..."
 *
 * Returns: a string to be freed.
 */
char *vblk_device_arg(const VblkVariant *variant, unsigned slot,
                      const char *props);

/**
 * vblk_device_add: plug a virtio-blk-pci called disk@slot into @slot by QMP.
 * @json: more properties, as members of a JSON object
 *
 * Returns: NULL when it was plugged, else the error's text, to be freed.
 */
char *vblk_device_add(VblkMachine *m, unsigned slot, const char *json);

/**
 * vblk_device_del: ask QEMU to unplug disk@slot and let the guest agree, as
 * ACPI or the PCI Express slot's registers have it.  Returns when the device
 * is gone.
 */
void vblk_device_del(VblkMachine *m, unsigned slot);

/**
 * vblk_slot_devfn: where libqos finds the device in @slot: bus number,
 * device and function.
 */
int vblk_slot_devfn(const VblkVariant *variant, unsigned slot);

/** vblk_slot_mmio: address of the registers of a memory mapped @slot. */
uint64_t vblk_slot_mmio(unsigned slot);

/**
 * vblk_slot_window: let libqos place the next BARs in the part of the address
 * spaces that belongs to @slot.
 */
void vblk_slot_window(VblkMachine *m, unsigned slot);

/**
 * vblk_slow_disk_add: add @image as node "disk", slowed down to one request in
 * a second of virtual time, which stands still unless a test moves it.
 * @errors: JSON array of errors that blkdebug is to inject, or NULL
 */
void vblk_slow_disk_add(VblkMachine *m, const char *image, const char *errors);

/**
 * vblk_machine_migrate: move what runs on @from to @to, from
 * vblk_machine_start_target() and with the same devices.  @to is stopped then.
 */
void vblk_machine_migrate(VblkMachine *from, VblkMachine *to);

/*
 * The same in two steps, by way of @file: @from may run between them, and has
 * to be stopped before the second.
 */
void vblk_machine_migrate_begin(VblkMachine *from, const char *file);
void vblk_machine_migrate_end(VblkMachine *from, VblkMachine *to,
                              const char *file);

/** vblk_machine_migrate_wait: wait for the end of a migration from or to @m. */
void vblk_machine_migrate_wait(VblkMachine *m);

/**
 * vblk_machine_stream_begin: migrate a machine that goes on running, into a
 * pipe that nobody reads.
 * @pages: return when so many pages of RAM are on their way
 *
 * It cannot end before vblk_machine_stream_end(): a pipe's buffer has room for
 * some thousand empty pages.
 *
 * Returns: the stream, for vblk_machine_stream_end().
 */
int vblk_machine_stream_begin(VblkMachine *from, uint64_t pages);

/** vblk_machine_stream_end: as vblk_machine_migrate(), for the rest of it. */
void vblk_machine_stream_end(VblkMachine *from, VblkMachine *to, int stream);

/**
 * vblk_clock_advance: let @ms of virtual time pass, in steps of VBLK_STEP_MS.
 *
 * Where a step passes over an IOThread's timer, QEMU waits in it for that
 * thread, which sleeps on for what it thinks is left, in real time.  So steps
 * have to be small.
 */
void vblk_clock_advance(VblkMachine *m, unsigned ms);
#define VBLK_STEP_MS 10

/**
 * vblk_deadline: end the test once VBLK_DEADLINE_US have passed since @start.
 * @start: g_get_monotonic_time() when the wait began
 * @what: what is being waited for
 */
void vblk_deadline(gint64 start, const char *what);

/**
 * vblk_image_new: make an empty raw image of @size bytes.
 *
 * Returns: its file name, for vblk_image_free().
 */
char *vblk_image_new(uint64_t size);
void vblk_image_free(char *path);

#endif
