// The integer product of one panel: up to six rows times 64 outputs, exact in 32 bits.
//
// Each variant defines Value (a quantised activation), OFFSET (what is added to one, so that it suits the
// processor's instruction) and `tile`, which writes sums[row][output] of (value + OFFSET) * weight.
// Accumulators are named by constant indices in loops that unroll whole, so all of them stay in registers.
#pragma once

#include <stdint.h>
#include <string.h>

#include "kernels.h"
#include "vectors.h"

#if defined(__AVX512VNNI__)
#include <immintrin.h>
#define VARIANT_NAME "avx512-vnni"
#define OFFSET 128
typedef uint8_t Value;
typedef __m512i Vector;
#define DOT _mm512_dpbusd_epi32
#define SPREAD _mm512_set1_epi32
enum { VECTORS = 4 };  // 4 x 16 outputs of 6 rows fill 24 of the 32 registers

#elif defined(__AVXVNNI__)
#include <immintrin.h>
#define VARIANT_NAME "avx-vnni"
#define OFFSET 128
typedef uint8_t Value;
typedef __m256i Vector;
#define DOT _mm256_dpbusd_avx_epi32
#define SPREAD _mm256_set1_epi32
enum { VECTORS = 2 };  // 2 x 8 outputs of 6 rows fill 12 of the 16 registers

#elif defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>
#define VARIANT_NAME "arm-dot"
#define OFFSET 0
typedef int8_t Value;
typedef int32x4_t Vector;
#define DOT(sum, value, weight) vdotq_s32(sum, vreinterpretq_s8_s32(value), vreinterpretq_s8_s32(weight))
#define SPREAD vdupq_n_s32
enum { VECTORS = 4 };  // 4 x 4 outputs of 6 rows fill 24 of the 32 registers

#elif defined(__AVX2__)
#include <immintrin.h>
#define VARIANT_NAME "avx2"
#define PAIRS(value, weight) (Vector)_mm256_madd_epi16((__m256i)(value), (__m256i)(weight))
enum { OUTPUTS = 8 };

#elif defined(__wasm_simd128__)
#define VARIANT_NAME "wasm"
#define PAIRS __builtin_wasm_dot_s_i32x4_i16x8
enum { OUTPUTS = 4 };

#else
#define VARIANT_NAME "plain"
#define OFFSET 0
typedef int8_t Value;

INLINE void tile(const int8_t *weights, const Value *values, size_t ld, int inputs, const int rows, int32_t *sums) {
    memset(sums, 0, sizeof(int32_t) * PANEL * (size_t)rows);
    for (int input = 0; input < inputs; input += 4, weights += 4 * PANEL)
        for (int row = 0; row < rows; row++) {
            const Value *four = values + row * ld + input;
            for (int c = 0; c < PANEL; c++)
                sums[row * PANEL + c] += four[0] * weights[4 * c] + four[1] * weights[4 * c + 1] +
                                         four[2] * weights[4 * c + 2] + four[3] * weights[4 * c + 3];
        }
}
#endif

#if defined(DOT)
// A step takes 4 inputs: a vector of weights holds them for as many outputs as it has numbers of 32 bits.
INLINE void tile(const int8_t *weights, const Value *values, size_t ld, int inputs, const int rows, int32_t *sums) {
    const int outputs = sizeof(Vector) / sizeof(int32_t);
    for (int column = 0; column < PANEL; column += VECTORS * outputs) {
        Vector sum[TILE_ROWS][VECTORS];
        UNROLL for (int row = 0; row < rows; row++) UNROLL for (int v = 0; v < VECTORS; v++) sum[row][v] = SPREAD(0);
        const int8_t *at = weights + 4 * column;
        for (int input = 0; input < inputs; input += 4, at += 4 * PANEL) {
            Vector weight[VECTORS];
            UNROLL for (int v = 0; v < VECTORS; v++) {
                memcpy(&weight[v], at + v * sizeof(Vector), sizeof(Vector));
                // The next group's or panel's, which lie behind: they come while this one's are computed.
                __builtin_prefetch(at + (size_t)PANEL * inputs + v * sizeof(Vector), 0, 2);
            }
            UNROLL for (int row = 0; row < rows; row++) {
                int32_t four;
                memcpy(&four, values + row * ld + input, 4);
                Vector value = SPREAD(four);
                UNROLL for (int v = 0; v < VECTORS; v++) sum[row][v] = DOT(sum[row][v], value, weight[v]);
            }
        }
        UNROLL for (int row = 0; row < rows; row++) UNROLL for (int v = 0; v < VECTORS; v++)
            memcpy(sums + row * PANEL + column + v * outputs, &sum[row][v], sizeof(Vector));
    }
}
#endif

#if defined(PAIRS)
#define OFFSET 0
typedef int16_t Value;
typedef int8_t Narrow __attribute__((ext_vector_type(2 * OUTPUTS)));
typedef int16_t Wide __attribute__((ext_vector_type(2 * OUTPUTS)));
typedef int32_t Vector __attribute__((ext_vector_type(OUTPUTS)));
typedef int32_t Sums __attribute__((ext_vector_type(OUTPUTS / 2)));
typedef int64_t Fours __attribute__((ext_vector_type(OUTPUTS / 2)));

// Products of 8 bits would be added in 16, where two of them do not fit: so both are widened to 16 bits, the weights
// as they are read. Two accumulators hold 8 (or 4) outputs, each as two sums.
INLINE void tile(const int8_t *weights, const Value *values, size_t ld, int inputs, const int rows, int32_t *sums) {
    for (int column = 0; column < PANEL; column += OUTPUTS) {
        Vector sum[TILE_ROWS][2] = {};
        const int8_t *at = weights + 4 * column;
        for (int input = 0; input < inputs; input += 4, at += 4 * PANEL) {
            Narrow weight[2];
            memcpy(weight, at, sizeof weight);
            Wide left = __builtin_convertvector(weight[0], Wide), right = __builtin_convertvector(weight[1], Wide);
            UNROLL for (int row = 0; row < rows; row++) {
                int64_t four;
                memcpy(&four, values + row * ld + input, 8);
                Wide value = (Wide)(Fours)four;
                sum[row][0] += PAIRS(value, left);
                sum[row][1] += PAIRS(value, right);
            }
        }
        UNROLL for (int row = 0; row < rows; row++) UNROLL for (int half = 0; half < 2; half++) {
            Sums pairs = sum[row][half].even + sum[row][half].odd;
            memcpy(sums + row * PANEL + column + half * OUTPUTS / 2, &pairs, sizeof pairs);
        }
    }
}
#endif
