/*
 * Real notifications of a disk's queues, from a guest's CPU
 *
 *     every kind of ring x every way to notify x ioeventfd on or off
 *
 *     port:    the legacy BAR's, or that of modern-pio-notify=on
 *     MMIO:    the modern BAR, below 1 MiB
 *     config:  the window in PCI configuration space
 *
 * And notifications that no driver ought to send.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "standard-headers/linux/virtio_blk.h"
#include "standard-headers/linux/virtio_pci.h"
#include "mq-cpu.h"

#define QUEUES 4
#define RING_PROPS "num-queues=4,packed=on,"

static MqCpus *open_disk(const MqVariant *v, const MqAccel *accel,
                         MqBell bell, const char *props)
{
    bool port = v->modern && bell == MQ_BELL_BY_PORT;
    g_autofree char *all = g_strdup_printf(RING_PROPS "%s%s", props, port
                                           ? ",modern-pio-notify=on" : "");
    MqCpus *c = mq_cpus_start(v, accel, (MqCpusConfig) { .props = all });

    mq_cpus_open(c, bell);
    return c;
}

static MqRequest *submit(MqQueue *q, bool indirect, uint64_t sector,
                         uint32_t seed)
{
    MqRequest *r = mq_write_new(q, sector, MQ_SECTOR, seed);

    mq_request_add_segs(r, (const MqSegment[]) {
        { r->header, 16, false },
        { r->data, r->len, false },
        { r->status, 1, true },
    }, 3, indirect);
    mq_queue_kick(q);
    return r;
}

/* Two requests, one after the other, of which the last one interrupts. */
static void check_queue(MqCpus *c, const MqRing *ring, unsigned i)
{
    MqQueue *q = c->disk.d->queues[i];
    bool event = ring->features & BIT_ULL(VIRTIO_RING_F_EVENT_IDX);
    MqCounts *before = mq_counts_take(c);

    if (event) {
        unsigned per_request = c->disk.d->features &
                               BIT_ULL(VIRTIO_F_RING_PACKED) &&
                               !ring->indirect ? 3 : 1;

        mq_queue_set_event(q, per_request);
    } else {
        mq_queue_suppress(q, true);
    }
    mq_request_finish(submit(q, ring->indirect, i, i + 1));
    if (!event) {
        mq_queue_suppress(q, false);
    }
    mq_request_finish(submit(q, ring->indirect, 8 + i, i + 11));
    mq_counts_check(c, before, 0, MQ_CPU_VECTOR(i + 1), 1);

    before = mq_counts_take(c);
    if (event) {
        mq_queue_set_event(q, 0);
    }
    mq_read(q, i, MQ_SECTOR, i + 1);
    mq_counts_check(c, before, 0, MQ_CPU_VECTOR(i + 1), 1);
}

/* The first answer of all may interrupt even if that is not asked for. */
static void check_first(MqCpus *c, unsigned i)
{
    MqCounts *before = mq_counts_take(c);

    mq_write(c->disk.d->queues[i], i, MQ_SECTOR, 1);
    mq_counts_check(c, before, 0, MQ_CPU_VECTOR(i + 1), 1);
}

static void check_ring(MqDisk *disk, const MqRing *ring)
{
    MqCpus *c = container_of(disk, MqCpus, disk);

    for (unsigned i = 0; i < QUEUES; i++) {
        check_first(c, i);
    }
    /* Often enough for the packed ring to wrap */
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < QUEUES; i++) {
            check_queue(c, ring, i);
        }
    }
}

/**
 * RingsCase: every kind of ring, notified in one way.
 */
typedef struct RingsCase {
    const char *path;
    MqBell bell;
    const char *props;
    unsigned variants;
    unsigned accels;
} RingsCase;

static void test_rings(const MqVariant *v, const MqAccel *accel,
                       const void *what)
{
    const RingsCase *rings = what;
    MqCpus *c = open_disk(v, accel, rings->bell, rings->props);

    c->disk.d->largest = 16;
    mq_disk_for_each_ring(&c->disk, check_ring);
    mq_cpus_stop(c);
}

/*
 * How often KVM has come back to QEMU for an access to memory; -1 if the kernel
 * does not count that
 */
static int64_t mmio_exits(MqCpus *c)
{
    QDict *rsp = qtest_qmp(c->disk.m->qts, "{'execute': 'query-stats',"
                           " 'arguments': {'target': 'vcpu', 'providers':"
                           " [{'provider': 'kvm', 'names': ['mmio_exits']}]}}");
    QList *vcpus = qdict_get_qlist(rsp, "return");
    int64_t value = -1;

    if (vcpus && !qlist_empty(vcpus)) {
        QDict *vcpu = qobject_to(QDict, qlist_entry_obj(qlist_first(vcpus)));
        QList *stats = qdict_get_qlist(vcpu, "stats");
        QDict *stat = qobject_to(QDict, qlist_entry_obj(qlist_first(stats)));

        value = qdict_get_int(stat, "value");
    }
    qobject_unref(rsp);
    return value;
}

static void check_exits(const MqVariant *v, const MqAccel *accel,
                        const char *props, bool in_kernel)
{
    MqCpus *c = open_disk(v, accel, MQ_BELL_BY_MMIO, props);
    int64_t before = mmio_exits(c);

    if (before < 0) {
        g_test_skip("this kernel's KVM does not count exits");
    }
    mq_device_start(c->disk.d, 0, MQ_ALL_QUEUES);
    for (unsigned i = 0; before >= 0 && i < QUEUES; i++) {
        before = mmio_exits(c);
        mq_write(c->disk.d->queues[i], i, MQ_SECTOR, i);
        g_assert_cmpint(mmio_exits(c) - before, ==, !in_kernel);
    }
    mq_cpus_stop(c);
}

