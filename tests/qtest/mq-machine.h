/*
 * A machine with PCI slots for the tests of devices with several queues
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MQ_MACHINE_H
#define MQ_MACHINE_H

#include "tests/qtest/libqtest.h"
#include "tests/qtest/libqos/libqos-malloc.h"
#include "tests/qtest/libqos/pci.h"

/* Slots for devices under test; each can be plugged and unplugged. */
#define MQ_SLOTS 2

/* The longest that anything may take before a test is called stuck. */
#define MQ_DEADLINE_US (60 * G_USEC_PER_SEC)

/**
 * MqVariant: the machine that a test runs on and the interface that its
 * driver speaks.
 * @machine: the machine type
 * @interface: "legacy" or "modern", as in the VIRTIO specification; -mmio for
 *             that with memory mapped devices
 * @pcie: the slots are root ports of a PCI Express machine
 * @modern: the interface is that of VIRTIO 1.0 and later
 * @mmio: the slots are virtio-mmio transports, there is no PCI
 */
typedef struct MqVariant {
    const char *machine;
    const char *interface;
    bool pcie;
    bool modern;
    bool mmio;
} MqVariant;

/* Sets of variants, for mq_test_add(). */
enum {
    MQ_PC_LEGACY = 1 << 0,
    MQ_PC_MODERN = 1 << 1,
    MQ_Q35_LEGACY = 1 << 2,
    MQ_Q35_MODERN = 1 << 3,
    MQ_MICROVM_LEGACY = 1 << 4,
    MQ_MICROVM_MODERN = 1 << 5,
    MQ_MODERN = MQ_PC_MODERN | MQ_Q35_MODERN,
    MQ_BOTH = MQ_PC_LEGACY | MQ_Q35_MODERN,
    MQ_MMIO = MQ_MICROVM_LEGACY | MQ_MICROVM_MODERN,
    MQ_ALL = MQ_PC_LEGACY | MQ_Q35_LEGACY | MQ_MODERN,
};

/* mq_variant: by the number of its bit in these sets; NULL after the last */
const MqVariant *mq_variant(unsigned index);

/**
 * MqMachine: one QEMU.
 * @other: runs in $QTEST_QEMU_BINARY_DST
 */
typedef struct MqMachine {
    const MqVariant *variant;
    bool other;
    QTestState *qts;
    QGuestAllocator alloc;
    QPCIBus *pci;
} MqMachine;

/**
 * mq_test_add: register a test as /ARCH/virtio-blk-mq/MACHINE/INTERFACE/@path
 * for every variant in @variants.
 */
void mq_test_add(const char *path, void (*fn)(const MqVariant *variant),
                 unsigned variants);

/**
 * mq_test_add_with: the same for a test that has a disk with @options.
 *
 * Cases that differ only in the options of the disk are lines that differ in
 * one column.
 */
void mq_test_add_with(const char *path, void (*fn)(const MqVariant *variant,
                                                   const char *options),
                      const char *options, unsigned variants);

/**
 * mq_machine_start: start QEMU on @variant's machine.
 * @fmt: further command line, as for printf(); split into words by a shell
 *
 * Never fails: what makes QEMU refuse its command line ends the test.
 */
MqMachine *mq_machine_start(const MqVariant *variant, const char *fmt, ...)
    G_GNUC_PRINTF(2, 3);

/**
 * mq_machine_start_target: start a machine that @from can be migrated to.
 *
 * As mq_machine_start(), with "-incoming defer".  If $QTEST_QEMU_BINARY_DST
 * names another QEMU, it and $QTEST_QEMU_BINARY take turns: so a test that
 * migrates there and back tries both directions between two versions.
 */
MqMachine *mq_machine_start_target(const MqMachine *from, const char *fmt, ...)
    G_GNUC_PRINTF(2, 3);

void mq_machine_stop(MqMachine *m);

/**
 * mq_machine_has_other: whether $QTEST_QEMU_BINARY_DST names another QEMU, and
 * so mq_machine_start_other() can start a machine in it.
 * @args: further command line, as for mq_machine_start()
 */
