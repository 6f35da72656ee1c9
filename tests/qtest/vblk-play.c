/*
 * The building blocks of the matrix's scenarios
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
#include "vblk-iothreads.h"
#include "vblk-play.h"

/*
 * An IOThread that polls writes to the rings whenever it begins or ends that,
 * which would look like a change where none may be.
 */
#define IOTHREADS "-object iothread,id=io0,poll-max-ns=0 " \
                  "-object iothread,id=io1,poll-max-ns=0 "

static QDict *command(VblkPlay *p, const char *name, const char *args)
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

void vblk_play_go(VblkPlay *p, const char *name, const char *fmt, ...)
{
    g_autofree char *args = NULL;
    va_list ap;
    QDict *rsp;

    va_start(ap, fmt);
    args = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    rsp = command(p, name, args);
    if (error_text(rsp)) {
        vblk_note(p, "%s: %s", name, error_text(rsp));
        _exit(1);
    }
    qobject_unref(rsp);
}

void vblk_play_try(VblkPlay *p, const char *what, const char *name,
                   const char *fmt, ...)
{
    g_autofree char *args = NULL;
    va_list ap;
    QDict *rsp;

    va_start(ap, fmt);
    args = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    rsp = command(p, name, args);
    vblk_note(p, "%s: %s", what, error_text(rsp) ?: "done");
    qobject_unref(rsp);
}

void vblk_play_stop(VblkPlay *p)
{
    vblk_play_go(p, "stop", "%s", "");
}

void vblk_play_cont(VblkPlay *p)
{
    vblk_play_go(p, "cont", "%s", "");
}

void vblk_note_state(VblkPlay *p)
{
    QDict *info = qtest_qmp_assert_success_ref(p->m->qts, "{'execute':"
                                               " 'query-status'}");

    vblk_note(p, "run state: %s", qdict_get_str(info, "status"));
    qobject_unref(info);
}

/* Options of node "disk"; @size 0 for none */
static char *disk_options(VblkPlay *p, uint64_t size)
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

/* Use QMP, because a throttle group of the command line uses real time. */
static void add_disk(VblkPlay *p)
{
    g_autofree char *options = disk_options(p, 0);

    if (p->iops) {
        vblk_play_go(p, "object-add", "{'qom-type': 'throttle-group',"
                     " 'id': 'slow', 'limits': {'iops-total': %u}}", p->iops);
    }
    vblk_play_go(p, "blockdev-add", "%s", options);
}

static void add_nodes(VblkPlay *p, unsigned iops, const char *errors)
{
    g_autofree char *file =
        g_strdup_printf("{'driver': 'file', 'filename': '%s', %s}", p->image,
                        errors ? "'node-name': 'image'"
                               : "'node-name': 'file'");

    if (errors) {
        vblk_play_go(p, "blockdev-add", "{'driver': 'blkdebug', 'image': %s,"
                     " 'node-name': 'file', 'inject-error': %s}", file, errors);
    } else {
        vblk_play_go(p, "blockdev-add", "%s", file);
    }
    p->iops = iops;
    add_disk(p);
}

static char *add_device(VblkPlay *p, const char *props)
{
    g_autofree char *cell = vblk_cell_props(p);
    g_autofree char *all = g_strdup_printf("'drive': 'disk', %s%s", cell,
                                           props ?: "");

    return vblk_device_add(p->m, 0, all);
}

/* The same for IOThreads of the device's own */
static void stop_polling(VblkPlay *p)
{
    g_auto(GStrv) names = vblk_iothread_names(p->m->qts);

    for (char **name = names; *name; name++) {
        vblk_play_go(p, "qom-set", "{'path': '/objects/%s',"
                     " 'property': 'poll-max-ns', 'value': 0}", *name);
    }
}

void vblk_play_plug(VblkPlay *p, const char *props)
{
    g_autofree char *error = add_device(p, props);

    if (error) {
        vblk_note(p, "device_add: %s", error);
        _exit(1);
    }
    stop_polling(p);
    p->d = vblk_device_open(p->m, 0);
}

void vblk_note_plug(VblkPlay *p, const char *name, const char *props)
{
    g_autofree char *error = add_device(p, props);

    vblk_note(p, "%s: %s", name, error ?: "plugged");
}

void vblk_play_drive(VblkPlay *p)
{
    vblk_device_start(p->d, p->cell->features, VBLK_ALL_QUEUES);
}

void vblk_play_prepare(VblkPlay *p, VblkPlayDisk disk)
{
    p->image = vblk_image_new(VBLK_PLAY_SIZE);
    p->m = vblk_machine_start(p->cell->variant, IOTHREADS);
    add_nodes(p, disk.iops, disk.errors);
}

void vblk_play_start(VblkPlay *p, VblkPlayDisk disk)
{
    vblk_play_prepare(p, disk);
    vblk_play_plug(p, disk.props);
    if (!disk.no_driver) {
        vblk_play_drive(p);
    }
}

void vblk_play_end(VblkPlay *p)
{
    vblk_device_close(p->d);
    vblk_machine_stop(p->m);
    vblk_image_free(p->image);
}

void vblk_play_renew(VblkPlay *p)
{
    vblk_play_try(p, "disk removed", "blockdev-del", "{'node-name': 'disk'}");
    if (p->iops) {
        vblk_play_try(p, "limit removed", "object-del", "{'id': 'slow'}");
    }
    add_disk(p);
}

