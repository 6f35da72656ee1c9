/*
 * Requests of virtio-blk, most of them well-formed
 *
 * A fuzzer that has to find the form of a request by itself never gets behind
 * the checks.  So the form is given, and what the input chooses are values
 * that may be wrong.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "standard-headers/linux/virtio_blk.h"
#include "fuzz-machine.h"
#include "fuzz-vblk.h"

#define HEADERS     (VBLK_BUFFERS - 0x1000)
#define BUFFER(i)   (VBLK_BUFFERS + 0x20000 * (i))

static VblkSegment some_segment(FuzzInput *in, int i)
{
    static const uint32_t lengths[] = {
        512, 4096, 16, 1, 0, 1024, 511, 65536, 0x7fffffff, UINT32_MAX
    };
    unsigned how = fuzz_byte(in);
    VblkSegment segment = {
        .addr = BUFFER(i) + (how & 3),
        .len = lengths[(how >> 2) % ARRAY_SIZE(lengths)],
        .write = how & 0x80,
    };

    switch (how >> 4 & 7) {
    case 1:
        segment.addr = VBLK_RAM_END - 512;      /* goes over the end */
        break;
    case 2:
        segment.addr = VBLK_OTHER_RAM;
        break;
    case 3:
        segment.addr = VBLK_AREA(i % VBLK_AREAS) + VBLK_AREA_BYTES - 512;
        break;
    case 4:
        segment.addr = VBLK_BAR_MODERN;         /* the device itself */
        break;
    case 5:
        segment.addr = fuzz_take(in, 8);
        break;
    case 6:
        segment.addr = UINT64_MAX - fuzz_byte(in);
        break;
    case 7:
        segment.addr = VBLK_OTHER_END - segment.len;
        break;
    }
    return segment;
}

/* Whole sectors, in the direction that the request wants. */
static VblkSegment good_segment(unsigned how, int i, bool write)
{
    return (VblkSegment) {
        .addr = BUFFER(i) + 512 * (how & 7),
        .len = 512 << (how >> 3 & 7),
        .write = write,
    };
}

static uint32_t some_type(FuzzInput *in)
{
    static const uint32_t types[] = {
        VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_FLUSH,
        VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_DISCARD,
        VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
        VIRTIO_BLK_T_SECURE_ERASE, VIRTIO_BLK_T_ZONE_REPORT,
        VIRTIO_BLK_T_ZONE_APPEND, VIRTIO_BLK_T_ZONE_OPEN,
        VIRTIO_BLK_T_SCSI_CMD,
    };
    unsigned which = fuzz_byte(in);

    return which < 0xf0 ? types[which % ARRAY_SIZE(types)] : fuzz_take(in, 4);
}

static bool type_reads(uint32_t type)
{
    return type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID ||
           type == VIRTIO_BLK_T_ZONE_REPORT;
}

static bool type_has_ranges(uint32_t type)
{
    return type == VIRTIO_BLK_T_DISCARD || type == VIRTIO_BLK_T_WRITE_ZEROES ||
           type == VIRTIO_BLK_T_SECURE_ERASE;
}

static uint64_t some_sector(FuzzInput *in)
{
    return fuzz_sector(in, FUZZ_DISK_SECTORS, FUZZ_BAD_SECTOR);
}

/* Of a discard: sector, sectors, flags. */
static void put_range(FuzzInput *in, uint64_t addr)
{
    vblk_put(addr, some_sector(in), 8);
    vblk_put(addr + 8, fuzz_take(in, 2), 4);
    vblk_put(addr + 12, fuzz_byte(in), 4);
}

static VblkSegment data_segment(FuzzInput *in, uint32_t type, int i)
{
    unsigned how = fuzz_byte(in);
    VblkSegment segment = how & 0x80 ? some_segment(in, i)
                                     : good_segment(how, i, type_reads(type));

    if (type_has_ranges(type)) {
        if (!(how & 0x80)) {
            segment.len = 16;
        }
        put_range(in, segment.addr);
    }
    return segment;
}

unsigned vblk_some_index(FuzzInput *in, unsigned size)
{
    unsigned how = fuzz_byte(in);

    return how < 0x40 ? how % size : how < 0xf0 ? size + how % 16 - 2
                                                : fuzz_take(in, 2);
}

static unsigned some_entries(FuzzInput *in, unsigned count)
{
    static const uint16_t entries[] = {
        16, 64, 126, 127, 128, 129, 254, 255, 256, 257, 1022, 1023, 1024, 1025,
        1026, VBLK_TABLE_ENTRIES,
    };

    return MAX(entries[fuzz_byte(in) % ARRAY_SIZE(entries)], count);
}

static uint32_t some_table_bytes(FuzzInput *in, uint32_t bytes)
{
    static const uint32_t others[] = {
        0, 8, 15, 16, 17, 0x4000, 0x4010, 0x8000, 0x10000, UINT32_MAX,
        UINT32_MAX - 15,
    };
    unsigned how = fuzz_byte(in);

    return how < 0x80 ? bytes + (int8_t)(how << 1)
                      : others[how % ARRAY_SIZE(others)];
}

VblkTable vblk_some_table(FuzzInput *in, unsigned how, unsigned count)
{
    unsigned entries = how & 1 ? some_entries(in, count) : count;
    VblkTable table = {
        .addr = VBLK_TABLES + (how & 3) * 0x10000,
        .bytes = entries * 16,
        .entries = entries,
        .odd = entries,
    };

    switch (how >> 2) {
    case 1:
        table.addr = VBLK_OTHER_END - table.bytes;
        table.odd = fuzz_below(in, entries);
        table.next = vblk_some_index(in, entries);
        break;
    case 2:
        table.addr += fuzz_byte(in) & 0xf;
        table.bytes = some_table_bytes(in, table.bytes);
        break;
    case 3:
        table.addr = VBLK_OTHER_END - table.bytes;
        table.bytes = some_table_bytes(in, table.bytes);
        break;
    }
    return table;
}

int vblk_some_request(FuzzInput *in, VblkSegment *segments)
{
    unsigned how = fuzz_byte(in);
    uint32_t type = some_type(in);
    uint64_t header = HEADERS + (how & 0x3f) * 0x20;
    int data = how >> 6 == 3 ? fuzz_below(in, VBLK_SEGMENTS - 1) : how >> 6;
    int count = 0;

    vblk_put(header, type, 4);
    vblk_put(header + 4, 0, 4);
    vblk_put(header + 8, some_sector(in), 8);
    segments[count++] = (VblkSegment) { header, 16, false };
    for (int i = 0; i < data; i++, count++) {
        segments[count] = data_segment(in, type, count);
    }
    segments[count++] = (VblkSegment) { header + 16, 1, true };
    return count;
}
