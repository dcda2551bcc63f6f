// Sixteen floats at a time, in the compiler's own vectors: the same source for every processor.
// Each operation is written out (FMA), so that every variant with fused products rounds alike.
#ifndef HALFLING_VECTORS_H
#define HALFLING_VECTORS_H

#include <stdint.h>
#include <string.h>

typedef float Floats __attribute__((ext_vector_type(16)));
typedef float Half __attribute__((ext_vector_type(8)));
typedef float Quarter __attribute__((ext_vector_type(4)));
typedef int32_t Ints __attribute__((ext_vector_type(16)));
typedef uint32_t Bits __attribute__((ext_vector_type(16)));
typedef int16_t Words __attribute__((ext_vector_type(16)));
typedef int8_t Bytes __attribute__((ext_vector_type(16)));

#define UNROLL _Pragma("clang loop unroll(full)")
#define INLINE static inline __attribute__((always_inline))

#if defined(__FMA__) || defined(__aarch64__)
#define FMA(a, b, c) __builtin_elementwise_fma(a, b, c)
#else
#define FMA(a, b, c) ((a) * (b) + (c))
#endif

INLINE Floats load(const float *from) {
    Floats value;
    memcpy(&value, from, sizeof value);
    return value;
}

INLINE void store(float *to, Floats value) { memcpy(to, &value, sizeof value); }

INLINE Floats all(float value) { return (Floats)value; }

INLINE Floats largest(Floats a, Floats b) { return a > b ? a : b; }

INLINE Floats smallest(Floats a, Floats b) { return a < b ? a : b; }

INLINE Floats magnitude(Floats a) { return (Floats)((Bits)a & 0x7fffffffu); }

INLINE float sum_of(Floats a) {
    Half half = a.lo + a.hi;
    Quarter quarter = half.lo + half.hi;
    return (quarter.x + quarter.z) + (quarter.y + quarter.w);
}

INLINE float largest_of(Floats a) {
    Half half = a.lo > a.hi ? a.lo : a.hi;
    Quarter quarter = half.lo > half.hi ? half.lo : half.hi;
    float left = quarter.x > quarter.y ? quarter.x : quarter.y, right = quarter.z > quarter.w ? quarter.z : quarter.w;
    return left > right ? left : right;
}

// Swaps, in blocks of `step`, what lies off the diagonal of two rows.
INLINE void swap_blocks(Floats *a, Floats *b, const int step) {
    Floats x = *a, y = *b;
    switch (step) {
        case 1:
            *a = __builtin_shufflevector(x, y, 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30);
            *b = __builtin_shufflevector(x, y, 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31);
            break;
        case 2:
            *a = __builtin_shufflevector(x, y, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
            *b = __builtin_shufflevector(x, y, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
            break;
        case 4:
            *a = __builtin_shufflevector(x, y, 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27);
            *b = __builtin_shufflevector(x, y, 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
            break;
        case 8:
            *a = __builtin_shufflevector(x, y, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
            *b = __builtin_shufflevector(x, y, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
            break;
    }
}

// Turns rows into columns.
INLINE void transpose(Floats rows[16]) {
    UNROLL for (int step = 1; step < 16; step *= 2)
        UNROLL for (int row = 0; row < 16; row++)
            if (!(row & step)) swap_blocks(&rows[row], &rows[row | step], step);
}

// Adding this number rounds to the nearest whole one, ties to even, which then stands in the lowest bits.
#define ROUNDING 12582912.0f

// e to the power of x, within two units in the last place; x is held to [-87, 88].
INLINE Floats exponential(Floats x) {
    x = smallest(largest(x, all(-87.0f)), all(88.0f));
    Floats shifted = FMA(x, all(1.44269504f), all(ROUNDING));
    Floats whole = shifted - ROUNDING;
    Floats rest = FMA(whole, all(-0.693145752f), x);
    rest = FMA(whole, all(-1.42860677e-6f), rest);
    Floats sum = all(1.98756915e-4f);
    sum = FMA(sum, rest, all(1.39819995e-3f));
    sum = FMA(sum, rest, all(8.33345191e-3f));
    sum = FMA(sum, rest, all(4.16657962e-2f));
    sum = FMA(sum, rest, all(1.66666657e-1f));
    sum = FMA(sum, rest, all(5.00000012e-1f));
    sum = FMA(sum, rest * rest, rest) + 1.0f;
    return (Floats)((Bits)sum + (((Bits)shifted) << 23));
}

#endif