void vblk_play_hurry(VblkPlay *p)
{
    if (p->iops) {
        vblk_play_go(p, "qom-set",
                     "{'path': '/objects/slow', 'property': 'limits',"
                     " 'value': {'iops-total': 1000000}}");
    }
}

VblkMachine *vblk_play_target(VblkPlay *p)
{
    VblkPlay to = *p;
    g_autofree char *error = NULL;

    to.m = vblk_machine_start_target(p->m, IOTHREADS);
    add_nodes(&to, 0, NULL);
    error = add_device(&to, NULL);
    g_assert_cmpstr(error, ==, NULL);
    return to.m;
}

void vblk_play_reopen(VblkPlay *p, uint64_t size)
{
    g_autofree char *options = disk_options(p, size);

    vblk_play_go(p, "blockdev-reopen", "{'options': [%s]}", options);
}

void vblk_play_limit(VblkPlay *p, unsigned iops)
{
    vblk_play_go(p, "block_set_io_throttle",
                 "{'id': '" VBLK_PLAY_QOM "', 'bps': 0,"
                 " 'bps_rd': 0, 'bps_wr': 0, 'iops': %u, 'iops_rd': 0,"
                 " 'iops_wr': 0}", iops);
}

void vblk_play_storm(VblkPlay *p, unsigned rounds)
{
    for (unsigned i = 0; i < rounds; i++) {
        vblk_play_reopen(p, 0);
        vblk_play_limit(p, 1000000);
        vblk_play_go(p, "block_resize", "{'node-name': 'disk', 'size': %u}",
                     VBLK_PLAY_SIZE);
        vblk_play_go(p, "transaction", "{'actions': ["
                     "{'type': 'block-dirty-bitmap-add',"
                     " 'data': {'node': 'disk', 'name': 'b0'}},"
                     "{'type': 'block-dirty-bitmap-add',"
                     " 'data': {'node': 'file', 'name': 'b1'}}]}");
        vblk_play_go(p, "block-dirty-bitmap-remove",
                     "{'node': 'disk', 'name': 'b0'}");
        vblk_play_go(p, "block-dirty-bitmap-remove",
                     "{'node': 'file', 'name': 'b1'}");
        vblk_play_go(p, "query-block", "%s", "");
        vblk_play_go(p, "query-blockstats", "{'query-nodes': true}");
        vblk_play_go(p, "query-named-block-nodes", "{'flat': true}");
        vblk_play_limit(p, 0);
        g_free(qtest_hmp(p->m->qts, "commit all"));
    }
}

/*
 * Nothing may happen
 */

/* @was: NULL until it is frozen */
typedef struct VblkPlace {
    uint64_t addr;
    size_t len;
    uint8_t *was;
} VblkPlace;

struct VblkFreeze {
    GArray *places;
    char *image;
    gsize image_len;
};

static void add_place(GArray *places, uint64_t addr, size_t len)
{
    VblkPlace place = { addr, len };

    g_array_append_val(places, place);
}

GArray *vblk_places(VblkPlay *p, VblkLoad *load)
{
    GArray *places = g_array_new(false, false, sizeof(VblkPlace));

    for (unsigned i = 0; i < p->d->max_queues; i++) {
        VblkQueue *q = p->d->queues[i];

        if (q) {
            add_place(places, q->area, q->area_size);
        }
    }
    for (unsigned i = 0; load && i < load->requests->len; i++) {
        VblkRequest *r = load->requests->pdata[i];

        add_place(places, r->header, 16 + r->len + 1);
    }
    return places;
}

VblkFreeze *vblk_freeze_places(VblkPlay *p, GArray *places)
{
    VblkFreeze *f = g_new(VblkFreeze, 1);

    f->places = places;
    for (unsigned i = 0; i < places->len; i++) {
        VblkPlace *place = &g_array_index(places, VblkPlace, i);

        place->was = g_malloc(place->len);
        qtest_bufread(p->m->qts, place->addr, place->was, place->len);
    }
    g_assert(g_file_get_contents(p->image, &f->image, &f->image_len, NULL));
    return f;
}

VblkFreeze *vblk_freeze(VblkPlay *p, VblkLoad *load)
{
    return vblk_freeze_places(p, vblk_places(p, load));
}

static const char *memory_text(VblkPlay *p, VblkFreeze *f)
{
    unsigned changed = 0;

    for (unsigned i = 0; i < f->places->len; i++) {
        VblkPlace *place = &g_array_index(f->places, VblkPlace, i);
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

static const char *disk_text(VblkPlay *p, VblkFreeze *f)
{
    g_autofree char *image = NULL;
    gsize len;

    g_assert(g_file_get_contents(p->image, &image, &len, NULL));
    return len == f->image_len && !memcmp(image, f->image, len) ? "as it was"
                                                                : "changed";
}

static void freeze_free(VblkFreeze *f)
{
    for (unsigned i = 0; i < f->places->len; i++) {
        g_free(g_array_index(f->places, VblkPlace, i).was);
    }
    g_array_free(f->places, true);
    g_free(f->image);
    g_free(f);
}

void vblk_note_frozen(VblkPlay *p, const char *name, VblkFreeze *f)
{
    vblk_note(p, "%s: memory %s, disk %s", name, memory_text(p, f),
              disk_text(p, f));
    freeze_free(f);
}

void vblk_note_memory_frozen(VblkPlay *p, const char *name, VblkFreeze *f)
{
    vblk_note(p, "%s: memory %s", name, memory_text(p, f));
    freeze_free(f);
}
