/*
 * virtio-blk as a driver with several queues sees it, over PCI or memory mapped
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MQ_DEVICE_H
#define MQ_DEVICE_H

#include "qemu/bitops.h"
#include "standard-headers/linux/virtio_config.h"
#include "standard-headers/linux/virtio_ring.h"
#include "mq-machine.h"

typedef struct MqQueue MqQueue;
typedef struct MqDevice MqDevice;

/* Access to the registers that every transport has. */
typedef struct MqTransport {
    uint8_t (*get_status)(MqDevice *d);
    void (*set_status)(MqDevice *d, uint8_t status);
    uint64_t (*get_features)(MqDevice *d);
    void (*set_features)(MqDevice *d, uint64_t features);
    unsigned (*queue_size)(MqDevice *d, unsigned index);
    bool (*queue_enabled)(MqDevice *d, unsigned index);
    void (*enable_queue)(MqDevice *d, unsigned index, unsigned size,
                         uint64_t desc, uint64_t driver, uint64_t device);
    void (*notify)(MqDevice *d, unsigned index);
    uint32_t (*config_read)(MqDevice *d, unsigned offset, unsigned size);
    void (*config_writeb)(MqDevice *d, unsigned offset, uint8_t value);
    uint8_t (*isr_read)(MqDevice *d);
} MqTransport;

extern const MqTransport mq_mmio_transport;

/* "All that the device offers", for mq_device_start(). */
#define MQ_ALL_QUEUES UINT_MAX

/* Features that change the ring or what may stand in it. */
#define MQ_RING_FEATURES (BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC) | \
                          BIT_ULL(VIRTIO_RING_F_EVENT_IDX) | \
                          BIT_ULL(VIRTIO_F_RING_PACKED) | \
                          BIT_ULL(VIRTIO_F_IN_ORDER) | \
                          BIT_ULL(VIRTIO_F_NOTIFICATION_DATA))

/**
 * MqDevice: one device and what the driver knows about it.
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
struct MqDevice {
    MqMachine *machine;
    QTestState *qts;
    const MqTransport *transport;
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
    MqQueue **queues;
    GPtrArray *owned;
};

/**
 * mq_device_open: find the device in @slot, map its registers and enable
 * MSI-X where it has it.  Each vector's message goes to a word of its own.
 *
 * A machine without PCI has memory mapped devices in its slots.
 */
MqDevice *mq_device_open(MqMachine *m, unsigned slot);

/* mq_device_close: forget a device, which may be gone. */
void mq_device_close(MqDevice *d);

/**
 * mq_device_move: go on with a device, its queues and requests after the
 * machine has been migrated to @to.
 */
void mq_device_move(MqDevice *d, MqMachine *to);

uint8_t mq_device_status(MqDevice *d);
void mq_device_set_status(MqDevice *d, uint8_t status);
uint64_t mq_device_offered(MqDevice *d);

/**
 * mq_device_reset: write 0 to the status, wait for it to read as 0, forget
 * the queues.  Their memory stays allocated, for a look at it.
 */
void mq_device_reset(MqDevice *d);

/* mq_device_wait_broken: wait for DEVICE_NEEDS_RESET (modern interface). */
void mq_device_wait_broken(MqDevice *d);

/**
 * mq_device_negotiate: reset, then the steps of section 3.1.1 up to
 * FEATURES_OK with those features of @wanted that are offered and harmless.
 */
void mq_device_negotiate(MqDevice *d, uint64_t wanted);

/* mq_device_set_driver_ok: the last step of section 3.1.1 */
void mq_device_set_driver_ok(MqDevice *d);

/**
 * mq_device_start: everything from reset to DRIVER_OK.
 * @ring_features: which of MQ_RING_FEATURES to ask for; other features are
 *                 all accepted
 * @queues: how many queues to set up
 *
 * Vector 0 is for changes of the configuration, queue i has vector i + 1, or
 * the last one if there are not enough.
 */
void mq_device_start(MqDevice *d, uint64_t ring_features, unsigned queues);

/* Registers of one queue, section 4.1.4.3 */
unsigned mq_device_queue_size(MqDevice *d, unsigned index);
bool mq_device_queue_enabled(MqDevice *d, unsigned index);

/**
 * mq_device_enable_queue: tell the device where a queue's parts are.
 * @legacy requires them laid out as section 2.7.2 has it.
 */
void mq_device_enable_queue(MqDevice *d, unsigned index, unsigned size,
                            uint64_t desc, uint64_t driver, uint64_t device);

/**
 * mq_device_reset_queue: reset one queue, section 4.1.4.3.2, and forget it.
 * Needs VIRTIO_F_RING_RESET.
 */
void mq_device_reset_queue(MqDevice *d, unsigned index);

/* mq_device_notify: ring a queue's doorbell, whether it is set up or not. */
void mq_device_notify(MqDevice *d, unsigned index);

/* Vectors of section 4.1.5.1.2; return what the device then reads back. */
uint16_t mq_device_set_queue_vector(MqDevice *d, unsigned index,
                                    uint16_t vector);
uint16_t mq_device_set_config_vector(MqDevice *d, uint16_t vector);

/* The device's configuration, section 5.2.4 */
uint8_t mq_config_readb(MqDevice *d, unsigned offset);
uint16_t mq_config_readw(MqDevice *d, unsigned offset);
uint32_t mq_config_readl(MqDevice *d, unsigned offset);
uint64_t mq_config_readq(MqDevice *d, unsigned offset);
void mq_config_writeb(MqDevice *d, unsigned offset, uint8_t value);

/* mq_isr_read: read (and so clear) the interrupt status, section 4.1.4.5 */
uint8_t mq_isr_read(MqDevice *d);

/* mq_intx_level: whether the device asserts its INTx line */
bool mq_intx_level(MqDevice *d);

/**
 * mq_vector_take: whether @vector's message has arrived since the last call.
 * A message with another vector's data ends the test.
 */
bool mq_vector_take(MqDevice *d, unsigned vector);

/* mq_vector_wait: wait for @vector's message and take it. */
void mq_vector_wait(MqDevice *d, unsigned vector);

/* mq_vectors_silent: check that no vector's message has arrived. */
void mq_vectors_silent(MqDevice *d);

void mq_vector_mask(MqDevice *d, unsigned vector, bool masked);
bool mq_vector_pending(MqDevice *d, unsigned vector);

/**
 * mq_vector_set_message: send @vector's messages elsewhere; the functions
 * above that look for them do not see them there.  The vector has to be masked
 * or not yet in use.
 */
void mq_vector_set_message(MqDevice *d, unsigned vector, uint32_t addr,
                           uint32_t data);

#endif
