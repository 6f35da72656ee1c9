/*
 * Errors of the disk and the policies for them, on several queues
 *
 *     report:  VIRTIO_BLK_S_IOERR
 *     ignore:  as if nothing had happened
 *     stop:    the machine stops, the failed requests wait in the device;
 *              cont        runs them again
 *              reset       drops them
 *              migration   takes them along
 *
 * The disk is slow, so that the device has taken the requests of all queues
 * before the first one fails.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "standard-headers/linux/virtio_blk.h"
#include "vblk-disk.h"

#define QUEUES 4
#define IMAGE_SIZE (1024 * 1024)
#define SPLIT BIT_ULL(VIRTIO_RING_F_EVENT_IDX)
#define PACKED (SPLIT | BIT_ULL(VIRTIO_F_RING_PACKED))

#define MAPPED "'iothread-vq-mapping': [{'iothread': 'io0'}," \
               "{'iothread': 'io1'}]"

/* Registers */
#define HPET 0xfed00000ull

/* The sector of the n-th request of a test */
#define SECTOR_OF(n) (64 + 8 * (n))

typedef struct Fixture {
    VblkDisk disk;
    VblkRequest *r[QUEUES];
} Fixture;

/* On @m, a disk whose first access to each of QUEUES places fails. */
static void plug(VblkMachine *m, const char *image, const char *iotype,
                 const char *json)
{
    g_autofree char *props =
        g_strdup_printf("'drive': 'disk', 'num-queues': %u, 'packed': true,"
                        "%s", QUEUES, json);
    g_autoptr(GString) errors = g_string_new("[");

    for (unsigned i = 0; iotype && i < QUEUES; i++) {
        g_string_append_printf(errors, "%s{'event': 'none', 'iotype': '%s',"
                               "'sector': %u, 'once': true, 'errno': 5}",
                               i ? "," : "", iotype, SECTOR_OF(i));
    }
    g_string_append(errors, "]");
    vblk_slow_disk_add(m, image, iotype ? errors->str : NULL);
    g_assert_cmpstr(vblk_device_add(m, 0, props), ==, NULL);
}

static Fixture setup_ring(const VblkVariant *v, const char *iotype,
                          const char *json, uint64_t ring_features)
{
    Fixture f = { .disk.image = vblk_image_new(IMAGE_SIZE) };

    f.disk.m = vblk_machine_start(v, VBLK_IOTHREADS);
    plug(f.disk.m, f.disk.image, iotype, json);
    f.disk.d = vblk_device_open(f.disk.m, 0);
    vblk_device_start(f.disk.d, ring_features, VBLK_ALL_QUEUES);
    return f;
}

static Fixture setup(const VblkVariant *v, const char *iotype, const char *json)
{
    return setup_ring(v, iotype, json, SPLIT);
}

/*
 * A request on each queue, bound to fail, in the hands of the device.  They
 * cannot fail before the one that is returned has ended.
 */
static VblkRequest *submit_slow(Fixture *f, bool write)
{
    VblkRequest *first = vblk_read_new(f->disk.d->queues[0], 0, VBLK_SECTOR);

    /* This request uses up all that the throttle lets through at once. */
    vblk_request_submit(first);
    vblk_queue_wait_taken(f->disk.d->queues[0]);
    for (unsigned i = 0; i < QUEUES; i++) {
        VblkQueue *q = f->disk.d->queues[i];

        f->r[i] = write ? vblk_write_new(q, SECTOR_OF(i), 4096, 10 + i)
                        : vblk_read_new(q, SECTOR_OF(i), 4096);
        vblk_request_submit(f->r[i]);
        vblk_queue_wait_taken(q);
        g_assert_false(f->r[i]->done);
    }
    return first;
}

static void finish_first(VblkRequest *first)
{
    g_assert_cmphex(vblk_request_wait_throttled(first), ==,
                    VIRTIO_BLK_S_OK);
    vblk_request_free(first);
}

static void submit(Fixture *f, bool write)
{
    finish_first(submit_slow(f, write));
}

