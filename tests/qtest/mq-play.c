/*
 * What the scenarios of the matrix are made of
 *
 *     "disk" (raw, or throttle if it is slow) --- "file" (file or blkdebug)
 *
 * The limit is on top: a drain looks no deeper, and no timer of the limit runs
 * in a VM that a qtest has stopped.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "standard-headers/linux/virtio_blk.h"
#include "mq-iothreads.h"
#include "mq-play.h"

/*
 * An IOThread that polls writes to the rings whenever it begins or ends that,
 * which would look like a change where none may be.
 */
#define IOTHREADS "-object iothread,id=io0,poll-max-ns=0 " \
                  "-object iothread,id=io1,poll-max-ns=0 "

static QDict *command(MqPlay *p, const char *name, const char *args)
{
    QDict *rsp;

    if (*args) {
        rsp = qtest_qmp(p->m->qts, "{'execute': %s, 'arguments': %p}", name,
                        qobject_from_json(args, &error_abort));
    } else {
        rsp = qtest_qmp(p->m->qts, "{'execute': %s}", name);
    }
    return rsp;
}

static const char *error_text(QDict *rsp)
{
    QDict *error = qdict_get_qdict(rsp, "error");

    return error ? qdict_get_str(error, "desc") : NULL;
}

void mq_play_go(MqPlay *p, const char *name, const char *fmt, ...)
{
    g_autofree char *args = NULL;
    va_list ap;
    QDict *rsp;

    va_start(ap, fmt);
    args = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    rsp = command(p, name, args);
    if (error_text(rsp)) {
        mq_note(p, "%s: %s", name, error_text(rsp));
        _exit(1);
    }
    qobject_unref(rsp);
}

void mq_play_try(MqPlay *p, const char *what, const char *name,
                 const char *fmt, ...)
{
    g_autofree char *args = NULL;
    va_list ap;
    QDict *rsp;

    va_start(ap, fmt);
    args = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    rsp = command(p, name, args);
    mq_note(p, "%s: %s", what, error_text(rsp) ?: "done");
    qobject_unref(rsp);
}

void mq_play_stop(MqPlay *p)
{
    mq_play_go(p, "stop", "%s", "");
}

void mq_play_cont(MqPlay *p)
{
    mq_play_go(p, "cont", "%s", "");
}

void mq_note_state(MqPlay *p)
{
    QDict *info = qtest_qmp_assert_success_ref(p->m->qts, "{'execute':"
                                               " 'query-status'}");

    mq_note(p, "run state: %s", qdict_get_str(info, "status"));
    qobject_unref(info);
}

/* Options of node "disk"; @size 0 for none */
static char *disk_options(MqPlay *p, uint64_t size)
{
    GString *text = g_string_new("{'node-name': 'disk', 'file': 'file'");

    if (p->iops) {
        g_string_append(text, ", 'driver': 'throttle',"
                        " 'throttle-group': 'slow'");
    } else {
        g_string_append(text, ", 'driver': 'raw'");
    }
    if (size) {
        g_string_append_printf(text, ", 'size': %" PRIu64, size);
    }
    return g_string_free(g_string_append_c(text, '}'), false);
}

/* By QMP: the command line's throttle groups go by real time. */
static void add_disk(MqPlay *p)
{
    g_autofree char *options = disk_options(p, 0);

    if (p->iops) {
        mq_play_go(p, "object-add", "{'qom-type': 'throttle-group',"
                   " 'id': 'slow', 'limits': {'iops-total': %u}}", p->iops);
    }
    mq_play_go(p, "blockdev-add", "%s", options);
}

static void add_nodes(MqPlay *p, unsigned iops, const char *errors)
{
    g_autofree char *file =
        g_strdup_printf("{'driver': 'file', 'filename': '%s', %s}", p->image,
                        errors ? "'node-name': 'image'"
                               : "'node-name': 'file'");

    if (errors) {
        mq_play_go(p, "blockdev-add", "{'driver': 'blkdebug', 'image': %s,"
                   " 'node-name': 'file', 'inject-error': %s}", file, errors);
    } else {
        mq_play_go(p, "blockdev-add", "%s", file);
    }
    p->iops = iops;
    add_disk(p);
}