bool mq_machine_has_other(void);
MqMachine *mq_machine_start_other(const MqVariant *variant, const char *args);

/**
 * mq_machine_init_pci: do what firmware would do to the PCI bridges; needed
 * again after a system reset.
 */
void mq_machine_init_pci(MqMachine *m);

/**
 * mq_device_arg: the value of a -device option that puts a virtio-blk-pci, or
 * a virtio-blk-device, called disk@slot into @slot.
 * @props: more properties, "name=value,..."
 *
 * Returns: a string to be freed.
 */
char *mq_device_arg(const MqVariant *variant, unsigned slot,
                    const char *props);

/**
 * mq_device_add: plug a virtio-blk-pci called disk@slot into @slot by QMP.
 * @json: more properties, as members of a JSON object
 *
 * Returns: NULL when it was plugged, else the error's text, to be freed.
 */
char *mq_device_add(MqMachine *m, unsigned slot, const char *json);

/**
 * mq_device_del: ask QEMU to unplug disk@slot and let the guest agree, as
 * ACPI or the PCI Express slot's registers have it.  Returns when the device
 * is gone.
 */
void mq_device_del(MqMachine *m, unsigned slot);

/**
 * mq_slot_devfn: where libqos finds the device in @slot: bus number,
 * device and function.
 */
int mq_slot_devfn(const MqVariant *variant, unsigned slot);

/* mq_slot_mmio: address of the registers of a memory mapped @slot */
uint64_t mq_slot_mmio(unsigned slot);

/**
 * mq_slot_window: let libqos place the next BARs in the part of the address
 * spaces that belongs to @slot.
 */
void mq_slot_window(MqMachine *m, unsigned slot);

/**
 * mq_slow_disk_add: add @image as node "disk", slowed down to one request in a
 * second of virtual time, which stands still unless a test moves it.
 * @errors: JSON array of errors that blkdebug is to inject, or NULL
 */
void mq_slow_disk_add(MqMachine *m, const char *image, const char *errors);

/**
 * mq_machine_migrate: move what runs on @from to @to, from
 * mq_machine_start_target() and with the same devices.  @to is stopped then.
 */
void mq_machine_migrate(MqMachine *from, MqMachine *to);

/*
 * The same in two steps, by way of @file: @from may run between them, and has
 * to be stopped before the second.
 */
void mq_machine_migrate_begin(MqMachine *from, const char *file);
void mq_machine_migrate_end(MqMachine *from, MqMachine *to, const char *file);

/* mq_machine_migrate_wait: wait for the end of a migration from or to @m. */
void mq_machine_migrate_wait(MqMachine *m);

/**
 * mq_machine_stream_begin: migrate a machine that goes on running, into a
 * pipe that nobody reads.
 * @pages: return when so many pages of RAM are on their way
 *
 * It can not end before mq_machine_stream_end(): a pipe's buffer has room for
 * some thousand empty pages.
 *
 * Returns: the stream, for mq_machine_stream_end().
 */
int mq_machine_stream_begin(MqMachine *from, uint64_t pages);

/* mq_machine_stream_end: as mq_machine_migrate(), for the rest of it. */
void mq_machine_stream_end(MqMachine *from, MqMachine *to, int stream);

/**
 * mq_clock_advance: let @ms of virtual time pass, in steps of MQ_STEP_MS.
 *
 * Where a step passes over an IOThread's timer, QEMU waits in it for that
 * thread, which sleeps on for what it thinks is left, in real time.  So steps
 * have to be small.
 */
void mq_clock_advance(MqMachine *m, unsigned ms);
#define MQ_STEP_MS 10

/**
 * mq_deadline: end the test once MQ_DEADLINE_US have passed since @start.
 * @start: g_get_monotonic_time() when the wait began
 * @what: what is being waited for
 */
void mq_deadline(gint64 start, const char *what);

/**
 * mq_image_new: make an empty raw image of @size bytes.
 *
 * Returns: its file name, for mq_image_free().
 */
char *mq_image_new(uint64_t size);
void mq_image_free(char *path);

#endif
