/*
 * A machine whose CPUs run: notifications and interrupts are real
 *
 *     test  ---qtest--->  PCI set-up, rings, requests, an operation's page
 *     guest             outw -> ioeventfd -> device -> irqfd -> its APIC
 *
 * See mq-cpu.S for the guest.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MQ_CPU_H
#define MQ_CPU_H

#include "mq-cpu-page.h"
#include "mq-disk.h"

/* Vector v of the device arrives here, unless a test says otherwise. */
#define MQ_CPU_VECTOR(v) (0x40 + (v))

/**
 * MqAccel: who runs the guest.
 * @name: in the test's path
 * @args: options that choose it
 * @kvm: needs a working KVM
 * @apic: the guest has an APIC, so MSI-X reaches it; if not, it has one CPU
 */
typedef struct MqAccel {
    const char *name;
    const char *args;
    bool kvm;
    bool apic;
} MqAccel;

/*
 * Sets of accelerators, for mq_cpu_test_add().  With MQ_SHORT_SPLIT, a short
 * run tries kernel-irqchip=split, too.
 */
enum {
    MQ_KVM = 1 << 0,
    MQ_KVM_SPLIT = 1 << 1,
    MQ_KVM_OFF = 1 << 2,
    MQ_TCG = 1 << 3,
    MQ_SHORT_SPLIT = 1 << 4,
    MQ_ONE_EACH = MQ_KVM | MQ_TCG,
    MQ_WITH_APIC = MQ_KVM | MQ_KVM_SPLIT | MQ_TCG,
    MQ_ANY_ACCEL = MQ_WITH_APIC | MQ_KVM_OFF | MQ_SHORT_SPLIT,
    MQ_ALL_APIC = MQ_WITH_APIC | MQ_SHORT_SPLIT,
};

/* How the guest tells the device of new requests */
typedef enum MqBell {
    /* The legacy port, or the one of modern-pio-notify=on */
    MQ_BELL_BY_PORT,
    /* The BAR, which is moved to where real mode reaches it (pc machine) */
    MQ_BELL_BY_MMIO,
    /* VIRTIO_PCI_CAP_PCI_CFG, VIRTIO 1.2, section 4.1.4.9 */
    MQ_BELL_BY_CONFIG,
} MqBell;

/**
 * MqCpusConfig: a machine for mq_cpus_start().
 * @cpus: how many CPUs it has, 0 for one
 * @props: properties of the disk, "name=value,..."; not looked at later
 * @blkdebug: options of a blkdebug node for the disk, as "name=value,...";
 *            NULL for none
 */
typedef struct MqCpusConfig {
    unsigned cpus;
    const char *props;
    const char *blkdebug;
} MqCpusConfig;

/* At most so many CPUs */
#define MQ_CPUS_MAX 8

/* Bytes of every disk here */
#define MQ_CPUS_DISK_SIZE (1024 * 1024)

/**
 * MqCpus: the CPUs of a machine and its disk.
 * @args: the command line, of a machine to migrate to, too
 * @bell: how @kicker, a CPU, tells the device of requests
 * @port: for MQ_BELL_BY_PORT
 * @transport: how the device is reached: as ever, but for notifications
 * @low: next free byte of guest memory that real mode reaches
 * @drives: one for each queue that a CPU drives by itself
 */
typedef struct MqCpus {
    const MqAccel *accel;
    MqCpusConfig config;
    char *args;
    MqDisk disk;
    MqBell bell;
    unsigned kicker;
    uint32_t port;
    MqTransport transport;
    uint64_t low;
    GPtrArray *drives;
} MqCpus;

/**
 * mq_cpu_test_add: register a test for each of @variants and of @accels as
 * /ARCH/virtio-blk-mq/MACHINE/INTERFACE/ACCEL/@path.
 * Without "-m slow", only a selection: the pc machine, and MQ_SHORT_SPLIT.
 *
 * Where KVM does not run the guest, a line says why, and tests of it are left
 * out.
 */
void mq_cpu_test_add(const char *path,
                     void (*fn)(const MqVariant *v, const MqAccel *accel),
                     unsigned variants, unsigned accels);

typedef void MqCpuTestFn(const MqVariant *v, const MqAccel *accel,
                         const void *what);

/**
 * mq_cpu_test_add_with: the same for a test that is told @what to do.
 */
void mq_cpu_test_add_with(const char *path, MqCpuTestFn *fn, const void *what,
                          unsigned variants, unsigned accels);

/**
 * mq_cpus_start: start a machine with a disk in slot 0, and wait until its
 * first CPU runs.
 */
MqCpus *mq_cpus_start(const MqVariant *v, const MqAccel *accel,
                      MqCpusConfig config);

/* mq_cpus_stop: see that no CPU has had an exception, and end it all. */
void mq_cpus_stop(MqCpus *c);

/**
 * mq_cpus_migrate: go on in another process, and run there.
 * @running: run until RAM has been sent, rather than be stopped before
 */
void mq_cpus_migrate(MqCpus *c, bool running);

/**
 * mq_cpus_reset: reset the machine, and wait until its first CPU runs; the
 * others wait for mq_cpus_sipi().  What they were at is forgotten.
 */
