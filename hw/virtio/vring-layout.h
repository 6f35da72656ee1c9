/*
 * What vring.c needs of each layout, beside what vring.h has
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_VRING_LAYOUT_H
#define HW_VIRTIO_VRING_LAYOUT_H

#include "hw/virtio/vring.h"

bool vring_empty_split(const VRing *r);
bool vring_empty_packed(const VRing *r);
void vring_split_publish(VRing *r);
bool vring_split_wants_interrupt(VRing *r);
void vring_split_set_notification(VRing *r, bool enable);
void vring_packed_publish(VRing *r);
bool vring_packed_wants_interrupt(VRing *r);
void vring_packed_set_notification(VRing *r, bool enable);

#endif /* HW_VIRTIO_VRING_LAYOUT_H */