static char *run_state(VblkMachine *m)
{
    QDict *rsp = qtest_qmp_assert_success_ref(m->qts, "{'execute':"
                                              " 'query-status'}");
    char *state = g_strdup(qdict_get_str(rsp, "status"));

    qobject_unref(rsp);
    return state;
}

/* Let time pass until the machine stops; then all requests are held. */
static void wait_stopped(Fixture *f)
{
    gint64 start = g_get_monotonic_time();
    g_autofree char *state = NULL;

    while (g_strcmp0(state, "io-error")) {
        vblk_clock_advance(f->disk.m, VBLK_STEP_MS);
        g_free(state);
        state = run_state(f->disk.m);
        vblk_deadline(start, "an error to stop the machine");
    }
    for (unsigned i = 0; i < QUEUES; i++) {
        vblk_queue_reap(f->disk.d->queues[i]);
        g_assert_false(f->r[i]->done);
        g_assert_cmphex(vblk_request_status(f->r[i]), ==, VBLK_STATUS_NONE);
    }
}

static void cont(VblkMachine *m)
{
    qtest_qmp_assert_success(m->qts, "{'execute': 'cont'}");
}

static void finish_all(Fixture *f)
{
    for (unsigned i = 0; i < QUEUES; i++) {
        g_assert_cmphex(vblk_request_wait_throttled(f->r[i]), ==,
                        VIRTIO_BLK_S_OK);
        vblk_request_free(f->r[i]);
    }
}

/* Check that the writes of submit() are on the disk. */
static void check_written(Fixture *f)
{
    for (unsigned i = 0; i < QUEUES; i++) {
        VblkRequest *r = vblk_read_new(f->disk.d->queues[(i + 1) % QUEUES],
                                       SECTOR_OF(i), 4096);

        vblk_request_submit(r);
        g_assert_cmphex(vblk_request_wait_throttled(r), ==,
                        VIRTIO_BLK_S_OK);
        vblk_read_check(r, 10 + i);
        vblk_request_free(r);
    }
}

static void test_stop_write(const VblkVariant *v, const char *json)
{
    Fixture f = setup(v, "write", json);

    submit(&f, true);
    wait_stopped(&f);
    cont(f.disk.m);
    finish_all(&f);
    check_written(&f);
    vblk_disk_stop(&f.disk);
}

static void test_stop_read(const VblkVariant *v)
{
    Fixture f = setup(v, "read", "'rerror': 'stop', " MAPPED);

    submit(&f, false);
    wait_stopped(&f);
    cont(f.disk.m);
    for (unsigned i = 0; i < QUEUES; i++) {
        uint8_t zeroes[4096] = { 0 }, got[4096];

        g_assert_cmphex(vblk_request_wait_throttled(f.r[i]), ==,
                        VIRTIO_BLK_S_OK);
        qtest_memread(f.disk.m->qts, f.r[i]->data, got, sizeof(got));
        g_assert_cmpmem(got, sizeof(got), zeroes, sizeof(zeroes));
    }
    vblk_disk_stop(&f.disk);
}

/* The driver resets the device while requests are held. */
static void test_stop_reset(const VblkVariant *v)
{
    Fixture f = setup(v, "write", "'werror': 'stop', " MAPPED);
    uint64_t statuses[QUEUES];

    submit(&f, true);
    wait_stopped(&f);
    for (unsigned i = 0; i < QUEUES; i++) {
        statuses[i] = f.r[i]->status;
    }
    vblk_device_reset(f.disk.d);
    cont(f.disk.m);
    vblk_device_start(f.disk.d, SPLIT, VBLK_ALL_QUEUES);
    for (unsigned i = 0; i < QUEUES; i++) {
        g_assert_cmphex(qtest_readb(f.disk.m->qts, statuses[i]), ==,
                        VBLK_STATUS_NONE);
    }
    submit(&f, true);
    finish_all(&f);
    check_written(&f);
    vblk_disk_stop(&f.disk);
}

