/*
 * What an administrator can do to the machine that is fuzzed
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TESTS_FUZZ_MACHINE_H
#define TESTS_FUZZ_MACHINE_H

#include "exec/memory.h"
#include "fuzz-input.h"

/*
 * A disk whose requests at one sector fail, and two IOThreads for it.
 *
 * Reads fill their buffers with zeroes, and writes look for them, so that each
 * byte of a buffer is touched.
 */
#define FUZZ_DISK_SECTORS   4096
#define FUZZ_BAD_SECTOR     1000
#define FUZZ_DISK \
    " -object iothread,id=io0 -object iothread,id=io1" \
    " -blockdev driver=null-co,node-name=null,size=2097152,read-zeroes=on" \
    " -blockdev driver=blkdebug,node-name=disk,image=null,discard=unmap," \
    "detect-zeroes=on," \
    "inject-error.0.event=none,inject-error.0.errno=5," \
    "inject-error.0.once=off,inject-error.0.immediately=off," \
    "inject-error.0.sector=" stringify(FUZZ_BAD_SECTOR)

/* The device's ID. */
#define FUZZ_DEVICE "disk0"

/** fuzz_main_loop: let the main loop do what there is to do now. */
void fuzz_main_loop(void);

/**
 * fuzz_settle: let the main loop and the IOThreads do what there is to do.
 *
 * Events that were sent before are seen, and the requests that were offered
 * with them have ended, unless their VM is stopped.
 */
void fuzz_settle(void);

/* Ways to choose the IOThreads of a device, and the way to have none. */
#define FUZZ_THREADS        3
#define FUZZ_MAIN_LOOP      1

/**
 * fuzz_plug: plug the device.
 *
 * @properties is JSON: an object with all properties but for the ID, the drive
 * and the queues' IOThreads.  @threads chooses the latter.
 *
 * Returns: false if there is such a device already, or it cannot be plugged.
 */
bool fuzz_plug(const char *properties, unsigned threads);

/** fuzz_ask_unplug: ask the guest to let the device go. */
void fuzz_ask_unplug(void);

/**
 * fuzz_wait_unplugged: wait until the device is freed, when driver and
 * toolstack have let it go; its disk can be plugged again then.
 */
void fuzz_wait_unplugged(void);

/** fuzz_throttle: limit the device to @iops; 0: no limit. */
void fuzz_throttle(unsigned iops);

FuzzOp fuzz_op_settle;
FuzzOp fuzz_op_stop;

/** fuzz_op_continue: go on, and try again what has failed. */
FuzzOp fuzz_op_continue;

/** fuzz_op_move: move a queue, or try to move one that does not exist. */
FuzzOp fuzz_op_move;

/** fuzz_op_throttle: change the limits of the disk. */
FuzzOp fuzz_op_throttle;

/** fuzz_op_query: ask for what the queues count. */
FuzzOp fuzz_op_query;

/**
 * fuzz_op_log: begin or stop to log which memory is written, as a migration.
 */
FuzzOp fuzz_op_log;

/** fuzz_stop_log: stop that, if it is under way. */
void fuzz_stop_log(void);

/* As many regions fuzz_save_memory() takes. */
#define FUZZ_MEMORIES 32

/**
 * fuzz_save_memory: let fuzz_op_save() and fuzz_load() take this RAM, too.
 *
 * They take no other, so the machine's own has to be named as well.
 */
void fuzz_save_memory(MemoryRegion *ram);

/** fuzz_op_save: migrate to a file, after which the source goes on. */
FuzzOp fuzz_op_save;

/** fuzz_is_saved: return whether there is something to load. */
bool fuzz_is_saved(void);

/**
 * fuzz_load: begin again with what was saved last.
 *
 * The guest's memory goes back to what it was, or stays as it is, as @in says.
 * A machine that cannot load is reset.
 *
 * Returns: whether memory and devices are as they were.
 */
bool fuzz_load(FuzzInput *in);

/**
 * fuzz_forget_saved: the machine has other devices than what was saved.
 *
 * A reset does not undo what the machine loads before it comes to a device that
 * is missing.  A real QEMU ends there.
 */
void fuzz_forget_saved(void);

/**
 * fuzz_forget_loaded: forget what was saved, and reset a machine that has
 * loaded it.
 *
 * Returns: whether it was reset.
 */
bool fuzz_forget_loaded(void);

#endif /* TESTS_FUZZ_MACHINE_H */
