/*
 * Which queue of a block device runs in which IOThread
 *
 *     property                        IOThread of a queue
 *     iothread=ID                     that IOThread, for all queues
 *     iothread-vq-mapping=[...]       as listed, or round-robin over the list
 *     iothreads=N|auto                the device makes N IOThreads and owns
 *                                     them; queue i runs in IOThread i % N
 *     none of these                   the main loop
 *
 * All functions run under the BQL.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_BLOCK_QUEUE_IOTHREADS_H
#define HW_BLOCK_QUEUE_IOTHREADS_H

#include "block/aio.h"
#include "hw/qdev-properties-system.h"
#include "qapi/qapi-types-virtio.h"
#include "system/block-backend.h"
#include "system/iothread.h"

/* The properties, embedded in the device's configuration. */
typedef struct QueueIOThreadsConf {
    IOThread *iothread;
    IOThreadVirtQueueMappingList *mapping;
    char *iothreads;
} QueueIOThreadsConf;

#define DEFINE_QUEUE_IOTHREADS_PROPERTIES(_state, _conf)                 \
    DEFINE_PROP_LINK("iothread", _state, _conf.iothread, TYPE_IOTHREAD,  \
                     IOThread *),                                        \
    DEFINE_PROP_IOTHREAD_VQ_MAPPING_LIST("iothread-vq-mapping", _state,  \
                                         _conf.mapping),                 \
    DEFINE_PROP("iothreads", _state, _conf.iothreads,                    \
                queue_iothreads_prop_iothreads, char *)

/* The string "auto" or a number; JSON may give the number without quotes. */
extern const PropertyInfo queue_iothreads_prop_iothreads;

/** queue_iothreads_describe: set the texts of "-device TYPE,help". */
void queue_iothreads_describe(ObjectClass *klass);

typedef struct QueueIOThreads {
    QueueIOThreadsConf *conf;
    unsigned num_queues;
    IOThread **queue_iothread;  /* per queue, referenced; NULL: main loop */
    unsigned num_owned;
    IOThread **owned;           /* made for iothreads= */
    IOThread *node_iothread;    /* the node was moved here; referenced */
} QueueIOThreads;

/** queue_iothreads_wanted: return whether @conf asks for any IOThread. */
bool queue_iothreads_wanted(const QueueIOThreadsConf *conf);

/**
 * queue_iothreads_alias: choose a name for a device that has no ID.
 *
 * Returns: the name that the user gave to @blk or to its node, or @otherwise
 * if there is none.
 */
const char *queue_iothreads_alias(BlockBackend *blk, const char *otherwise);

/**
 * queue_iothreads_init: choose the IOThread of each queue, as @conf says.
 * @conf: must stay valid until queue_iothreads_cleanup()
 * @num_queues: the number of queues
 * @id: of the device, or NULL if it has none
 * @alias: see below; used only if @id is NULL
 *
 * If @conf asks for IOThreads of the device's own, this makes them.  Their
 * names are "@id-iothreadN".  A device without an ID uses "@alias-iothreadN".
 * If one of these names is taken, it uses "@alias-2-iothreadN", and so on.
 *
 * Returns: true, or false with @errp set.  It fails if the properties
 * contradict each other or name an IOThread that does not exist, or if @id is
 * set and one of the names is taken.  Then @map holds no references.
 */
bool queue_iothreads_init(QueueIOThreads *map, QueueIOThreadsConf *conf,
                          unsigned num_queues, const char *id,
                          const char *alias, Error **errp);

/**
 * queue_iothreads_cleanup: drop all references to IOThreads.
 *
 * No queue may run any more.  The IOThreads that the device has made end now.
 * If another user keeps a node in one of them, that IOThread ends when the
 * last node has left it.
 */
void queue_iothreads_cleanup(QueueIOThreads *map);

/** queue_iothreads_context: return the AioContext for queue @index. */
AioContext *queue_iothreads_context(const QueueIOThreads *map,
                                    unsigned index);

/**
 * queue_iothreads_get: return the IOThread of queue @index, or NULL for the
 * main loop.
 */
IOThread *queue_iothreads_get(const QueueIOThreads *map, unsigned index);

/**
 * queue_iothreads_set: note that queue @index now runs in @iothread.
 *
 * This only keeps the books.  The caller then moves the queue with
 * block_queue_move(), and drops the reference on the old IOThread last.
 *
 * The property "iothread" has a reference, too.  When the last queue leaves
 * that IOThread, the property drops its reference.  So an IOThread that serves
 * no queue ends when the user deletes it.
 *
 * Returns: the old IOThread with a reference for the caller, or NULL.
 */
IOThread *queue_iothreads_set(QueueIOThreads *map, unsigned index,
                              IOThread *iothread);

/**
 * queue_iothreads_place_node: move the node of @blk to queue 0's AioContext.
 *
 * Block jobs run in the node's AioContext; for queues it does not matter where
 * the node is.  The node stays where it is if another user of it prevents the
 * move, or if a job is about to end.  @map holds a reference on the IOThread
 * for as long as the node is there, even if all queues have left it and the
 * user has deleted it.  The caller has drained the node.
 *
 * Context: main loop thread.
 *
 * Returns: true, or false with @errp set if another user prevents the move.
 */
bool queue_iothreads_place_node(QueueIOThreads *map, BlockBackend *blk,
                                Error **errp);

/**
 * queue_iothreads_release_node: move the node back to the main loop.
 *
 * The device calls this when its queues stop.  If another user keeps the node
 * in the IOThread, the IOThread stays for that user.  The caller has drained
 * the node.
 */
void queue_iothreads_release_node(QueueIOThreads *map, BlockBackend *blk);

#endif /* HW_BLOCK_QUEUE_IOTHREADS_H */