static char *add_device(MqPlay *p, const char *props)
{
    g_autofree char *cell = mq_cell_props(p);
    g_autofree char *all = g_strdup_printf("'drive': 'disk', %s%s", cell,
                                           props ?: "");

    return mq_device_add(p->m, 0, all);
}

/* The same for IOThreads of the device's own */
static void stop_polling(MqPlay *p)
{
    g_auto(GStrv) names = mq_iothread_names(p->m->qts);

    for (char **name = names; *name; name++) {
        mq_play_go(p, "qom-set", "{'path': '/objects/%s',"
                   " 'property': 'poll-max-ns', 'value': 0}", *name);
    }
}

void mq_play_plug(MqPlay *p, const char *props)
{
    g_autofree char *error = add_device(p, props);

    if (error) {
        mq_note(p, "device_add: %s", error);
        _exit(1);
    }
    stop_polling(p);
    p->d = mq_device_open(p->m, 0);
}

void mq_note_plug(MqPlay *p, const char *name, const char *props)
{
    g_autofree char *error = add_device(p, props);

    mq_note(p, "%s: %s", name, error ?: "plugged");
}

void mq_play_drive(MqPlay *p)
{
    mq_device_start(p->d, p->cell->features, MQ_ALL_QUEUES);
}

void mq_play_prepare(MqPlay *p, MqPlayDisk disk)
{
    p->image = mq_image_new(MQ_PLAY_SIZE);
    p->m = mq_machine_start(p->cell->variant, IOTHREADS);
    add_nodes(p, disk.iops, disk.errors);
}

void mq_play_start(MqPlay *p, MqPlayDisk disk)
{
    mq_play_prepare(p, disk);
    mq_play_plug(p, disk.props);
    if (!disk.no_driver) {
        mq_play_drive(p);
    }
}

void mq_play_end(MqPlay *p)
{
    mq_device_close(p->d);
    mq_machine_stop(p->m);
    mq_image_free(p->image);
}

void mq_play_renew(MqPlay *p)
{
    mq_play_try(p, "disk removed", "blockdev-del", "{'node-name': 'disk'}");
    if (p->iops) {
        mq_play_try(p, "limit removed", "object-del", "{'id': 'slow'}");
    }
    add_disk(p);
}

void mq_play_hurry(MqPlay *p)
{
    if (p->iops) {
        mq_play_go(p, "qom-set", "{'path': '/objects/slow',"
                   " 'property': 'limits', 'value': {'iops-total': 1000000}}");
    }
}

MqMachine *mq_play_target(MqPlay *p)
{
    MqPlay to = *p;
    g_autofree char *error = NULL;

    to.m = mq_machine_start_target(p->m, IOTHREADS);
    add_nodes(&to, 0, NULL);
    error = add_device(&to, NULL);
    g_assert_cmpstr(error, ==, NULL);
    return to.m;
}

void mq_play_reopen(MqPlay *p, uint64_t size)
{
    g_autofree char *options = disk_options(p, size);

    mq_play_go(p, "blockdev-reopen", "{'options': [%s]}", options);
}

static void limit(MqPlay *p, unsigned iops)
{
    mq_play_go(p, "block_set_io_throttle", "{'id': '" MQ_PLAY_QOM "', 'bps': 0,"
               " 'bps_rd': 0, 'bps_wr': 0, 'iops': %u, 'iops_rd': 0,"
               " 'iops_wr': 0}", iops);
}

