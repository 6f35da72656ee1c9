/*
 * The mapping of a block device's queues to IOThreads
 *
 * The properties of a device give each queue an IOThread, with a reference.
 * iothread-vq-mapping.c checks a mapping.  The result is kept as IOThreads and
 * not as AioContexts, so that the references stay right when a queue moves.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "qemu/main-loop.h"
#include "block/block.h"
#include "block/block_int-global-state.h"
#include "block/blockjob.h"
#include "qapi/error.h"
#include "qapi/visitor.h"
#include "qom/object_interfaces.h"
#include "hw/block/queue-iothreads.h"
#include "hw/virtio/iothread-vq-mapping.h"

/* The property "iothreads" is kept as text, also if it is a number. */

static void get_iothreads(Object *obj, Visitor *v, const char *name,
                          void *opaque, Error **errp)
{
    char **iothreads = object_field_prop_ptr(obj, opaque);
    char *text = *iothreads ?: (char *)"";

    visit_type_str(v, name, &text, errp);
}

static char *visit_number_or_string(Visitor *v, const char *name, QType type,
                                    Error **errp)
{
    int64_t number;
    char *text;

    switch (type) {
    case QTYPE_QNUM:
        return visit_type_int(v, name, &number, errp)
               ? g_strdup_printf("%" PRId64, number) : NULL;
    case QTYPE_QSTRING:
        return visit_type_str(v, name, &text, errp) ? text : NULL;
    default:
        error_setg(errp, "Invalid parameter type for '%s', expected: number "
                   "or string", name);
        return NULL;
    }
}

static void set_iothreads(Object *obj, Visitor *v, const char *name,
                          void *opaque, Error **errp)
{
    char **iothreads = object_field_prop_ptr(obj, opaque);
    GenericAlternate *alternate = NULL;
    char *text;

    if (!visit_start_alternate(v, name, &alternate, sizeof(*alternate),
                               errp)) {
        return;
    }
    text = visit_number_or_string(v, name, alternate->type, errp);
    visit_end_alternate(v, (void **)&alternate);
    g_free(alternate);
    if (text) {
        g_free(*iothreads);
        *iothreads = text;
    }
}

static void release_iothreads(Object *obj, const char *name, void *opaque)
{
    g_free(*(char **)object_field_prop_ptr(obj, opaque));
}

const PropertyInfo queue_iothreads_prop_iothreads = {
    .type = "str",
    .get = get_iothreads,
    .set = set_iothreads,
    .release = release_iothreads,
};

void queue_iothreads_describe(ObjectClass *klass)
{
    object_class_property_set_description(klass, "iothread",
        "IOThread that serves all queues");
    object_class_property_set_description(klass, "iothreads",
        "Number of IOThreads that the device makes for its queues; auto makes "
        "one per queue, or one per host CPU if these are fewer");
}

bool queue_iothreads_wanted(const QueueIOThreadsConf *conf)
{
    return conf->iothread || conf->mapping || conf->iothreads;
}

const char *queue_iothreads_alias(BlockBackend *blk, const char *otherwise)
{
    const char *name = blk_name(blk);

    if (!*name && blk_bs(blk)) {
        name = bdrv_get_node_name(blk_bs(blk));
    }
    /* QEMU itself makes names that begin with '#'; they have random digits. */
    return *name && *name != '#' ? name : otherwise;
}

static bool queue_iothreads_check(const QueueIOThreadsConf *conf, Error **errp)
{
    ERRP_GUARD();

    if (conf->iothread && conf->mapping) {
        error_setg(errp, "iothread and iothread-vq-mapping properties cannot "
                   "be set at the same time");
        return false;
    }
    if (conf->iothreads && (conf->iothread || conf->mapping)) {
        error_setg(errp, "iothreads cannot be set together with %s",
                   conf->iothread ? "iothread" : "iothread-vq-mapping");
        error_append_hint(errp, "iothreads=N makes IOThreads for this device; "
                          "the other properties use existing ones.\n");
        return false;
    }
    return true;
}

static void queue_iothreads_assign(QueueIOThreads *map, unsigned index,
                                   IOThread *iothread)
{
    object_ref(OBJECT(iothread));
    map->queue_iothread[index] = iothread;
}

static bool queue_iothreads_from_mapping(QueueIOThreads *map,
                                         IOThreadVirtQueueMappingList *list,
                                         Error **errp)
{
    g_autofree AioContext **ctx = g_new0(AioContext *, map->num_queues);

    if (!iothread_vq_mapping_apply(list, ctx, map->num_queues, errp)) {
        return false;
    }
    for (IOThreadVirtQueueMappingList *node = list; node; node = node->next) {
        IOThread *iothread = iothread_by_id(node->value->iothread);

        for (unsigned i = 0; i < map->num_queues; i++) {
            if (ctx[i] == iothread_get_aio_context(iothread)) {
                queue_iothreads_assign(map, i, iothread);
            }
        }
    }
    iothread_vq_mapping_cleanup(list);
    return true;
}

