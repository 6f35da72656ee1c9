/*
 * Block jobs and drains under a disk whose queues are all busy
 *
 *     every queue:  write, write, write, ...
 *     QMP:          stop, cont, resize, snapshot, mirror
 *
 * The queues pause where the block layer has to be quiet, and go on; no
 * request may get lost or fail, and all data has to be there in the end.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "qobject/qlist.h"
#include "standard-headers/linux/virtio_blk.h"
#include "vblk-disk.h"

#define QUEUES 4
#define IMAGE_SIZE (1024 * 1024)

static VblkDisk setup_on(const VblkVariant *v, const char *options)
{
    VblkDisk disk = vblk_disk_start(v, IMAGE_SIZE, NULL, options);

    vblk_device_start(disk.d, 0, VBLK_ALL_QUEUES);
    return disk;
}

static VblkDisk setup(const VblkVariant *v)
{
    return setup_on(v, "num-queues=4,iothread=io0");
}

/* Keep every queue busy; each call moves on by what has completed. */
typedef struct Load {
    VblkDisk *disk;
    VblkRequest *r[QUEUES][16];
    unsigned rounds;
} Load;

static void load_turn(Load *load)
{
    for (unsigned q = 0; q < QUEUES; q++) {
        VblkQueue *queue = load->disk->d->queues[q];

        vblk_queue_reap(queue);
        for (unsigned i = 0; i < ARRAY_SIZE(load->r[q]); i++) {
            VblkRequest **r = &load->r[q][i];

            if (*r && (*r)->done) {
                g_assert_cmphex(vblk_request_status(*r), ==, VIRTIO_BLK_S_OK);
                g_clear_pointer(r, vblk_request_free);
            }
            if (!*r) {
                *r = vblk_write_new(queue, 256 * q + 8 * i, 4096,
                                    50 * q + 3 * i);
                vblk_request_add(*r);
            }
        }
        vblk_queue_kick(queue);
    }
    load->rounds++;
}

static void load_end(Load *load)
{
    for (unsigned q = 0; q < QUEUES; q++) {
        for (unsigned i = 0; i < ARRAY_SIZE(load->r[q]); i++) {
            vblk_request_finish(load->r[q][i]);
        }
    }
    for (unsigned q = 0; q < QUEUES; q++) {
        for (unsigned i = 0; i < ARRAY_SIZE(load->r[q]); i++) {
            vblk_read(load->disk->d->queues[(q + 1) % QUEUES], 256 * q + 8 * i,
                      4096, 50 * q + 3 * i);
        }
    }
}

/* Send a command, keep the disk busy, and see that it has succeeded. */
static void under_load(Load *load, const char *command)
{
    load_turn(load);
    qtest_qmp_assert_success(load->disk->m->qts, "%p",
                             qobject_from_json(command, &error_abort));
    load_turn(load);
}

/* Drains begin and end while all queues are busy. */
static void test_drain(const VblkVariant *v)
{
    VblkDisk disk = setup(v);
    Load load = { .disk = &disk };

    for (unsigned i = 0; i < 10; i++) {
        under_load(&load, "{'execute': 'stop'}");
        under_load(&load, "{'execute': 'cont'}");
        under_load(&load, "{'execute': 'block_resize', 'arguments':"
                   "{'node-name': 'disk', 'size': 1048576}}");
    }
    load_end(&load);
    vblk_disk_stop(&disk);
}

/* Return whether the only job has ended. */
static bool job_concluded(VblkMachine *m)
{
    QDict *rsp = qtest_qmp(m->qts, "{'execute': 'query-jobs'}");
    QList *jobs = qdict_get_qlist(rsp, "return");
    QDict *info = qobject_to(QDict, qlist_peek(jobs));
    bool concluded = !strcmp(qdict_get_str(info, "status"), "concluded");

    qobject_unref(rsp);
    return concluded;
}

