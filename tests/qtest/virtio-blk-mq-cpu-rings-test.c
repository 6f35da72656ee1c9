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
#include "vblk-cpu.h"

#define QUEUES 4
#define RING_PROPS "num-queues=4,packed=on,"

static VblkCpus *open_disk(const VblkVariant *v, const VblkAccel *accel,
                           VblkBell bell, const char *props)
{
    bool port = v->modern && bell == VBLK_BELL_BY_PORT;
    g_autofree char *all = g_strdup_printf(RING_PROPS "%s%s", props, port
                                           ? ",modern-pio-notify=on" : "");
    VblkCpus *c = vblk_cpus_start(v, accel, (VblkCpusConfig) { .props = all });

    vblk_cpus_open(c, bell);
    return c;
}

static VblkRequest *submit(VblkQueue *q, bool indirect, uint64_t sector,
                           uint32_t seed)
{
    VblkRequest *r = vblk_write_new(q, sector, VBLK_SECTOR, seed);

    vblk_request_add_segs(r, (const VblkSegment[]) {
        { r->header, 16, false },
        { r->data, r->len, false },
        { r->status, 1, true },
    }, 3, indirect);
    vblk_queue_kick(q);
    return r;
}

/* Two requests, one after the other, of which the last one interrupts. */
static void check_queue(VblkCpus *c, const VblkRing *ring, unsigned i)
{
    VblkQueue *q = c->disk.d->queues[i];
    bool event = ring->features & BIT_ULL(VIRTIO_RING_F_EVENT_IDX);
    VblkCounts *before = vblk_counts_take(c);

    if (event) {
        unsigned per_request = c->disk.d->features &
                               BIT_ULL(VIRTIO_F_RING_PACKED) &&
                               !ring->indirect ? 3 : 1;

        vblk_queue_set_event(q, per_request);
    } else {
        vblk_queue_suppress(q, true);
    }
    vblk_request_finish(submit(q, ring->indirect, i, i + 1));
    if (!event) {
        vblk_queue_suppress(q, false);
    }
    vblk_request_finish(submit(q, ring->indirect, 8 + i, i + 11));
    vblk_counts_check(c, before, 0, VBLK_CPU_VECTOR(i + 1), 1);

    before = vblk_counts_take(c);
    if (event) {
        vblk_queue_set_event(q, 0);
    }
    vblk_read(q, i, VBLK_SECTOR, i + 1);
    vblk_counts_check(c, before, 0, VBLK_CPU_VECTOR(i + 1), 1);
}

/* The first answer of all may interrupt even if that is not asked for. */
static void check_first(VblkCpus *c, unsigned i)
{
    VblkCounts *before = vblk_counts_take(c);

    vblk_write(c->disk.d->queues[i], i, VBLK_SECTOR, 1);
    vblk_counts_check(c, before, 0, VBLK_CPU_VECTOR(i + 1), 1);
}

static void check_ring(VblkDisk *disk, const VblkRing *ring)
{
    VblkCpus *c = container_of(disk, VblkCpus, disk);

    for (unsigned i = 0; i < QUEUES; i++) {
        check_first(c, i);
    }
    /* Repeat this so often that the packed ring wraps. */
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < QUEUES; i++) {
            check_queue(c, ring, i);
        }
    }
}

/**
 * RingsCase: all kinds of rings with one kind of notification.
 */
typedef struct RingsCase {
    const char *path;
    VblkBell bell;
    const char *props;
    unsigned variants;
    unsigned accels;
} RingsCase;

static void test_rings(const VblkVariant *v, const VblkAccel *accel,
                       const void *what)
{
    const RingsCase *rings = what;
    VblkCpus *c = open_disk(v, accel, rings->bell, rings->props);

    c->disk.d->largest = 16;
    vblk_disk_for_each_ring(&c->disk, check_ring);
    vblk_cpus_stop(c);
}

/*
 * Return how often KVM has returned to QEMU for an access to memory, or -1 if
 * the kernel does not count that.
 */
static int64_t mmio_exits(VblkCpus *c)
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

static void check_exits(const VblkVariant *v, const VblkAccel *accel,
                        const char *props, bool in_kernel)
{
    VblkCpus *c = open_disk(v, accel, VBLK_BELL_BY_MMIO, props);
    int64_t before = mmio_exits(c);

    if (before < 0) {
        g_test_skip("this kernel's KVM does not count exits");
    }
    vblk_device_start(c->disk.d, 0, VBLK_ALL_QUEUES);
    for (unsigned i = 0; before >= 0 && i < QUEUES; i++) {
        before = mmio_exits(c);
        vblk_write(c->disk.d->queues[i], i, VBLK_SECTOR, i);
        g_assert_cmpint(mmio_exits(c) - before, ==, !in_kernel);
    }
    vblk_cpus_stop(c);
}

/* An ioeventfd is what it is for: KVM does not ask QEMU. */
static void test_exits(const VblkVariant *v, const VblkAccel *accel)
{
    check_exits(v, accel, "iothread=io0", true);
    check_exits(v, accel, "ioeventfd=off", false);
}

