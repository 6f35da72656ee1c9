/*
 * What a fuzzer's input says to do
 *
 * An input is a byte that says which device, and a sequence of operations; each
 * is a byte that says which, and as many bytes as it takes.  After the end come
 * zeroes.  There are no lengths and no checksums, so that a fuzzer's changes
 * stay meaningful.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TESTS_FUZZ_INPUT_H
#define TESTS_FUZZ_INPUT_H

typedef struct FuzzInput {
    const uint8_t *at;
    size_t left;
} FuzzInput;

/** FuzzOp: an operation on @target, which takes what it needs from @in. */
typedef void FuzzOp(void *target, FuzzInput *in);

/** fuzz_take: the next @bytes bytes as a little-endian number. */
static inline uint64_t fuzz_take(FuzzInput *in, unsigned bytes)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < bytes && in->left; i++, in->left--) {
        value |= (uint64_t)*in->at++ << 8 * i;
    }
    return value;
}

static inline uint8_t fuzz_byte(FuzzInput *in)
{
    return fuzz_take(in, 1);
}

/** fuzz_below: a number below @limit. */
static inline unsigned fuzz_below(FuzzInput *in, unsigned limit)
{
    return fuzz_take(in, limit > 256 ? 2 : 1) % limit;
}

/**
 * fuzz_operations: do all that the input says.
 *
 * Half of all operations are the @usual one.  The others are chosen from @ops,
 * an array of @nr_ops.
 */
static inline void fuzz_operations(FuzzInput *in, void *target, FuzzOp *usual,
                                   FuzzOp *const *ops, unsigned nr_ops)
{
    while (in->left) {
        unsigned which = fuzz_byte(in);

        (which & 0x80 ? usual : ops[which % nr_ops])(target, in);
    }
}

/**
 * fuzz_sector: a sector where something may go wrong, or any.
 *
 * The disk has @sectors sectors, and requests at sector @bad fail.
 */
static inline uint64_t fuzz_sector(FuzzInput *in, uint64_t sectors,
                                   uint64_t bad)
{
    const uint64_t special[] = {
        0, 8, bad, bad - 8, sectors - 8, sectors - 1, sectors, UINT64_MAX,
        INT64_MAX / 512,
    };
    unsigned which = fuzz_byte(in);

    if (which < 0x80) {
        return which * 8;
    }
    return which < 0xf0 ? special[which % ARRAY_SIZE(special)]
                        : fuzz_take(in, 8);
}

#endif /* TESTS_FUZZ_INPUT_H */