/*
 * An answer behind a held request is not shown, because answers are in order.
 * If the driver resets the device, both are dropped.
 */
static void check_reset_in_order(const VblkVariant *v, uint64_t ring_features)
{
    uint64_t features = ring_features | BIT_ULL(VIRTIO_F_IN_ORDER);
    Fixture f = setup_ring(v, "write", "'in_order': true, 'werror': 'stop'",
                           features);
    VblkRequest *first = submit_slow(&f, true);
    VblkQueue *q = f.disk.d->queues[QUEUES - 1];
    VblkRequest *behind = vblk_request_new(q, VIRTIO_BLK_T_GET_ID, 0,
                                           VIRTIO_BLK_ID_BYTES);

    vblk_request_submit(behind);
    vblk_queue_wait_taken(q);
    finish_first(first);
    wait_stopped(&f);
    g_assert_false(behind->done);
    vblk_device_reset(f.disk.d);
    cont(f.disk.m);
    vblk_device_start(f.disk.d, features, VBLK_ALL_QUEUES);
    q = f.disk.d->queues[QUEUES - 1];
    g_assert_cmphex(vblk_request_run(q, VIRTIO_BLK_T_GET_ID, 0, NULL,
                                     VIRTIO_BLK_ID_BYTES), ==,
                    VIRTIO_BLK_S_OK);
    /* This fails if the device shows a request that nobody has submitted. */
    vblk_queue_reap(q);
    submit(&f, true);
    finish_all(&f);
    check_written(&f);
    vblk_disk_stop(&f.disk);
}

static void test_reset_in_order(const VblkVariant *v)
{
    check_reset_in_order(v, SPLIT);
    check_reset_in_order(v, PACKED);
}

static void check_statuses(const VblkVariant *v, const char *iotype,
                           const char *json, uint8_t status)
{
    Fixture f = setup(v, iotype, json);

    submit(&f, !strcmp(iotype, "write"));
    for (unsigned i = 0; i < QUEUES; i++) {
        g_assert_cmphex(vblk_request_wait_throttled(f.r[i]), ==,
                        status);
    }
    vblk_disk_stop(&f.disk);
}

static void test_report(const VblkVariant *v)
{
    check_statuses(v, "write", "'werror': 'report', " MAPPED,
                   VIRTIO_BLK_S_IOERR);
    check_statuses(v, "read", "'rerror': 'report'", VIRTIO_BLK_S_IOERR);
}

static void test_ignore(const VblkVariant *v)
{
    check_statuses(v, "write", "'werror': 'ignore', " MAPPED, VIRTIO_BLK_S_OK);
    check_statuses(v, "read", "'rerror': 'ignore'", VIRTIO_BLK_S_OK);
}

/* The default is enospc: the VM stops for this error only. */
static void test_default(const VblkVariant *v)
{
    check_statuses(v, "write", MAPPED, VIRTIO_BLK_S_IOERR);
    check_statuses(v, "read", MAPPED, VIRTIO_BLK_S_IOERR);
}

/* Take the stopped guest to another machine; the one that it leaves ends. */
static void migrate(Fixture *f, const char *json)
{
    VblkMachine *old = f->disk.m;
    VblkMachine *new = vblk_machine_start_target(old, VBLK_IOTHREADS);

    plug(new, f->disk.image, NULL, json);
    vblk_machine_migrate(old, new);
    vblk_device_move(f->disk.d, new);
    f->disk.m = new;
    vblk_machine_stop(old);
}

/*
 * The requests go on where the guest has gone, at once or, having waited
 * there, too, at the end of a second journey.
 */
static void check_migrate(const VblkVariant *v, const char *json,
                          uint64_t ring_features, unsigned journeys)
{
    Fixture f = setup_ring(v, "write", json, ring_features);

    submit(&f, true);
    wait_stopped(&f);
    for (unsigned i = 0; i < journeys; i++) {
        migrate(&f, json);
    }
    cont(f.disk.m);
    finish_all(&f);
    check_written(&f);
    vblk_disk_stop(&f.disk);
}