/* An ioeventfd is what it is for: KVM does not ask QEMU. */
static void test_exits(const MqVariant *v, const MqAccel *accel)
{
    check_exits(v, accel, "iothread=io0", true);
    check_exits(v, accel, "ioeventfd=off", false);
}

/* One request on each queue, each with its interrupt */
static void check_works(MqCpus *c)
{
    for (unsigned i = 0; i < QUEUES && c->disk.d->queues[i]; i++) {
        MqCounts *before = mq_counts_take(c);

        mq_request_finish(submit(c->disk.d->queues[i], false, i, i));
        mq_counts_check(c, before, 0, MQ_CPU_VECTOR(i + 1), 1);
    }
}

/* Kick all queues that there are, and many that there are not. */
static void kick_all(MqCpus *c)
{
    static const uint16_t others[] = {
        QUEUES, 5, 64, 1023, 1024, 1025, 0x7fff, 0x8000, 0xffff
    };
    MqDevice *d = c->disk.d;
    uint32_t address = c->bell == MQ_BELL_BY_PORT
                       ? c->port : mq_far_pointer(d->bar.addr + d->notify);

    for (unsigned i = 0; i < QUEUES; i++) {
        mq_device_notify(d, i);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(others); i++) {
        mq_cpu_op(c, 0, c->bell == MQ_BELL_BY_PORT ? MQ_OP_OUTW : MQ_OP_POKEW,
                  address, others[i]);
    }
    if (c->bell == MQ_BELL_BY_MMIO) {
        /* Up to the end of the structure for notifications */
        for (unsigned i = 0; i < 0x1000; i += 0x3fe) {
            mq_cpu_op(c, 0, MQ_OP_POKEW, mq_far_pointer(d->bar.addr +
                                                        d->notify + i), i);
        }
    }
}

/* Out of turn: before the driver, of queues not set up, after a reset. */
static void check_bad(const MqVariant *v, const MqAccel *accel, MqBell bell,
                      const char *props)
{
    MqCpus *c = open_disk(v, accel, bell, props);
    MqCounts *before = mq_counts_take(c);

    kick_all(c);
    mq_device_negotiate(c->disk.d, ~MQ_RING_FEATURES);
    kick_all(c);
    mq_counts_check(c, before, 0, MQ_CPU_VECTOR(0), 0);
    for (unsigned round = 0; round < 2; round++) {
        mq_device_start(c->disk.d, 0, 2);
        check_works(c);
        before = mq_counts_take(c);
        kick_all(c);
        mq_counts_check(c, before, 0, MQ_CPU_VECTOR(0), 0);
        check_works(c);
        before = mq_counts_take(c);
        mq_device_reset(c->disk.d);
        kick_all(c);
        mq_counts_check(c, before, 0, MQ_CPU_VECTOR(0), 0);
    }
    mq_device_start(c->disk.d, 0, MQ_ALL_QUEUES);
    check_works(c);
    mq_cpus_stop(c);
}

static void test_bad_port(const MqVariant *v, const MqAccel *accel)
{
    check_bad(v, accel, MQ_BELL_BY_PORT, "iothread=io0");
    check_bad(v, accel, MQ_BELL_BY_PORT, "ioeventfd=off");
}

static void test_bad_mmio(const MqVariant *v, const MqAccel *accel)
{
    check_bad(v, accel, MQ_BELL_BY_MMIO, "iothread=io0");
    check_bad(v, accel, MQ_BELL_BY_MMIO, "ioeventfd=off");
}

#define PC (MQ_PC_LEGACY | MQ_PC_MODERN)

static const RingsCase cases[] = {
    { "rings/port", MQ_BELL_BY_PORT, "iothread=io0", PC | MQ_Q35_MODERN,
      MQ_ALL_APIC },
    { "rings/port-no-ioeventfd", MQ_BELL_BY_PORT, "ioeventfd=off", PC,
      MQ_WITH_APIC },
    { "rings/mmio", MQ_BELL_BY_MMIO, "iothread=io0", MQ_PC_MODERN,
      MQ_ALL_APIC },
    { "rings/mmio-no-ioeventfd", MQ_BELL_BY_MMIO, "ioeventfd=off",
      MQ_PC_MODERN, MQ_WITH_APIC },
    { "rings/config", MQ_BELL_BY_CONFIG, "iothread=io0", MQ_MODERN,
      MQ_ONE_EACH },
    { "rings/config-no-ioeventfd", MQ_BELL_BY_CONFIG, "ioeventfd=off",
      MQ_MODERN, MQ_ONE_EACH },
};

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        mq_cpu_test_add_with(cases[i].path, test_rings, &cases[i],
                             cases[i].variants, cases[i].accels);
    }
    mq_cpu_test_add("rings/exits", test_exits, MQ_PC_MODERN,
                    MQ_KVM | MQ_KVM_SPLIT);
    mq_cpu_test_add("rings/bad-port", test_bad_port, PC, MQ_WITH_APIC);
    mq_cpu_test_add("rings/bad-mmio", test_bad_mmio, MQ_PC_MODERN,
                    MQ_WITH_APIC);
    return g_test_run();
}