/* Return the number of IOThreads for @text, or 0 with @errp set. */
static unsigned queue_iothreads_count(const char *text, unsigned num_queues,
                                      Error **errp)
{
    ERRP_GUARD();
    int64_t n;

    if (!strcmp(text, "auto")) {
        return MIN(num_queues, g_get_num_processors());
    }
    if (qemu_strtoi64(text, NULL, 10, &n) < 0 || n <= 0) {
        error_setg(errp, "invalid iothreads property '%s'", text);
        error_append_hint(errp, "Use a number from 1 to %u or 'auto'.\n",
                          num_queues);
        return 0;
    }
    if (n > num_queues) {
        error_setg(errp, "iothreads property (%" PRId64 ") must not be larger "
                   "than the number of queues (%u)", n, num_queues);
        return 0;
    }
    return n;
}

static char *owned_id(const char *owner, unsigned index)
{
    return g_strdup_printf("%s-iothread%u", owner, index);
}

/* The first of @n names that another object has, to be freed; or NULL. */
static char *owned_id_taken(const char *owner, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        g_autofree char *id = owned_id(owner, i);

        if (object_property_find(object_get_objects_root(), id)) {
            return g_steal_pointer(&id);
        }
    }
    return NULL;
}

/*
 * Choose the first part of the names of @n IOThreads.  Returns NULL with @errp
 * set if a name with @id is taken.
 */
static char *owned_choose_owner(const char *id, const char *alias, unsigned n,
                                Error **errp)
{
    ERRP_GUARD();
    g_autofree char *owner = g_strdup(id ?: alias);
    g_autofree char *taken = owned_id_taken(owner, n);

    if (taken && id) {
        error_setg(errp, "cannot create IOThread '%s': there is an object of "
                   "that name", taken);
        error_append_hint(errp, "The device calls its IOThreads "
                          "%s-iothread0 and so on: give the object or the "
                          "device another id.\n", id);
        return NULL;
    }
    /* Each turn meets another object, so the loop ends. */
    for (unsigned k = 2; taken; k++) {
        g_free(owner);
        owner = g_strdup_printf("%s-%u", alias, k);
        g_free(taken);
        taken = owned_id_taken(owner, n);
    }
    return g_steal_pointer(&owner);
}

/* Unlike iothread_create()'s, this one can be named by a user. */
static IOThread *owned_create(const char *owner, unsigned index, Error **errp)
{
    ERRP_GUARD();
    g_autofree char *id = owned_id(owner, index);
    IOThread *iothread = IOTHREAD(object_new(TYPE_IOTHREAD));
    Object *obj = OBJECT(iothread);

    /* object-del refuses an IOThread that is owned. */
    iothread->owned = true;
    if (!object_property_try_add_child(object_get_objects_root(), id, obj,
                                       errp)) {
        goto fail;
    }
    if (!user_creatable_complete(USER_CREATABLE(obj), errp)) {
        object_unparent(obj);
        goto fail;
    }
    return iothread;

fail:
    error_prepend(errp, "cannot create IOThread '%s': ", id);
    object_unref(obj);
    return NULL;
}

static void owned_destroy(IOThread *iothread)
{
    object_unparent(OBJECT(iothread));
    object_unref(OBJECT(iothread));
}

static bool queue_iothreads_create(QueueIOThreads *map, const char *id,
                                   const char *alias, Error **errp)
{
    ERRP_GUARD();
    unsigned n = queue_iothreads_count(map->conf->iothreads, map->num_queues,
                                       errp);
    g_autofree char *owner = NULL;

    if (!n) {
        return false;
    }
    owner = owned_choose_owner(id, alias, n, errp);
    if (!owner) {
        return false;
    }
    map->owned = g_new0(IOThread *, n);
    for (unsigned i = 0; i < n; i++) {
        IOThread *iothread = owned_create(owner, i, errp);

        if (!iothread) {
            return false;
        }
        map->owned[map->num_owned++] = iothread;
    }
    for (unsigned i = 0; i < map->num_queues; i++) {
        queue_iothreads_assign(map, i, map->owned[i % n]);
    }
    return true;
}

bool queue_iothreads_init(QueueIOThreads *map, QueueIOThreadsConf *conf,
                          unsigned num_queues, const char *id,
                          const char *alias, Error **errp)
{
    ERRP_GUARD();
    bool ok = true;

    GLOBAL_STATE_CODE();
    memset(map, 0, sizeof(*map));

    if (!queue_iothreads_check(conf, errp)) {
        return false;
    }
    map->conf = conf;
    map->num_queues = num_queues;
    map->queue_iothread = g_new0(IOThread *, num_queues);

    if (conf->mapping) {
        ok = queue_iothreads_from_mapping(map, conf->mapping, errp);
    } else if (conf->iothreads) {
        ok = queue_iothreads_create(map, id, alias, errp);
    } else if (conf->iothread) {
        for (unsigned i = 0; i < num_queues; i++) {
            queue_iothreads_assign(map, i, conf->iothread);
        }
    }
    if (!ok) {
        queue_iothreads_cleanup(map);
    }
    return ok;
}