/* The overlay is made, and put on top of the disk, while that is in use. */
static void test_snapshot(const VblkVariant *v)
{
    VblkDisk disk = setup(v);
    Load load = { .disk = &disk };
    gint64 start = g_get_monotonic_time();
    char *overlay = vblk_image_new(0);
    g_autofree char *file =
        g_strdup_printf("{'execute': 'blockdev-add', 'arguments': {'driver':"
                        " 'file', 'node-name': 'ofile', 'filename': '%s'}}",
                        overlay);

    under_load(&load, file);
    under_load(&load, "{'execute': 'blockdev-create', 'arguments': {'job-id':"
               " 'create', 'options': {'driver': 'qcow2', 'file': 'ofile',"
               " 'size': 1048576}}}");
    while (!job_concluded(disk.m)) {
        load_turn(&load);
        vblk_deadline(start, "a job");
    }
    under_load(&load, "{'execute': 'job-dismiss',"
               " 'arguments': {'id': 'create'}}");
    under_load(&load, "{'execute': 'blockdev-add', 'arguments': {'driver':"
               " 'qcow2', 'node-name': 'overlay', 'file': 'ofile',"
               " 'backing': null}}");
    under_load(&load, "{'execute': 'blockdev-snapshot', 'arguments':"
               " {'node': 'disk', 'overlay': 'overlay'}}");
    for (unsigned i = 0; i < 10; i++) {
        load_turn(&load);
    }
    load_end(&load);
    vblk_disk_stop(&disk);
    vblk_image_free(overlay);
}

/* Wait for a job's event while the disk stays busy. */
static void load_until(Load *load, const char *event)
{
    gint64 start = g_get_monotonic_time();
    QDict *found = NULL;

    while (!found) {
        load_turn(load);
        qtest_qmp_assert_success(load->disk->m->qts,
                                 "{'execute': 'query-name'}");
        found = qtest_qmp_event_ref(load->disk->m->qts, event);
        vblk_deadline(start, event);
    }
    qobject_unref(found);
}

/* A mirror starts, catches up and takes the disk's place. */
static void mirror(VblkDisk disk)
{
    Load load = { .disk = &disk };
    char *copy = vblk_image_new(IMAGE_SIZE);
    g_autofree char *add =
        g_strdup_printf("{'execute': 'blockdev-add', 'arguments': {'driver':"
                        " 'raw', 'node-name': 'copy', 'file': {'driver':"
                        " 'file', 'filename': '%s'}}}", copy);

    under_load(&load, add);
    under_load(&load, "{'execute': 'blockdev-mirror', 'arguments': {'job-id':"
               " 'mirror', 'device': 'disk', 'target': 'copy',"
               " 'sync': 'full', 'copy-mode': 'write-blocking'}}");
    load_until(&load, "BLOCK_JOB_READY");
    for (unsigned i = 0; i < 200; i++) {
        load_turn(&load);
    }
    under_load(&load, "{'execute': 'block-job-complete',"
               " 'arguments': {'device': 'mirror'}}");
    load_until(&load, "BLOCK_JOB_COMPLETED");
    for (unsigned i = 0; i < 10; i++) {
        load_turn(&load);
    }
    load_end(&load);
    vblk_disk_stop(&disk);
    vblk_image_free(copy);
}

static void test_mirror(const VblkVariant *v)
{
    mirror(setup(v));
}

/* The job's own lists are its thread's, wherever the writes come from. */
static void test_mirror_threads(const VblkVariant *v)
{
    mirror(setup_on(v, "num-queues=4,iothreads=4"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    vblk_test_add("jobs/drain", test_drain, VBLK_BOTH);
    vblk_test_add("jobs/snapshot", test_snapshot, VBLK_BOTH);
    vblk_test_add("jobs/mirror", test_mirror, VBLK_BOTH);
    vblk_test_add("jobs/mirror-threads", test_mirror_threads, VBLK_BOTH);
    return g_test_run();
}
