// Sixteen floats at a time, in the compiler's own vectors: the same source for every processor.
// Each operation is written out (FMA), so that every variant with fused products rounds alike.
#pragma once

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

INLINE float largest_of(Floats a) { return __builtin_reduce_max(a); }

// Lanes of two rows after what lies off their diagonal, in blocks of s, is swapped.
#define UPPER(lane, s) ((lane) & (s) ? 16 + (lane) - (s) : (lane))
#define LOWER(lane, s) ((lane) & (s) ? 16 + (lane) : (lane) + (s))
#define FOUR(of, lane, s) of(lane, s), of(lane + 1, s), of(lane + 2, s), of(lane + 3, s)
#define EVERY(of, s) FOUR(of, 0, s), FOUR(of, 4, s), FOUR(of, 8, s), FOUR(of, 12, s)
#define SWAP(s)                                                                        \
    UNROLL for (int row = 0; row < 16; row++) if (!(row & (s))) {                      \
        Floats upper = rows[row], lower = rows[row | (s)];                             \
        rows[row] = __builtin_shufflevector(upper, lower, EVERY(UPPER, s));            \
        rows[row | (s)] = __builtin_shufflevector(upper, lower, EVERY(LOWER, s));      \
    }

// Turns rows into columns.
INLINE void transpose(Floats rows[16]) { SWAP(1) SWAP(2) SWAP(4) SWAP(8) }

// Adding this number rounds to the nearest whole one, ties to even, which then stands in the lowest bits.
#define ROUNDING 12582912.0f

// e to the power of x, within two units in the last place; x is held to [-87, 88].
INLINE Floats exponential(Floats x) {
    x = smallest(largest(x, all(-87.0f)), all(88.0f));
    Floats shifted = FMA(x, all(1.44269504f), all(ROUNDING));
    Floats whole = shifted - ROUNDING;
    Floats rest = FMA(whole, all(-0.693145752f), x);
    rest = FMA(whole, all(-1.42860677e-6f), rest);
    static const float terms[] = {1.98756915e-4f, 1.39819995e-3f, 8.33345191e-3f,
                                  4.16657962e-2f, 1.66666657e-1f, 5.00000012e-1f};
    Floats sum = all(terms[0]);
    UNROLL for (int n = 1; n < 6; n++) sum = FMA(sum, rest, all(terms[n]));
    sum = FMA(sum, rest * rest, rest) + 1.0f;
    return (Floats)((Bits)sum + (((Bits)shifted) << 23));
}