void mq_cpus_reset(MqCpus *c);

/* mq_cpus_wait_boot: wait until CPU @cpu has begun for the @times'th time. */
void mq_cpus_wait_boot(MqCpus *c, unsigned cpu, unsigned times);

/* mq_cpus_sipi: the first CPU starts all others. */
void mq_cpus_sipi(MqCpus *c);

/**
 * mq_cpus_open: open the disk and let CPU 0 tell it of requests; no driver
 * yet.
 *
 * Vector v of the MSI-X table is sent to the first CPU as MQ_CPU_VECTOR(v).
 */
void mq_cpus_open(MqCpus *c, MqBell bell);

/* mq_cpus_route: point @vector of the MSI-X table at a CPU and a vector. */
void mq_cpus_route(MqCpus *c, unsigned vector, unsigned cpu,
                   unsigned cpu_vector);

/* mq_cpus_intx: let the PIC tell the first CPU of INTx (pc machine). */
void mq_cpus_intx(MqCpus *c);
#define MQ_INTX_VECTOR (MQ_VECTOR_PIC + 11)

/* mq_cpu_op: have a CPU do one thing, and wait for it. */
void mq_cpu_op(MqCpus *c, unsigned cpu, uint32_t op, uint32_t addr,
               uint64_t value);

/* mq_cpu_op_begin: the same without waiting; mq_cpu_op_end() does that. */
void mq_cpu_op_begin(MqCpus *c, unsigned cpu, uint32_t op, uint32_t addr,
                     uint64_t value);
void mq_cpu_op_end(MqCpus *c, unsigned cpu);

/* Words of a CPU's page */
uint32_t mq_cpu_read(MqCpus *c, unsigned cpu, unsigned offset);
void mq_cpu_write(MqCpus *c, unsigned cpu, unsigned offset, uint32_t value);

/* mq_cpu_count: how often a CPU has seen a vector */
uint32_t mq_cpu_count(MqCpus *c, unsigned cpu, unsigned cpu_vector);

/* mq_cpu_wait_count: wait until it has seen it so often. */
void mq_cpu_wait_count(MqCpus *c, unsigned cpu, unsigned cpu_vector,
                       uint32_t count);

/*
 * MqCounts: all counts of all CPUs at one moment, but for MQ_VECTOR_WAKE
 */
typedef struct MqCounts MqCounts;

MqCounts *mq_counts_take(MqCpus *c);

/**
 * mq_counts_check: check that since then only @expected more interrupts of one
 * vector have been seen, and free @before.
 */
void mq_counts_check(MqCpus *c, MqCounts *before, unsigned cpu,
                     unsigned cpu_vector, uint32_t expected);

/*
 * Work that a CPU does by itself, until told to stop
 */

/**
 * mq_cpu_drive_queue: give a CPU a queue to drive, as an interrupt-driven
 * driver does: batches of writes, the next one once the last one's interrupt
 * has come.  A lost kick or interrupt is for ever.
 * @vector: the queue's entry of the MSI-X table, whose messages @cpu has to
 *          get; UINT_MAX for INTx
 *
 * Makes a split ring; the device is a modern one whose features have been
 * negotiated.
 */
void mq_cpu_drive_queue(MqCpus *c, unsigned cpu, unsigned queue,
                        unsigned vector);

/* mq_cpu_drive_begin: begin, after DRIVER_OK. */
void mq_cpu_drive_begin(MqCpus *c, unsigned cpu);

/**
 * mq_cpu_drive_turns: how many batches have been answered on all queues of a
 * CPU
 */
unsigned mq_cpu_drive_turns(MqCpus *c, unsigned cpu);

/**
 * mq_cpu_drive_go_on: wait until @turns more batches are answered on each of a
 * CPU's queues.  If a machine with a blkdebug node has stopped for an error, it
 * is let go on.
 *
 * Returns: how often that was.
 */
unsigned mq_cpu_drive_go_on(MqCpus *c, unsigned cpu, unsigned turns);

/* mq_cpu_drive_end: stop, wait for what is under way, and check it all. */
void mq_cpu_drive_end(MqCpus *c, unsigned cpu);

/* mq_cpu_drive_abandon: after a reset, which leaves batches unanswered */
void mq_cpu_drive_abandon(MqCpus *c, unsigned cpu);

/* mq_cpu_storm_begin: kick queues 0 to @num - 1 all the time. */
void mq_cpu_storm_begin(MqCpus *c, unsigned cpu, unsigned num);
void mq_cpu_storm_go_on(MqCpus *c, unsigned cpu, unsigned rounds);
void mq_cpu_storm_end(MqCpus *c, unsigned cpu);

/* For these: how a CPU notifies a queue, as an entry of its table has it */
void mq_cpus_put_bell(MqCpus *c, uint8_t *entry, unsigned queue);

/* mq_cpu_page: guest address of a CPU's page */
uint64_t mq_cpu_page(unsigned cpu);

/* mq_far_pointer: as the pages have it; @addr is below 1 MiB */
uint32_t mq_far_pointer(uint64_t addr);

#endif