/* Check that a request on each queue works, each with its interrupt. */
static void check_works(VblkCpus *c)
{
    for (unsigned i = 0; i < QUEUES && c->disk.d->queues[i]; i++) {
        VblkCounts *before = vblk_counts_take(c);

        vblk_request_finish(submit(c->disk.d->queues[i], false, i, i));
        vblk_counts_check(c, before, 0, VBLK_CPU_VECTOR(i + 1), 1);
    }
}

/* Kick all queues that there are, and many that there are not. */
static void kick_all(VblkCpus *c)
{
    static const uint16_t others[] = {
        QUEUES, 5, 64, 1023, 1024, 1025, 0x7fff, 0x8000, 0xffff
    };
    VblkDevice *d = c->disk.d;
    uint32_t address = c->bell == VBLK_BELL_BY_PORT
                       ? c->port : vblk_far_pointer(d->bar.addr + d->notify);

    for (unsigned i = 0; i < QUEUES; i++) {
        vblk_device_notify(d, i);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(others); i++) {
        vblk_cpu_op(c, 0, c->bell == VBLK_BELL_BY_PORT ? VBLK_OP_OUTW
                                                       : VBLK_OP_POKEW,
                    address, others[i]);
    }
    if (c->bell == VBLK_BELL_BY_MMIO) {
        /* Up to the end of the structure for notifications */
        for (unsigned i = 0; i < 0x1000; i += 0x3fe) {
            vblk_cpu_op(c, 0, VBLK_OP_POKEW,
                        vblk_far_pointer(d->bar.addr + d->notify + i), i);
        }
    }
}

/* Kick too early, kick queues that are not set up, and kick after a reset. */
static void check_bad(const VblkVariant *v, const VblkAccel *accel,
                      VblkBell bell, const char *props)
{
    VblkCpus *c = open_disk(v, accel, bell, props);
    VblkCounts *before = vblk_counts_take(c);

    kick_all(c);
    vblk_device_negotiate(c->disk.d, ~VBLK_RING_FEATURES);
    kick_all(c);
    vblk_counts_check(c, before, 0, VBLK_CPU_VECTOR(0), 0);
    for (unsigned round = 0; round < 2; round++) {
        vblk_device_start(c->disk.d, 0, 2);
        check_works(c);
        before = vblk_counts_take(c);
        kick_all(c);
        vblk_counts_check(c, before, 0, VBLK_CPU_VECTOR(0), 0);
        check_works(c);
        before = vblk_counts_take(c);
        vblk_device_reset(c->disk.d);
        kick_all(c);
        vblk_counts_check(c, before, 0, VBLK_CPU_VECTOR(0), 0);
    }
    vblk_device_start(c->disk.d, 0, VBLK_ALL_QUEUES);
    check_works(c);
    vblk_cpus_stop(c);
}

static void test_bad_port(const VblkVariant *v, const VblkAccel *accel)
{
    check_bad(v, accel, VBLK_BELL_BY_PORT, "iothread=io0");
    check_bad(v, accel, VBLK_BELL_BY_PORT, "ioeventfd=off");
}

static void test_bad_mmio(const VblkVariant *v, const VblkAccel *accel)
{
    check_bad(v, accel, VBLK_BELL_BY_MMIO, "iothread=io0");
    check_bad(v, accel, VBLK_BELL_BY_MMIO, "ioeventfd=off");
}

#define PC (VBLK_PC_LEGACY | VBLK_PC_MODERN)

static const RingsCase cases[] = {
    { "rings/port", VBLK_BELL_BY_PORT, "iothread=io0", PC | VBLK_Q35_MODERN,
      VBLK_ALL_APIC },
    { "rings/port-no-ioeventfd", VBLK_BELL_BY_PORT, "ioeventfd=off", PC,
      VBLK_WITH_APIC },
    { "rings/mmio", VBLK_BELL_BY_MMIO, "iothread=io0", VBLK_PC_MODERN,
      VBLK_ALL_APIC },
    { "rings/mmio-no-ioeventfd", VBLK_BELL_BY_MMIO, "ioeventfd=off",
      VBLK_PC_MODERN, VBLK_WITH_APIC },
    { "rings/config", VBLK_BELL_BY_CONFIG, "iothread=io0", VBLK_MODERN,
      VBLK_ONE_EACH },
    { "rings/config-no-ioeventfd", VBLK_BELL_BY_CONFIG, "ioeventfd=off",
      VBLK_MODERN, VBLK_ONE_EACH },
};

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        vblk_cpu_test_add_with(cases[i].path, test_rings, &cases[i],
                               cases[i].variants, cases[i].accels);
    }
    vblk_cpu_test_add("rings/exits", test_exits, VBLK_PC_MODERN,
                      VBLK_KVM | VBLK_KVM_SPLIT);
    vblk_cpu_test_add("rings/bad-port", test_bad_port, PC, VBLK_WITH_APIC);
    vblk_cpu_test_add("rings/bad-mmio", test_bad_mmio, VBLK_PC_MODERN,
                      VBLK_WITH_APIC);
    return g_test_run();
}
