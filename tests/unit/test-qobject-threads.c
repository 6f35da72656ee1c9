/*
 * References of a QObject that two threads take and give back
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/thread.h"
#include "qobject/qdict.h"

#define ROUNDS 1000000

static bool go;

static void *take_and_give(void *opaque)
{
    QDict *dict = opaque;

    while (!qatomic_read(&go)) {
        cpu_relax();
    }
    for (int i = 0; i < ROUNDS; i++) {
        qobject_ref(dict);
        qobject_unref(dict);
    }
    return NULL;
}

static void test_two_threads(void)
{
    QDict *dict = qdict_new();
    QemuThread thread;

    qemu_thread_create(&thread, "other", take_and_give, dict,
                       QEMU_THREAD_JOINABLE);
    qatomic_set(&go, true);
    take_and_give(dict);
    qemu_thread_join(&thread);

    g_assert_cmpuint(dict->base.refcnt, ==, 1);
    qobject_unref(dict);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qobject-threads/two", test_two_threads);
    return g_test_run();
}
