/*
 * Which queue of a block device runs in which IOThread
 *
 *     iothread=ID                     every queue in that IOThread
 *     iothread-vq-mapping=[...]       as listed, or round-robin over the list
 *     iothreads=N|auto                N IOThreads made and owned by the
 *                                     device, queue i in IOThread i % N
 *     nothing                         the main loop
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

/* A string, "auto" or a number, that JSON may have as a number too. */
extern const PropertyInfo queue_iothreads_prop_iothreads;

/** queue_iothreads_describe: what "-device TYPE,help" says of them. */
void queue_iothreads_describe(ObjectClass *klass);

typedef struct QueueIOThreads {
    QueueIOThreadsConf *conf;
    unsigned num_queues;
    IOThread **queue_iothread;  /* per queue, referenced; NULL: main loop */
    unsigned num_owned;
    IOThread **owned;           /* made for iothreads= */
    IOThread *node_iothread;    /* where the node was put, referenced */
} QueueIOThreads;

/** queue_iothreads_wanted: does @conf ask for any IOThread? */
bool queue_iothreads_wanted(const QueueIOThreadsConf *conf);

/**
 * queue_iothreads_alias: what a device that has no ID is called after.
 *
 * Returns: the name that the user gave to @blk or to its node, or @otherwise.
 */
const char *queue_iothreads_alias(BlockBackend *blk, const char *otherwise);

/**
 * queue_iothreads_init: resolve @conf for @num_queues queues.
 *
 * @conf has to live until queue_iothreads_cleanup().
 *
 * @id is the device's, or NULL.  IOThreads made for the device are called
 * "@id-iothreadN"; the monitor tells who serves what.  Without an ID it is
 * "@alias-iothreadN" or, if one of these names is taken, "@alias-2-iothreadN"
 * and so on.
 *
 * Returns: false with @errp set, and nothing held, when the properties
 * contradict each other or name what does not exist, or if @id is set and one
 * of the names is taken.
 */
bool queue_iothreads_init(QueueIOThreads *map, QueueIOThreadsConf *conf,
                          unsigned num_queues, const char *id,
                          const char *alias, Error **errp);

/**
 * queue_iothreads_cleanup: drop all; no queue may run any more.
 *
 * IOThreads that were made for the device end, but for one in which others
 * keep a node: that ends when the last node has left it.
 */
void queue_iothreads_cleanup(QueueIOThreads *map);

/** queue_iothreads_context: where queue @index is to run. */
AioContext *queue_iothreads_context(const QueueIOThreads *map,
                                    unsigned index);

/** queue_iothreads_get: IOThread of queue @index, NULL for the main loop. */
IOThread *queue_iothreads_get(const QueueIOThreads *map, unsigned index);

/**
 * queue_iothreads_set: note that queue @index now runs in @iothread.
 *
 * Only bookkeeping: the caller moves the queue (block_queue_move()), after
 * this took the new reference and before it drops the old one, hence the
 * old IOThread comes back referenced for the caller to object_unref().
 *
 * When the last queue leaves the IOThread of the property "iothread" the
 * property lets go of it, too: an IOThread that serves no queue ends when the
 * user deletes it.
 */
IOThread *queue_iothreads_set(QueueIOThreads *map, unsigned index,
                              IOThread *iothread);

/**
 * queue_iothreads_place_node: put the node of @blk beside queue 0.
 *
 * Block jobs do their work where the node lives.  Where others keep it, or a
 * job is about to end, it stays where it is: to queues it makes no difference.
 * The IOThread is kept for as long as the node is there, also when all queues
 * have left it and the user has deleted it.  Main loop thread.
 *
 * Returns: false with @errp set if others keep it elsewhere.
 */
bool queue_iothreads_place_node(QueueIOThreads *map, BlockBackend *blk,
                                Error **errp);

/**
 * queue_iothreads_release_node: back to the main loop, when queues stop.
 *
 * If others keep the node in the IOThread, this stays for them.
 */
void queue_iothreads_release_node(QueueIOThreads *map, BlockBackend *blk);

#endif /* HW_BLOCK_QUEUE_IOTHREADS_H */
