/*
 * A disk's life while a guest's CPUs use it
 *
 *     CPU 0 drives all queues: a batch, its interrupt, the next batch
 *     CPU 1 kicks all queues without need, even those that are gone
 *
 * A kick or an interrupt that is lost stops CPU 0's work for ever.  But while
 * CPU 1 kicks, a lost kick of CPU 0 has no effect.  So CPU 1 begins later.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qobject/qdict.h"
#include "vblk-cpu.h"

#define QUEUES 4
#define DRIVER 0
#define STORM 1

/* Batches on each queue between disturbances */
#define TURNS 4

/**
 * Load: a machine at work.
 * @storm: CPU 1 kicks
 * @stops: how often an error has stopped the machine so far
 */
typedef struct Load {
    VblkCpus *c;
    uint64_t features;
    bool intx;
    bool storm;
    unsigned stops;
} Load;

static VblkBell bell(const VblkVariant *v)
{
    return v->pcie ? VBLK_BELL_BY_PORT : VBLK_BELL_BY_MMIO;
}

/* From a device that is open to CPU 0 at work */
static void drive(Load *l)
{
    VblkCpus *c = l->c;
    VblkDevice *d = c->disk.d;

    vblk_device_negotiate(d, ~(VBLK_RING_FEATURES & ~l->features));
    for (unsigned i = 0; i < QUEUES; i++) {
        vblk_cpu_drive_queue(c, DRIVER, i, l->intx ? UINT_MAX
                                           : MIN(i + 1, d->num_vectors - 1));
    }
    vblk_device_set_driver_ok(d);
    vblk_cpu_drive_begin(c, DRIVER);
}

static Load *load_begin(const VblkVariant *v, const VblkAccel *accel,
                        const char *props, const char *blkdebug,
                        uint64_t features)
{
    Load *l = g_new0(Load, 1);
    g_autofree char *all = g_strdup_printf("num-queues=4,%s%s", props,
                                           v->pcie ? ",modern-pio-notify=on"
                                           : "");

    l->features = features;
    l->c = vblk_cpus_start(v, accel, (VblkCpusConfig) {
        .cpus = accel->apic ? 2 : 1,
        .props = all,
        .blkdebug = blkdebug,
    });
    if (accel->apic) {
        vblk_cpus_sipi(l->c);
    }
    vblk_cpus_open(l->c, bell(v));
    if (!l->c->disk.d->num_vectors) {
        l->intx = true;
        vblk_cpus_intx(l->c);
    }
    drive(l);
    l->stops = vblk_cpu_drive_go_on(l->c, DRIVER, TURNS);
    return l;
}

static void storm(Load *l)
{
    l->storm = true;
    vblk_cpu_storm_begin(l->c, STORM, QUEUES);
}

static void load_end(Load *l)
{
    vblk_cpu_drive_go_on(l->c, DRIVER, TURNS);
    vblk_cpu_drive_end(l->c, DRIVER);
    if (l->storm) {
        vblk_cpu_storm_go_on(l->c, STORM, 1);
        vblk_cpu_storm_end(l->c, STORM);
    }
    vblk_cpus_stop(l->c);
    g_free(l);
}

static void command(VblkCpus *c, const char *name)
{
    qtest_qmp_assert_success(c->disk.m->qts, "{'execute': %s}", name);
}

static void nothing(VblkCpus *c, unsigned i)
{
}

static void move(VblkCpus *c, unsigned i)
{
    static const char *const homes[] = { "io0", "io1", NULL };
    const char *home = homes[i % ARRAY_SIZE(homes)];

    vblk_disk_move(&c->disk, i % QUEUES, home);
    vblk_disk_check_home(&c->disk, i % QUEUES, home);
}

/* Each queue has its CPU, which drives it and hears of it; queues move. */
static void test_cpus(const VblkVariant *v, const VblkAccel *accel)
{
    VblkCpus *c = vblk_cpus_start(v, accel, (VblkCpusConfig) {
        .cpus = QUEUES,
        .props = "num-queues=4,iothread=io0",
    });

    vblk_cpus_sipi(c);
    vblk_cpus_open(c, bell(v));
    vblk_device_negotiate(c->disk.d, ~VBLK_RING_FEATURES);
    for (unsigned i = 0; i < QUEUES; i++) {
        vblk_cpus_route(c, i + 1, i, VBLK_CPU_VECTOR(i + 1));
        vblk_cpu_drive_queue(c, i, i, i + 1);
    }
    vblk_device_set_driver_ok(c->disk.d);
    for (unsigned i = 0; i < QUEUES; i++) {
        vblk_cpu_drive_begin(c, i);
    }
    for (unsigned i = 0; i < 8; i++) {
        move(c, i);
        for (unsigned cpu = 0; cpu < QUEUES; cpu++) {
            vblk_cpu_drive_go_on(c, cpu, TURNS);
        }
    }
    for (unsigned i = 0; i < QUEUES; i++) {
        vblk_cpu_drive_end(c, i);
    }
    vblk_cpus_stop(c);
}

