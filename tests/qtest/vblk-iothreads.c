/*
 * The list of all IOThreads: those of objects and those of devices
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "vblk-iothreads.h"

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Member @name of all in @rsp, where they have a type, of IOThreads. */
static char **sorted_names(QDict *rsp, const char *name)
{
    GPtrArray *names = g_ptr_array_new();
    const QListEntry *entry;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(rsp, "return"), entry) {
        QDict *info = qobject_to(QDict, qlist_entry_obj(entry));
        const char *type = qdict_get_try_str(info, "type");

        if (!type || !strcmp(type, "child<iothread>")) {
            g_ptr_array_add(names, g_strdup(qdict_get_str(info, name)));
        }
    }
    qobject_unref(rsp);
    g_ptr_array_sort(names, compare_names);
    g_ptr_array_add(names, NULL);
    return (char **)g_ptr_array_free(names, false);
}

char **vblk_iothread_names(QTestState *qts)
{
    return sorted_names(qtest_qmp(qts, "{'execute': 'qom-list',"
                                  " 'arguments': {'path': '/objects'}}"),
                        "name");
}

char **vblk_iothread_users(QTestState *qts)
{
    return sorted_names(qtest_qmp(qts, "{'execute': 'query-iothreads'}"),
                        "id");
}

int vblk_iothread_tid(QTestState *qts, const char *id)
{
    QDict *rsp = qtest_qmp(qts, "{'execute':"
                           " '__org.qemu-mq_query-block-queues'}");
    const QListEntry *entry;
    int tid = 0;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(rsp, "return"), entry) {
        QDict *info = qobject_to(QDict, qlist_entry_obj(entry));

        if (!g_strcmp0(qdict_get_try_str(info, "iothread"), id)) {
            tid = qdict_get_int(info, "thread-id");
        }
    }
    qobject_unref(rsp);
    g_assert_cmpint(tid, !=, 0);
    return tid;
}