/*
 * When a device goes and its node cannot leave the IOThread, because an
 * export keeps it there or a job is about to end, the IOThread stays for as
 * long as any node does.  The last user of a node moves it out, if not before.
 */

static void stay_for_nodes(IOThread *iothread);

static void stay_bh(void *opaque)
{
    stay_for_nodes(opaque);
}

static void stay_attached(AioContext *ctx, void *opaque)
{
}

typedef struct StayingNode {
    BlockDriverState *bs;
    IOThread *iothread;     /* referenced */
} StayingNode;

/* The node is changing its AioContext, so end the thread later. */
static void stay_detached(void *opaque)
{
    g_autofree StayingNode *stay = opaque;

    bdrv_remove_aio_context_notifier(stay->bs, stay_attached, stay_detached,
                                     stay);
    aio_bh_schedule_oneshot(qemu_get_aio_context(), stay_bh, stay->iothread);
}

/* Keep @iothread for nodes, and take the caller's reference. */
static void stay_for_nodes(IOThread *iothread)
{
    AioContext *ctx = iothread_get_aio_context(iothread);
    BlockDriverState *bs = NULL;
    StayingNode *stay;

    do {
        bs = bdrv_next_node(bs);
    } while (bs && bdrv_get_aio_context(bs) != ctx);
    if (!bs) {
        object_unref(OBJECT(iothread));
        return;
    }
    stay = g_new(StayingNode, 1);
    *stay = (StayingNode) { .bs = bs, .iothread = iothread };
    bdrv_add_aio_context_notifier(bs, stay_attached, stay_detached, stay);
}

void queue_iothreads_cleanup(QueueIOThreads *map)
{
    GLOBAL_STATE_CODE();

    for (unsigned i = 0; i < map->num_queues; i++) {
        object_unref(OBJECT(map->queue_iothread[i]));
    }
    for (unsigned i = 0; i < map->num_owned; i++) {
        owned_destroy(map->owned[i]);
    }
    if (map->node_iothread) {
        stay_for_nodes(map->node_iothread);
    }
    g_free(map->queue_iothread);
    g_free(map->owned);
    memset(map, 0, sizeof(*map));
}

IOThread *queue_iothreads_get(const QueueIOThreads *map, unsigned index)
{
    assert(index < map->num_queues);
    return map->queue_iothread[index];
}

AioContext *queue_iothreads_context(const QueueIOThreads *map, unsigned index)
{
    IOThread *iothread = queue_iothreads_get(map, index);

    return iothread ? iothread_get_aio_context(iothread)
                    : qemu_get_aio_context();
}

static bool queue_iothreads_serves(const QueueIOThreads *map,
                                   const IOThread *iothread)
{
    for (unsigned i = 0; i < map->num_queues; i++) {
        if (map->queue_iothread[i] == iothread) {
            return true;
        }
    }
    return false;
}

IOThread *queue_iothreads_set(QueueIOThreads *map, unsigned index,
                              IOThread *iothread)
{
    IOThread *old = queue_iothreads_get(map, index);

    if (iothread) {
        object_ref(OBJECT(iothread));
    }
    map->queue_iothread[index] = iothread;

    /* The caller's reference, @old, is not the last one. */
    if (old && old == map->conf->iothread &&
        !queue_iothreads_serves(map, old)) {
        map->conf->iothread = NULL;
        object_unref(OBJECT(old));
    }
    return old;
}

/*
 * Return whether all jobs are paused.  A drained job is paused, except for a
 * mirror that has drained the node itself in order to end.  Such a mirror must
 * stay in its AioContext.
 */
static bool jobs_are_paused(BlockDriverState *bs)
{
    JOB_LOCK_GUARD();

    for (BlockJob *job = block_job_next_locked(NULL); job;
         job = block_job_next_locked(job)) {
        if (block_job_has_bdrv(job, bs) && !job->job.paused &&
            !job_is_completed_locked(&job->job)) {
            return false;
        }
    }
    return true;
}

static bool node_move(QueueIOThreads *map, BlockBackend *blk,
                      IOThread *iothread, Error **errp)
{
    AioContext *ctx = iothread ? iothread_get_aio_context(iothread)
                               : qemu_get_aio_context();
    BlockDriverState *bs = blk_bs(blk);

    if (bs && !jobs_are_paused(bs)) {
        error_setg(errp, "a block job is about to end");
        return false;
    }
    if (blk_set_aio_context(blk, ctx, errp) < 0) {
        return false;
    }
    if (iothread) {
        object_ref(OBJECT(iothread));
    }
    object_unref(OBJECT(map->node_iothread));
    map->node_iothread = iothread;
    return true;
}

bool queue_iothreads_place_node(QueueIOThreads *map, BlockBackend *blk,
                                Error **errp)
{
    GLOBAL_STATE_CODE();
    return node_move(map, blk, queue_iothreads_get(map, 0), errp);
}

void queue_iothreads_release_node(QueueIOThreads *map, BlockBackend *blk)
{
    GLOBAL_STATE_CODE();
    node_move(map, blk, NULL, NULL);
}