/* Stopped, the guest's work does not go on, and nothing is lost. */
static void stop_cont(VblkCpus *c, unsigned i)
{
    unsigned turns;

    command(c, "stop");
    turns = vblk_cpu_drive_turns(c, DRIVER);
    move(c, i);
    g_assert_cmpuint(vblk_cpu_drive_turns(c, DRIVER), ==, turns);
    command(c, "cont");
}

/* Masked under load, a vector stands still, and goes on when unmasked. */
static void mask(VblkCpus *c, unsigned i)
{
    unsigned vector = 1 + i % QUEUES;
    gint64 start = g_get_monotonic_time();
    uint32_t count;

    vblk_vector_mask(c->disk.d, vector, true);
    while (!vblk_vector_pending(c->disk.d, vector)) {
        vblk_cpu_storm_go_on(c, STORM, 1);
        vblk_deadline(start, "a pending bit");
    }
    count = vblk_cpu_count(c, DRIVER, VBLK_CPU_VECTOR(vector));
    vblk_cpu_storm_go_on(c, STORM, 16);
    g_assert_cmpuint(vblk_cpu_count(c, DRIVER, VBLK_CPU_VECTOR(vector)), ==,
                     count);
    vblk_vector_mask(c->disk.d, vector, false);
}

static void test_mask(const VblkVariant *v, const VblkAccel *accel)
{
    Load *l = load_begin(v, accel, "iothread=io0", NULL, 0);

    storm(l);
    for (unsigned i = 0; i < 8; i++) {
        mask(l->c, i);
        vblk_cpu_drive_go_on(l->c, DRIVER, TURNS);
    }
    load_end(l);
}

/* The driver resets the device; CPU 1 goes on kicking. */
static void test_reset(const VblkVariant *v, const VblkAccel *accel)
{
    Load *l = load_begin(v, accel, "iothread=io0", NULL, 0);

    storm(l);
    for (unsigned i = 0; i < 4; i++) {
        vblk_device_reset(l->c->disk.d);
        vblk_cpu_storm_go_on(l->c, STORM, 8);
        vblk_cpu_drive_abandon(l->c, DRIVER);
        drive(l);
        vblk_cpu_drive_go_on(l->c, DRIVER, TURNS);
    }
    load_end(l);
}

/* The machine is reset, and its CPUs begin anew. */
static void test_system_reset(const VblkVariant *v, const VblkAccel *accel)
{
    Load *l = load_begin(v, accel, "iothread=io0", NULL, 0);

    storm(l);
    for (unsigned i = 0; i < 3; i++) {
        vblk_cpus_reset(l->c);
        vblk_cpus_sipi(l->c);
        vblk_cpus_open(l->c, bell(v));
        drive(l);
        storm(l);
        vblk_cpu_drive_go_on(l->c, DRIVER, TURNS);
    }
    load_end(l);
}

/* The disk goes while it works, CPU 1 kicks what is no more, it comes back. */
static void test_unplug(const VblkVariant *v, const VblkAccel *accel)
{
    Load *l = load_begin(v, accel, "iothread=io0", NULL, 0);
    VblkCpus *c = l->c;

    storm(l);
    for (unsigned i = 0; i < 3; i++) {
        vblk_device_del(c->disk.m, 0);
        vblk_cpu_storm_go_on(c, STORM, 8);
        vblk_cpu_drive_abandon(c, DRIVER);
        vblk_device_close(c->disk.d);
        g_assert_null(vblk_device_add(c->disk.m, 0, "'drive': 'disk',"
                                      " 'num-queues': 4, 'iothread': 'io1',"
                                      " 'modern-pio-notify': true"));
        vblk_cpus_open(c, VBLK_BELL_BY_PORT);
        drive(l);
        vblk_cpu_drive_go_on(c, DRIVER, TURNS);
    }
    load_end(l);
}

