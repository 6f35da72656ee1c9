/*
 * Encryption of a disk by several threads
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "crypto/block.h"
#include "crypto/blockpriv.h"
#include "crypto/init.h"
#include "crypto/secret.h"
#include "qapi/error.h"
#include "qemu/cutils.h"
#include "qemu/lockable.h"
#include "qemu/module.h"
#include "qom/object_interfaces.h"

#define SECTORS     8
#define BYTES       (SECTORS * 512)
#define THREADS     4
#define ROUNDS      200

/* The cipher of old qcow2 images needs no header. */
static QCryptoBlock *block_new(void)
{
    QCryptoBlockOpenOptions options = {
        .format = QCRYPTO_BLOCK_FORMAT_QCOW,
        .u.qcow.key_secret = (char *)"key",
    };

    return qcrypto_block_open(&options, NULL, NULL, NULL, 0, &error_abort);
}

static void encrypt(QCryptoBlock *block, uint64_t sector, uint8_t *buf)
{
    g_assert(qcrypto_block_encrypt(block, sector * 512, buf, BYTES,
                                   &error_abort) == 0);
}

static void decrypt(QCryptoBlock *block, uint64_t sector, uint8_t *buf)
{
    g_assert(qcrypto_block_decrypt(block, sector * 512, buf, BYTES,
                                   &error_abort) == 0);
}

/* A thread that has a cipher does not wait for other threads. */
static void test_no_lock(void)
{
    QCryptoBlock *block = block_new();
    uint8_t buf[BYTES] = { 0 };

    encrypt(block, 0, buf);
    WITH_QEMU_LOCK_GUARD(&block->mutex) {
        decrypt(block, 0, buf);
    }
    g_assert(buffer_is_zero(buf, BYTES));
    qcrypto_block_free(block);
}

typedef struct Worker {
    QemuThread thread;
    QCryptoBlock *block;
    const uint8_t *wanted;      /* sectors of zeroes, encrypted */
    unsigned first;
} Worker;

static void *worker_run(void *opaque)
{
    Worker *w = opaque;
    uint8_t buf[BYTES];

    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t sector = (w->first + i) % SECTORS;

        memset(buf, 0, sizeof(buf));
        encrypt(w->block, sector, buf);
        g_assert(memcmp(buf, w->wanted + sector * 512, BYTES) == 0);
        decrypt(w->block, sector, buf);
        g_assert(buffer_is_zero(buf, BYTES));
    }
    return NULL;
}

/* Several at once get what one gets; more threads later use their ciphers. */
static void test_threads(void)
{
    QCryptoBlock *block = block_new();
    uint8_t wanted[2 * BYTES] = { 0 };
    Worker workers[THREADS];

    encrypt(block, 0, wanted);
    encrypt(block, SECTORS, wanted + BYTES);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < THREADS; i++) {
            workers[i] = (Worker) {
                .block = block, .wanted = wanted, .first = i,
            };
            qemu_thread_create(&workers[i].thread, "worker", worker_run,
                               &workers[i], QEMU_THREAD_JOINABLE);
        }
        for (int i = 0; i < THREADS; i++) {
            qemu_thread_join(&workers[i].thread);
        }
    }
    qcrypto_block_free(block);
}

int main(int argc, char **argv)
{
    g_autofree char *data = g_strdup("some words");

    module_call_init(MODULE_INIT_QOM);
    g_test_init(&argc, &argv, NULL);
    if (qcrypto_init(NULL) < 0 ||
        !qcrypto_cipher_supports(QCRYPTO_CIPHER_ALGO_AES_128,
                                 QCRYPTO_CIPHER_MODE_CBC)) {
        g_print("1..0 # SKIP no cipher\n");
        return 0;
    }
    object_new_with_props(TYPE_QCRYPTO_SECRET, object_get_objects_root(),
                          "key", &error_abort, "data", data, NULL);
    g_test_add_func("/crypto-threads/no-lock", test_no_lock);
    g_test_add_func("/crypto-threads/threads", test_threads);
    return g_test_run();
}
