/*
 * A machine whose CPUs run: notifications and interrupts are real
 *
 *     test  ---qtest--->  PCI set-up, rings, requests, an operation's page
 *     guest             outw -> ioeventfd -> device -> irqfd -> its APIC
 *
 * See vblk-cpu.S for the guest.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef VBLK_CPU_H
#define VBLK_CPU_H

#include "vblk-cpu-page.h"
#include "vblk-disk.h"

/* Vector v of the device arrives here, unless a test says otherwise. */
#define VBLK_CPU_VECTOR(v) (0x40 + (v))

/**
 * VblkAccel: who runs the guest.
 * @name: in the test's path
 * @args: options that choose it
 * @kvm: needs a working KVM
 * @apic: the guest has an APIC, so MSI-X reaches it; if not, it has one CPU
 */
typedef struct VblkAccel {
    const char *name;
    const char *args;
    bool kvm;
    bool apic;
} VblkAccel;

/*
 * Sets of accelerators, for vblk_cpu_test_add().  With VBLK_SHORT_SPLIT, a
 * short run tries kernel-irqchip=split, too.
 */
enum {
    VBLK_KVM = 1 << 0,
    VBLK_KVM_SPLIT = 1 << 1,
    VBLK_KVM_OFF = 1 << 2,
    VBLK_TCG = 1 << 3,
    VBLK_SHORT_SPLIT = 1 << 4,
    VBLK_ONE_EACH = VBLK_KVM | VBLK_TCG,
    VBLK_WITH_APIC = VBLK_KVM | VBLK_KVM_SPLIT | VBLK_TCG,
    VBLK_ANY_ACCEL = VBLK_WITH_APIC | VBLK_KVM_OFF | VBLK_SHORT_SPLIT,
    VBLK_ALL_APIC = VBLK_WITH_APIC | VBLK_SHORT_SPLIT,
};

/* How the guest tells the device of new requests */
typedef enum VblkBell {
    /* The legacy port, or the one of modern-pio-notify=on */
    VBLK_BELL_BY_PORT,
    /* The BAR, which is moved to where real mode reaches it (pc machine) */
    VBLK_BELL_BY_MMIO,
    /* VIRTIO_PCI_CAP_PCI_CFG, VIRTIO 1.2, section 4.1.4.9 */
    VBLK_BELL_BY_CONFIG,
} VblkBell;

/**
 * VblkCpusConfig: a machine for vblk_cpus_start().
 * @cpus: how many CPUs it has, 0 for one
 * @props: properties of the disk, "name=value,..."; not looked at later
 * @blkdebug: options of a blkdebug node for the disk, as "name=value,...";
 *            NULL for none
 */
typedef struct VblkCpusConfig {
    unsigned cpus;
    const char *props;
    const char *blkdebug;
} VblkCpusConfig;

/* At most so many CPUs */
#define VBLK_CPUS_MAX 8

/* Bytes of every disk here */
#define VBLK_CPUS_DISK_SIZE (1024 * 1024)

/**
 * VblkCpus: the CPUs of a machine and its disk.
 * @args: the command line, of a machine to migrate to, too
 * @bell: how @kicker, a CPU, tells the device of requests
 * @port: for VBLK_BELL_BY_PORT
 * @transport: how the device is reached: as ever, but for notifications
 * @low: next free byte of guest memory that real mode reaches
 * @drives: one for each queue that a CPU drives by itself
 */
typedef struct VblkCpus {
    const VblkAccel *accel;
    VblkCpusConfig config;
    char *args;
    VblkDisk disk;
    VblkBell bell;
    unsigned kicker;
    uint32_t port;
    VblkTransport transport;
    uint64_t low;
    GPtrArray *drives;
} VblkCpus;

/**
 * vblk_cpu_test_add: register a test for each of @variants and of @accels as
 * /ARCH/virtio-blk-mq/MACHINE/INTERFACE/ACCEL/@path.
 * Without "-m slow", only a selection: the pc machine, and VBLK_SHORT_SPLIT.
 *
 * Where KVM does not run the guest, a line says why, and tests of it are left
 * out.
 */
void vblk_cpu_test_add(const char *path,
                       void (*fn)(const VblkVariant *v, const VblkAccel *accel),
                       unsigned variants, unsigned accels);

typedef void VblkCpuTestFn(const VblkVariant *v, const VblkAccel *accel,
                           const void *what);

/**
 * vblk_cpu_test_add_with: the same for a test that is told @what to do.
 */
void vblk_cpu_test_add_with(const char *path, VblkCpuTestFn *fn,
                            const void *what, unsigned variants,
                            unsigned accels);

/**
 * vblk_cpus_start: start a machine with a disk in slot 0, and wait until its
 * first CPU runs.
 */
VblkCpus *vblk_cpus_start(const VblkVariant *v, const VblkAccel *accel,
                          VblkCpusConfig config);

/** vblk_cpus_stop: see that no CPU has had an exception, and end it all. */
void vblk_cpus_stop(VblkCpus *c);

/**
 * vblk_cpus_migrate: go on in another process, and run there.
 * @running: run until RAM has been sent, rather than be stopped before
 */
void vblk_cpus_migrate(VblkCpus *c, bool running);

/**
 * vblk_cpus_reset: reset the machine, and wait until its first CPU runs; the
 * others wait for vblk_cpus_sipi().  What they were at is forgotten.
 */
