/*
 * Functions of each ring layout that vring.c calls and vring.h does not have
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_VRING_LAYOUT_H
#define HW_VIRTIO_VRING_LAYOUT_H

#include "hw/virtio/vring.h"

/** vring_empty_split: vring_empty() of a split ring. */
bool vring_empty_split(const VRing *r);

/** vring_empty_packed: vring_empty() of a packed ring. */
bool vring_empty_packed(const VRing *r);

/**
 * vring_split_publish: make the used entries of all pushed chains visible, by
 * one write of the used index.
 */
void vring_split_publish(VRing *r);

/**
 * vring_split_wants_interrupt: return whether the driver wants an interrupt for
 * the published chains.
 *
 * The caller must have executed a full barrier after it has published them.
 */
bool vring_split_wants_interrupt(VRing *r);

/** vring_split_driver_waits: vring_driver_waits() of a split ring. */
bool vring_split_driver_waits(const VRing *r);

/**
 * vring_split_set_notification: vring_set_notification() of a split ring,
 * without the barrier.
 */
void vring_split_set_notification(VRing *r, bool enable);

/**
 * vring_packed_publish: make the used descriptors of all pushed chains visible.
 *
 * The first one is written last; until then the driver sees none of them.
 */
void vring_packed_publish(VRing *r);

/**
 * vring_packed_wants_interrupt: return whether the driver wants an interrupt
 * for the published chains.
 *
 * The caller must have executed a full barrier after it has published them.
 */
bool vring_packed_wants_interrupt(VRing *r);

/** vring_packed_driver_waits: vring_driver_waits() of a packed ring. */
bool vring_packed_driver_waits(const VRing *r);

/**
 * vring_packed_set_notification: vring_set_notification() of a packed ring,
 * without the barrier.
 */
void vring_packed_set_notification(VRing *r, bool enable);

#endif /* HW_VIRTIO_VRING_LAYOUT_H */
