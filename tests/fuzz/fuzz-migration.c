/*
 * The machine that is fuzzed is saved to a file, and comes back
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "io/channel-file.h"
#include "migration/global_state.h"
#include "migration/qemu-file.h"
#include "migration/savevm.h"
#include "qapi/error.h"
#include "qemu/base-version.h"
#include "qemu/memfd.h"
#include "exec/memory.h"
#include "system/runstate.h"
#include "system/system.h"
#include "fuzz-machine.h"

/* RAM, and what was in it when the machine was saved */
typedef struct Memory {
    MemoryRegion *ram;
    void *copy;                 /* NULL: the machine was never saved */
} Memory;

static struct {
    int devices;                /* a file; 0: nothing was saved */
    bool loaded;
    Memory memories[FUZZ_MEMORIES];
    unsigned nb_memories;
} saved;

void fuzz_save_memory(MemoryRegion *ram)
{
    assert(saved.nb_memories < FUZZ_MEMORIES);
    saved.memories[saved.nb_memories++].ram = ram;
}

static void memories_save(void)
{
    for (unsigned i = 0; i < saved.nb_memories; i++) {
        Memory *memory = &saved.memories[i];
        size_t bytes = memory_region_size(memory->ram);

        if (!memory->copy) {
            memory->copy = g_malloc(bytes);
        }
        memcpy(memory->copy, memory_region_get_ram_ptr(memory->ram), bytes);
    }
}

static void memories_load(void)
{
    for (unsigned i = 0; i < saved.nb_memories; i++) {
        Memory *memory = &saved.memories[i];

        memcpy(memory_region_get_ram_ptr(memory->ram), memory->copy,
               memory_region_size(memory->ram));
    }
}

void fuzz_forget_saved(void)
{
    if (saved.devices) {
        close(saved.devices);
        saved.devices = 0;
    }
}

/* A channel closes its file; the position is that of the file. */
static QIOChannel *devices_channel(void)
{
    lseek(saved.devices, 0, SEEK_SET);
    return QIO_CHANNEL(qio_channel_file_new_fd(qemu_dup(saved.devices)));
}

static void save(void)
{
    g_autoptr(QIOChannel) channel = NULL;
    QEMUFile *f;
    int ret;

    saved.devices = qemu_memfd_create("fuzz", 0, false, 0, 0, &error_abort);
    channel = devices_channel();
    f = qemu_file_new_output(channel);
    global_state_store_running();
    ret = qemu_save_device_state(f);
    if (qemu_fclose(f) < 0 || ret < 0) {
        fuzz_forget_saved();
        return;
    }
    memories_save();
}

static bool load(void)
{
    g_autoptr(QIOChannel) channel = devices_channel();
    QEMUFile *f = qemu_file_new_input(channel);
    int ret;

    /* An incoming migration has looked at the stream's header before. */
    qemu_get_be32(f);
    qemu_get_be32(f);
    ret = base_load_device_state(f);
    qemu_fclose(f);
    return ret == 0;
}

void fuzz_op_save(void *target, FuzzInput *in)
{
    fuzz_forget_saved();
    vm_stop(RUN_STATE_PAUSED);
    save();
    fuzz_op_continue(target, in);
}

bool fuzz_is_saved(void)
{
    return saved.devices;
}

bool fuzz_load(FuzzInput *in)
{
    bool with_memory = fuzz_byte(in) & 1;
    bool loaded = false;

    vm_stop(RUN_STATE_PAUSED);
    qemu_system_reset(SHUTDOWN_CAUSE_NONE);
    saved.loaded = true;
    if (saved.devices) {
        if (with_memory) {
            memories_load();
        }
        loaded = load();
        if (!loaded) {
            qemu_system_reset(SHUTDOWN_CAUSE_NONE);
        }
    }
    fuzz_op_continue(NULL, in);
    return loaded && with_memory;
}

bool fuzz_forget_loaded(void)
{
    bool loaded = saved.loaded;

    fuzz_forget_saved();
    saved.loaded = false;
    if (loaded) {
        qemu_system_reset(SHUTDOWN_CAUSE_NONE);
    }
    return loaded;
}