void vblk_cpus_reset(VblkCpus *c);

/**
 * vblk_cpus_wait_boot: wait until CPU @cpu has begun for the @times'th time.
 */
void vblk_cpus_wait_boot(VblkCpus *c, unsigned cpu, unsigned times);

/** vblk_cpus_sipi: the first CPU starts all others. */
void vblk_cpus_sipi(VblkCpus *c);

/**
 * vblk_cpus_open: open the disk and let CPU 0 tell it of requests; no driver
 * yet.
 *
 * Vector v of the MSI-X table is sent to the first CPU as VBLK_CPU_VECTOR(v).
 */
void vblk_cpus_open(VblkCpus *c, VblkBell bell);

/** vblk_cpus_route: point @vector of the MSI-X table at a CPU and a vector. */
void vblk_cpus_route(VblkCpus *c, unsigned vector, unsigned cpu,
                     unsigned cpu_vector);

/** vblk_cpus_intx: let the PIC tell the first CPU of INTx (pc machine). */
void vblk_cpus_intx(VblkCpus *c);
#define VBLK_INTX_VECTOR (VBLK_VECTOR_PIC + 11)

/** vblk_cpu_op: have a CPU do one thing, and wait for it. */
void vblk_cpu_op(VblkCpus *c, unsigned cpu, uint32_t op, uint32_t addr,
                 uint64_t value);

/** vblk_cpu_op_begin: the same without waiting; vblk_cpu_op_end() does that. */
void vblk_cpu_op_begin(VblkCpus *c, unsigned cpu, uint32_t op, uint32_t addr,
                       uint64_t value);
void vblk_cpu_op_end(VblkCpus *c, unsigned cpu);

/* Words of a CPU's page */
uint32_t vblk_cpu_read(VblkCpus *c, unsigned cpu, unsigned offset);
void vblk_cpu_write(VblkCpus *c, unsigned cpu, unsigned offset, uint32_t value);

/** vblk_cpu_count: how often a CPU has seen a vector. */
uint32_t vblk_cpu_count(VblkCpus *c, unsigned cpu, unsigned cpu_vector);

/** vblk_cpu_wait_count: wait until it has seen it so often. */
void vblk_cpu_wait_count(VblkCpus *c, unsigned cpu, unsigned cpu_vector,
                         uint32_t count);

/**
 * VblkCounts: all counts of all CPUs at one moment, but for VBLK_VECTOR_WAKE.
 */
typedef struct VblkCounts VblkCounts;

VblkCounts *vblk_counts_take(VblkCpus *c);

/**
 * vblk_counts_check: check that since then only @expected more interrupts of
 * one vector have been seen, and free @before.
 */
void vblk_counts_check(VblkCpus *c, VblkCounts *before, unsigned cpu,
                       unsigned cpu_vector, uint32_t expected);

/*
 * Work that a CPU does by itself, until told to stop
 */

/**
 * vblk_cpu_drive_queue: give a CPU a queue to drive, as an interrupt-driven
 * driver does: batches of writes, the next one once the last one's interrupt
 * has come.  A lost kick or interrupt is for ever.
 * @vector: the queue's entry of the MSI-X table, whose messages @cpu has to
 *          get; UINT_MAX for INTx
 *
 * Makes a split ring; the device is a modern one whose features have been
 * negotiated.
 */
void vblk_cpu_drive_queue(VblkCpus *c, unsigned cpu, unsigned queue,
                          unsigned vector);

/** vblk_cpu_drive_begin: begin, after DRIVER_OK. */
void vblk_cpu_drive_begin(VblkCpus *c, unsigned cpu);

/**
 * vblk_cpu_drive_turns: how many batches have been answered on all queues of a
 * CPU.
 */
unsigned vblk_cpu_drive_turns(VblkCpus *c, unsigned cpu);

/**
 * vblk_cpu_drive_go_on: wait until @turns more batches are answered on each of
 * a CPU's queues.  If a machine with a blkdebug node has stopped for an error,
 * it is let go on.
 *
 * Returns: how often that was.
 */
unsigned vblk_cpu_drive_go_on(VblkCpus *c, unsigned cpu, unsigned turns);

/** vblk_cpu_drive_end: stop, wait for what is under way, and check it all. */
void vblk_cpu_drive_end(VblkCpus *c, unsigned cpu);

/** vblk_cpu_drive_abandon: after a reset, which leaves batches unanswered. */
void vblk_cpu_drive_abandon(VblkCpus *c, unsigned cpu);

/** vblk_cpu_storm_begin: kick queues 0 to @num - 1 all the time. */
void vblk_cpu_storm_begin(VblkCpus *c, unsigned cpu, unsigned num);
void vblk_cpu_storm_go_on(VblkCpus *c, unsigned cpu, unsigned rounds);
void vblk_cpu_storm_end(VblkCpus *c, unsigned cpu);

/* For these: how a CPU notifies a queue, as an entry of its table has it */
void vblk_cpus_put_bell(VblkCpus *c, uint8_t *entry, unsigned queue);

/** vblk_cpu_page: guest address of a CPU's page. */
uint64_t vblk_cpu_page(unsigned cpu);

/** vblk_far_pointer: as the pages have it; @addr is below 1 MiB. */
uint32_t vblk_far_pointer(uint64_t addr);

#endif
