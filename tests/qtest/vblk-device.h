/*
 * virtio-blk as a driver with several queues sees it, over PCI or memory mapped
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef VBLK_DEVICE_H
#define VBLK_DEVICE_H

#include "qemu/bitops.h"
#include "standard-headers/linux/virtio_config.h"
#include "standard-headers/linux/virtio_ring.h"
#include "vblk-machine.h"

typedef struct VblkQueue VblkQueue;
typedef struct VblkDevice VblkDevice;

/* Access to the registers that every transport has. */
typedef struct VblkTransport {
    uint8_t (*get_status)(VblkDevice *d);
    void (*set_status)(VblkDevice *d, uint8_t status);
    uint64_t (*get_features)(VblkDevice *d);
    void (*set_features)(VblkDevice *d, uint64_t features);
    unsigned (*queue_size)(VblkDevice *d, unsigned index);
    bool (*queue_enabled)(VblkDevice *d, unsigned index);
    void (*enable_queue)(VblkDevice *d, unsigned index, unsigned size,
                         uint64_t desc, uint64_t driver, uint64_t device);
    void (*notify)(VblkDevice *d, unsigned index);
    uint32_t (*config_read)(VblkDevice *d, unsigned offset, unsigned size);
    void (*config_writeb)(VblkDevice *d, unsigned offset, uint8_t value);
    uint8_t (*isr_read)(VblkDevice *d);
} VblkTransport;

extern const VblkTransport vblk_mmio_transport;

/* "All that the device offers", for vblk_device_start(). */
#define VBLK_ALL_QUEUES UINT_MAX

/* Features that change the ring or what may stand in it. */
#define VBLK_RING_FEATURES (BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC) | \
                            BIT_ULL(VIRTIO_RING_F_EVENT_IDX) | \
                            BIT_ULL(VIRTIO_F_RING_PACKED) | \
                            BIT_ULL(VIRTIO_F_IN_ORDER) | \
                            BIT_ULL(VIRTIO_F_NOTIFICATION_DATA))

/**
 * VblkDevice: one device and what the driver knows about it.
 * @mmio: where the registers are, 0 for PCI; no other field before
 *        @max_queues but @modern means anything for it
 * @modern: the interface in use, VIRTIO 1.x sections 4.1.4 and 4.2.2 (modern),
 *          4.1.4.10 and 4.2.4 (legacy)
 * @bar: BAR with all registers, at the offsets below for a modern device
 * @num_vectors: entries of the MSI-X table, 0 without MSI-X
 * @messages: guest address of an array with a 32-bit message for each vector
 * @features: as negotiated
 * @largest: entries of a ring where the driver may choose and is offered more;
 *           256 unless a test says otherwise
 * @queues: the queues that were set up, NULL for others
 * @owned: what is freed with it, by g_free()
 */
struct VblkDevice {
    VblkMachine *machine;
    QTestState *qts;
    const VblkTransport *transport;
    uint64_t mmio;
    QPCIDevice *pci;
    bool modern;
    QPCIBar bar;
    uint32_t common, notify, notify_multiplier, isr, config;
    unsigned num_vectors;
    uint64_t messages;
    uint64_t features;
    unsigned largest;
    unsigned max_queues;
    VblkQueue **queues;
    GPtrArray *owned;
};

/**
 * vblk_device_open: find the device in @slot, map its registers and enable
 * MSI-X where it has it.  Each vector's message goes to a word of its own.
 *
 * A machine without PCI has memory mapped devices in its slots.
 */
VblkDevice *vblk_device_open(VblkMachine *m, unsigned slot);

/** vblk_device_close: forget a device, which may be gone. */
void vblk_device_close(VblkDevice *d);

/**
 * vblk_device_move: go on with a device, its queues and requests after the
 * machine has been migrated to @to.
 */
void vblk_device_move(VblkDevice *d, VblkMachine *to);

uint8_t vblk_device_status(VblkDevice *d);
void vblk_device_set_status(VblkDevice *d, uint8_t status);
uint64_t vblk_device_offered(VblkDevice *d);