static void test_migrate(const VblkVariant *v)
{
    check_migrate(v, "'werror': 'stop'", SPLIT, 1);
}

static void test_migrate_iothreads(const VblkVariant *v)
{
    check_migrate(v, "'werror': 'stop', " MAPPED, SPLIT, 1);
}

static void test_migrate_twice(const VblkVariant *v)
{
    check_migrate(v, "'werror': 'stop', " MAPPED, SPLIT, 2);
}

static void test_migrate_packed(const VblkVariant *v)
{
    check_migrate(v, "'werror': 'stop', " MAPPED, PACKED, 1);
}

static void test_migrate_packed_twice(const VblkVariant *v)
{
    check_migrate(v, "'werror': 'stop'", PACKED, 2);
}

static bool migration_fails(Fixture *f, const char *file)
{
    gint64 start = g_get_monotonic_time();
    g_autofree char *status = NULL;
    g_autofree char *state = NULL;

    vblk_machine_migrate_begin(f->disk.m, file);
    do {
        QDict *info = qtest_qmp_assert_success_ref(
            f->disk.m->qts, "{'execute': 'query-migrate'}");

        g_free(status);
        status = g_strdup(qdict_get_try_str(info, "status") ?: "");
        qobject_unref(info);
        vblk_deadline(start, "the end of a migration");
    } while (!g_str_equal(status, "failed") &&
             !g_str_equal(status, "completed"));
    /* A migration says that it has failed before the machine has its state. */
    while (g_str_equal(status, "failed") && g_strcmp0(state, "io-error")) {
        g_free(state);
        state = run_state(f->disk.m);
        vblk_deadline(start, "the state from before a migration");
    }
    return g_str_equal(status, "failed");
}

/*
 * The stream cannot say what was answered behind a failed request, so it does
 * not begin its journey.  Nothing is lost here.
 */
static void check_migrate_in_order(const VblkVariant *v, const char *json,
                                   uint64_t ring_features)
{
    g_autofree char *props = g_strconcat("'in_order': true, 'werror': 'stop'",
                                         json, NULL);
    Fixture f = setup_ring(v, "write", props,
                           ring_features | BIT_ULL(VIRTIO_F_IN_ORDER));
    char *file = vblk_image_new(0);

    submit(&f, true);
    wait_stopped(&f);
    g_assert_true(migration_fails(&f, file));
    cont(f.disk.m);
    finish_all(&f);
    check_written(&f);
    vblk_disk_stop(&f.disk);
    vblk_image_free(file);
}

static void test_migrate_in_order(const VblkVariant *v)
{
    check_migrate_in_order(v, "", SPLIT);
    check_migrate_in_order(v, ", 'iothread': 'io0'", SPLIT);
    check_migrate_in_order(v, "", PACKED);
}

/* Return how many writes have been merged into another one. */
static int64_t writes_merged(VblkMachine *m)
{
    QDict *rsp = qtest_qmp(m->qts, "{'execute': 'query-blockstats'}");
    const QListEntry *entry = qlist_first(qdict_get_qlist(rsp, "return"));
    QDict *stats = qdict_get_qdict(qobject_to(QDict, qlist_entry_obj(entry)),
                                   "stats");
    int64_t merged = qdict_get_int(stats, "wr_merged");

    qobject_unref(rsp);
    return merged;
}

/*
 * Neighbours that were merged into one write, and failed, are merged again when
 * they are tried again, because they keep their order.
 */
static void test_migrate_neighbours(const VblkVariant *v)
{
    Fixture f = setup(v, "write", "'werror': 'stop'");
    VblkQueue *q = f.disk.d->queues[0];
    VblkRequest *first = vblk_read_new(q, 0, VBLK_SECTOR);

    vblk_request_submit(first);
    vblk_queue_wait_taken(q);
    for (unsigned i = 0; i < QUEUES; i++) {
        f.r[i] = vblk_write_new(q, SECTOR_OF(i), 4096, 10 + i);
        vblk_request_add(f.r[i]);
    }
    vblk_queue_kick(q);
    g_assert_cmphex(vblk_request_wait_throttled(first), ==,
                    VIRTIO_BLK_S_OK);
    vblk_request_free(first);
    wait_stopped(&f);
    g_assert_cmpint(writes_merged(f.disk.m), ==, QUEUES - 1);

    migrate(&f, "'werror': 'stop'");
    cont(f.disk.m);
    finish_all(&f);
    g_assert_cmpint(writes_merged(f.disk.m), ==, QUEUES - 1);
    check_written(&f);
    vblk_disk_stop(&f.disk);
}