void mq_play_storm(MqPlay *p, unsigned rounds)
{
    for (unsigned i = 0; i < rounds; i++) {
        mq_play_reopen(p, 0);
        limit(p, 1000000);
        mq_play_go(p, "block_resize", "{'node-name': 'disk', 'size': %u}",
                   MQ_PLAY_SIZE);
        mq_play_go(p, "transaction", "{'actions': ["
                   "{'type': 'block-dirty-bitmap-add',"
                   " 'data': {'node': 'disk', 'name': 'b0'}},"
                   "{'type': 'block-dirty-bitmap-add',"
                   " 'data': {'node': 'file', 'name': 'b1'}}]}");
        mq_play_go(p, "block-dirty-bitmap-remove",
                   "{'node': 'disk', 'name': 'b0'}");
        mq_play_go(p, "block-dirty-bitmap-remove",
                   "{'node': 'file', 'name': 'b1'}");
        mq_play_go(p, "query-block", "%s", "");
        mq_play_go(p, "query-blockstats", "{'query-nodes': true}");
        mq_play_go(p, "query-named-block-nodes", "{'flat': true}");
        limit(p, 0);
        g_free(qtest_hmp(p->m->qts, "commit all"));
    }
}

/*
 * Nothing may happen
 */

/* @was: NULL until it is frozen */
typedef struct MqPlace {
    uint64_t addr;
    size_t len;
    uint8_t *was;
} MqPlace;

struct MqFreeze {
    GArray *places;
    char *image;
    gsize image_len;
};

static void add_place(GArray *places, uint64_t addr, size_t len)
{
    MqPlace place = { addr, len };

    g_array_append_val(places, place);
}

GArray *mq_places(MqPlay *p, MqLoad *load)
{
    GArray *places = g_array_new(false, false, sizeof(MqPlace));

    for (unsigned i = 0; i < p->d->max_queues; i++) {
        MqQueue *q = p->d->queues[i];

        if (q) {
            add_place(places, q->area, q->area_size);
        }
    }
    for (unsigned i = 0; load && i < load->requests->len; i++) {
        MqRequest *r = load->requests->pdata[i];

        add_place(places, r->header, 16 + r->len + 1);
    }
    return places;
}

MqFreeze *mq_freeze_places(MqPlay *p, GArray *places)
{
    MqFreeze *f = g_new(MqFreeze, 1);

    f->places = places;
    for (unsigned i = 0; i < places->len; i++) {
        MqPlace *place = &g_array_index(places, MqPlace, i);

        place->was = g_malloc(place->len);
        qtest_bufread(p->m->qts, place->addr, place->was, place->len);
    }
    g_assert(g_file_get_contents(p->image, &f->image, &f->image_len, NULL));
    return f;
}

MqFreeze *mq_freeze(MqPlay *p, MqLoad *load)
{
    return mq_freeze_places(p, mq_places(p, load));
}

static const char *memory_text(MqPlay *p, MqFreeze *f)
{
    unsigned changed = 0;

    for (unsigned i = 0; i < f->places->len; i++) {
        MqPlace *place = &g_array_index(f->places, MqPlace, i);
        g_autofree uint8_t *is = g_malloc(place->len);

        qtest_bufread(p->m->qts, place->addr, is, place->len);
        for (size_t at = 0; at < place->len; at++) {
            if (is[at] != place->was[at]) {
                g_printerr("changed: byte 0x%zx of place %u\n", at, i);
                changed++;
                break;
            }
        }
    }
    return changed ? "changed" : "as it was";
}

static const char *disk_text(MqPlay *p, MqFreeze *f)
{
    g_autofree char *image = NULL;
    gsize len;

    g_assert(g_file_get_contents(p->image, &image, &len, NULL));
    return len == f->image_len && !memcmp(image, f->image, len) ? "as it was"
                                                                : "changed";
}

static void freeze_free(MqFreeze *f)
{
    for (unsigned i = 0; i < f->places->len; i++) {
        g_free(g_array_index(f->places, MqPlace, i).was);
    }
    g_array_free(f->places, true);
    g_free(f->image);
    g_free(f);
}

void mq_note_frozen(MqPlay *p, const char *name, MqFreeze *f)
{
    mq_note(p, "%s: memory %s, disk %s", name, memory_text(p, f),
            disk_text(p, f));
    freeze_free(f);
}

void mq_note_memory_frozen(MqPlay *p, const char *name, MqFreeze *f)
{
    mq_note(p, "%s: memory %s", name, memory_text(p, f));
    freeze_free(f);
}