/**
 * vblk_device_reset: write 0 to the status, wait for it to read as 0, forget
 * the queues.  Their memory stays allocated, for a look at it.
 */
void vblk_device_reset(VblkDevice *d);

/** vblk_device_wait_broken: wait for DEVICE_NEEDS_RESET (modern interface). */
void vblk_device_wait_broken(VblkDevice *d);

/**
 * vblk_device_negotiate: reset, then the steps of section 3.1.1 up to
 * FEATURES_OK with those features of @wanted that are offered and harmless.
 */
void vblk_device_negotiate(VblkDevice *d, uint64_t wanted);

/** vblk_device_set_driver_ok: the last step of section 3.1.1. */
void vblk_device_set_driver_ok(VblkDevice *d);

/**
 * vblk_device_start: everything from reset to DRIVER_OK.
 * @ring_features: which of VBLK_RING_FEATURES to ask for; other features are
 *                 all accepted
 * @queues: how many queues to set up
 *
 * Vector 0 is for changes of the configuration, queue i has vector i + 1, or
 * the last one if there are not enough.
 */
void vblk_device_start(VblkDevice *d, uint64_t ring_features, unsigned queues);

/* Registers of one queue, section 4.1.4.3 */
unsigned vblk_device_queue_size(VblkDevice *d, unsigned index);
bool vblk_device_queue_enabled(VblkDevice *d, unsigned index);

/**
 * vblk_device_enable_queue: tell the device where a queue's parts are.
 * @legacy requires them laid out as section 2.7.2 has it.
 */
void vblk_device_enable_queue(VblkDevice *d, unsigned index, unsigned size,
                              uint64_t desc, uint64_t driver, uint64_t device);

/**
 * vblk_device_reset_queue: reset one queue, section 4.1.4.3.2, and forget it.
 * Needs VIRTIO_F_RING_RESET.
 */
void vblk_device_reset_queue(VblkDevice *d, unsigned index);

/** vblk_device_notify: ring a queue's doorbell, whether it is set up or not. */
void vblk_device_notify(VblkDevice *d, unsigned index);

/* Vectors of section 4.1.5.1.2; return what the device then reads back. */
uint16_t vblk_device_set_queue_vector(VblkDevice *d, unsigned index,
                                      uint16_t vector);
uint16_t vblk_device_set_config_vector(VblkDevice *d, uint16_t vector);

/* The device's configuration, section 5.2.4 */
uint8_t vblk_config_readb(VblkDevice *d, unsigned offset);
uint16_t vblk_config_readw(VblkDevice *d, unsigned offset);
uint32_t vblk_config_readl(VblkDevice *d, unsigned offset);
uint64_t vblk_config_readq(VblkDevice *d, unsigned offset);
void vblk_config_writeb(VblkDevice *d, unsigned offset, uint8_t value);

/** vblk_isr_read: read (and so clear) the interrupt status, section 4.1.4.5. */
uint8_t vblk_isr_read(VblkDevice *d);

/** vblk_intx_level: whether the device asserts its INTx line. */
bool vblk_intx_level(VblkDevice *d);

/**
 * vblk_vector_take: whether @vector's message has arrived since the last call.
 * A message with another vector's data ends the test.
 */
bool vblk_vector_take(VblkDevice *d, unsigned vector);

/** vblk_vector_wait: wait for @vector's message and take it. */
void vblk_vector_wait(VblkDevice *d, unsigned vector);

/** vblk_vectors_silent: check that no vector's message has arrived. */
void vblk_vectors_silent(VblkDevice *d);

void vblk_vector_mask(VblkDevice *d, unsigned vector, bool masked);
bool vblk_vector_pending(VblkDevice *d, unsigned vector);

/** vblk_vector_wait_pending: wait for a message that a mask holds back. */
void vblk_vector_wait_pending(VblkDevice *d, unsigned vector);

/**
 * vblk_vector_set_message: send @vector's messages elsewhere; the functions
 * above that look for them do not see them there.  The vector has to be masked
 * or not yet in use.
 */
void vblk_vector_set_message(VblkDevice *d, unsigned vector, uint32_t addr,
                             uint32_t data);

#endif