/* Some writes fail and stop the machine.  They are tried again. */
#define ERRORS \
    "inject-error.0.event=none,inject-error.0.iotype=write," \
    "inject-error.0.once=on,inject-error.0.sector=0," \
    "inject-error.1.event=none,inject-error.1.iotype=write," \
    "inject-error.1.once=on,inject-error.1.sector=40," \
    "inject-error.2.event=none,inject-error.2.iotype=write," \
    "inject-error.2.once=on,inject-error.2.sector=80," \
    "inject-error.3.event=none,inject-error.3.iotype=write," \
    "inject-error.3.once=on,inject-error.3.sector=120"

static void test_werror(const VblkVariant *v, const VblkAccel *accel)
{
    Load *l = load_begin(v, accel, "iothread=io0,werror=stop", ERRORS, 0);

    g_assert_cmpuint(l->stops, >, 0);
    load_end(l);
}

static void migrate(VblkCpus *c, unsigned i)
{
    vblk_cpus_migrate(c, i & 1);
}

/**
 * Disturbance: an operation that is repeated and must do no harm.
 */
typedef struct Disturbance {
    const char *path;
    const char *props;
    uint64_t features;
    void (*disturb)(VblkCpus *c, unsigned i);
    unsigned times;
    unsigned variants;
    unsigned accels;
} Disturbance;

#define EVENT BIT_ULL(VIRTIO_RING_F_EVENT_IDX)

static const Disturbance disturbances[] = {
    { "load/plain", "iothread=io0", 0, nothing, 4, VBLK_MODERN, VBLK_ALL_APIC },
    { "load/event", "iothread=io0", EVENT, nothing, 4, VBLK_PC_MODERN,
      VBLK_WITH_APIC },
    { "load/shared", "iothread=io0,vectors=3", 0, nothing, 4, VBLK_PC_MODERN,
      VBLK_WITH_APIC },
    { "load/no-ioeventfd", "ioeventfd=off", 0, nothing, 4, VBLK_PC_MODERN,
      VBLK_WITH_APIC },
    { "load/intx", "iothread=io0,vectors=0", 0, nothing, 4, VBLK_PC_MODERN,
      VBLK_ANY_ACCEL },
    { "load/move", "iothread=io0", 0, move, 8, VBLK_MODERN, VBLK_WITH_APIC },
    { "load/auto", "iothreads=auto", EVENT, move, 6, VBLK_PC_MODERN,
      VBLK_ONE_EACH },
    { "load/stop", "iothread=io0", 0, stop_cont, 6, VBLK_PC_MODERN,
      VBLK_WITH_APIC },
    { "load/migrate", "iothread=io0", 0, migrate, 4, VBLK_MODERN,
      VBLK_WITH_APIC },
    { "load/migrate-event", "iothread=io0", EVENT, migrate, 4, VBLK_PC_MODERN,
      VBLK_ONE_EACH },
};

/* From half-way on CPU 1 kicks, too. */
static void test_disturbed(const VblkVariant *v, const VblkAccel *accel,
                           const void *what)
{
    const Disturbance *d = what;
    Load *l = load_begin(v, accel, d->props, NULL, d->features);

    for (unsigned i = 0; i < d->times; i++) {
        if (i == d->times / 2 && accel->apic) {
            storm(l);
        }
        d->disturb(l->c, i);
        vblk_cpu_drive_go_on(l->c, DRIVER, TURNS);
    }
    load_end(l);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < ARRAY_SIZE(disturbances); i++) {
        vblk_cpu_test_add_with(disturbances[i].path, test_disturbed,
                               &disturbances[i], disturbances[i].variants,
                               disturbances[i].accels);
    }
    vblk_cpu_test_add("load/cpus", test_cpus, VBLK_PC_MODERN, VBLK_WITH_APIC);
    vblk_cpu_test_add("load/mask", test_mask, VBLK_PC_MODERN, VBLK_ALL_APIC);
    vblk_cpu_test_add("load/reset", test_reset, VBLK_PC_MODERN, VBLK_WITH_APIC);
    vblk_cpu_test_add("load/system-reset", test_system_reset, VBLK_MODERN,
                      VBLK_ONE_EACH);
    vblk_cpu_test_add("load/unplug", test_unplug, VBLK_MODERN, VBLK_ONE_EACH);
    vblk_cpu_test_add("load/werror", test_werror, VBLK_PC_MODERN,
                      VBLK_WITH_APIC);
    return g_test_run();
}