/* A failed write from MMIO keeps its queue in the main loop, wherever it is. */
static void test_migrate_mmio(const VblkVariant *v)
{
    Fixture f = setup(v, "write", "'werror': 'stop', " MAPPED);
    VblkQueue *q = f.disk.d->queues[0];
    VblkRequest *first = vblk_read_new(q, 0, VBLK_SECTOR);

    vblk_request_submit(first);
    vblk_queue_wait_taken(q);
    for (unsigned i = 0; i < QUEUES; i++) {
        q = f.disk.d->queues[i];
        f.r[i] = vblk_write_new(q, SECTOR_OF(i), VBLK_SECTOR, i);
        vblk_request_add_segs(f.r[i], (const VblkSegment[]) {
            { f.r[i]->header, 16, false },
            { i ? f.r[i]->data : HPET, VBLK_SECTOR, false },
            { f.r[i]->status, 1, true },
        }, 3, false);
        vblk_queue_kick(q);
        vblk_queue_wait_taken(q);
    }
    g_assert_cmphex(vblk_request_wait_throttled(first), ==,
                    VIRTIO_BLK_S_OK);
    vblk_request_free(first);
    wait_stopped(&f);

    migrate(&f, "'werror': 'stop', " MAPPED);
    cont(f.disk.m);
    vblk_disk_check_home(&f.disk, 0, NULL);
    vblk_disk_check_home(&f.disk, 1, "io1");
    finish_all(&f);
    vblk_disk_stop(&f.disk);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    vblk_test_add_with("errors/stop-write", test_stop_write,
                       "'werror': 'stop'", VBLK_BOTH);
    vblk_test_add_with("errors/stop-write-iothreads", test_stop_write,
                       "'werror': 'stop', " MAPPED, VBLK_BOTH);
    vblk_test_add("errors/stop-read", test_stop_read, VBLK_BOTH);
    vblk_test_add("errors/stop-reset", test_stop_reset, VBLK_BOTH);
    vblk_test_add("errors/report", test_report, VBLK_BOTH);
    vblk_test_add("errors/ignore", test_ignore, VBLK_BOTH);
    vblk_test_add("errors/default", test_default, VBLK_BOTH);
    vblk_test_add("errors/migrate", test_migrate, VBLK_BOTH);
    vblk_test_add("errors/migrate-iothreads", test_migrate_iothreads,
                  VBLK_BOTH);
    vblk_test_add("errors/migrate-twice", test_migrate_twice, VBLK_BOTH);
    vblk_test_add("errors/migrate-packed", test_migrate_packed,
                  VBLK_Q35_MODERN);
    vblk_test_add("errors/migrate-packed-twice", test_migrate_packed_twice,
                  VBLK_Q35_MODERN);
    vblk_test_add("errors/migrate-neighbours", test_migrate_neighbours,
                  VBLK_BOTH);
    if (!vblk_machine_has_other()) {
        /* QEMU 10.0 answers old requests in the ring that follows a reset. */
        vblk_test_add("errors/reset-in-order", test_reset_in_order,
                      VBLK_MODERN);
        /* QEMU 10.0 migrates, and the request is lost. */
        vblk_test_add("errors/migrate-in-order", test_migrate_in_order,
                      VBLK_MODERN);
        /* QEMU 10.0 does not say where its queues are. */
        vblk_test_add("errors/migrate-mmio", test_migrate_mmio, VBLK_BOTH);
    }
    return g_test_run();
}
