// The integer product of one panel: up to six rows times 64 outputs, exact in 32 bits.
//
// Each variant defines Value (a quantised activation), OFFSET (what is added to one, so that it suits the
// processor's instruction) and `tile`, which writes sums[row][output] of (value + OFFSET) * weight.
// Accumulators are named by constant indices in loops that unroll whole, so all of them stay in registers.
#ifndef HALFLING_TILES_H
#define HALFLING_TILES_H

#include <stdint.h>
#include <string.h>

#include "kernels.h"
#include "vectors.h"

#if defined(__AVX512VNNI__)
#include <immintrin.h>
#define VARIANT_NAME "avx512-vnni"
#define OFFSET 128
typedef uint8_t Value;

// 4 x 16 outputs of 6 rows fill 24 of the 32 registers; a step takes 4 inputs.
INLINE void tile(const int8_t *weights, const Value *values, size_t ld, int inputs, const int rows, int32_t *sums) {
    __m512i sum[TILE_ROWS][4];
    UNROLL for (int row = 0; row < rows; row++) UNROLL for (int c = 0; c < 4; c++) sum[row][c] = _mm512_setzero_si512();
    for (int input = 0; input < inputs; input += 4, weights += 4 * PANEL) {
        __m512i weight[4];
        UNROLL for (int c = 0; c < 4; c++) weight[c] = _mm512_loadu_si512(weights + 64 * c);
        UNROLL for (int row = 0; row < rows; row++) {
            int32_t four;
            memcpy(&four, values + row * ld + input, 4);
            __m512i value = _mm512_set1_epi32(four);
            UNROLL for (int c = 0; c < 4; c++) sum[row][c] = _mm512_dpbusd_epi32(sum[row][c], value, weight[c]);
        }
    }
    UNROLL for (int row = 0; row < rows; row++)
        UNROLL for (int c = 0; c < 4; c++) _mm512_storeu_si512(sums + row * PANEL + 16 * c, sum[row][c]);
}

#elif defined(__AVXVNNI__)
#include <immintrin.h>
#define VARIANT_NAME "avx-vnni"
#define OFFSET 128
typedef uint8_t Value;

// 2 x 8 outputs of 6 rows fill 12 of the 16 registers.
INLINE void tile(const int8_t *weights, const Value *values, size_t ld, int inputs, const int rows, int32_t *sums) {
    for (int column = 0; column < PANEL; column += 16) {
        __m256i sum[TILE_ROWS][2];
        UNROLL for (int row = 0; row < rows; row++) sum[row][0] = sum[row][1] = _mm256_setzero_si256();
        const int8_t *at = weights + 4 * column;
        for (int input = 0; input < inputs; input += 4, at += 4 * PANEL) {
            __m256i left = _mm256_loadu_si256((const __m256i *)at);
            __m256i right = _mm256_loadu_si256((const __m256i *)(at + 32));
            UNROLL for (int row = 0; row < rows; row++) {
                int32_t four;
                memcpy(&four, values + row * ld + input, 4);
                __m256i value = _mm256_set1_epi32(four);
                sum[row][0] = _mm256_dpbusd_avx_epi32(sum[row][0], value, left);
                sum[row][1] = _mm256_dpbusd_avx_epi32(sum[row][1], value, right);
            }
        }
        UNROLL for (int row = 0; row < rows; row++) {
            _mm256_storeu_si256((__m256i *)(sums + row * PANEL + column), sum[row][0]);
            _mm256_storeu_si256((__m256i *)(sums + row * PANEL + column + 8), sum[row][1]);
        }
    }
}

#elif defined(__AVX2__)
#include <immintrin.h>
#define VARIANT_NAME "avx2"
#define OFFSET 0
typedef int16_t Value;

// Products of 8 bits would be added in 16, where two of them do not fit: so both are widened to 16 bits, the weights
// as they are read. An accumulator holds 4 outputs, each as two sums.
INLINE void tile(const int8_t *weights, const Value *values, size_t ld, int inputs, const int rows, int32_t *sums) {
    for (int column = 0; column < PANEL; column += 8) {
        __m256i sum[TILE_ROWS][2];
        UNROLL for (int row = 0; row < rows; row++) sum[row][0] = sum[row][1] = _mm256_setzero_si256();
        const int8_t *at = weights + 4 * column;
        for (int input = 0; input < inputs; input += 4, at += 4 * PANEL) {
            __m256i left = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)at));
            __m256i right = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(at + 16)));
            UNROLL for (int row = 0; row < rows; row++) {
                int64_t four;
                memcpy(&four, values + row * ld + input, 8);
                __m256i value = _mm256_set1_epi64x(four);
                sum[row][0] = _mm256_add_epi32(sum[row][0], _mm256_madd_epi16(value, left));
                sum[row][1] = _mm256_add_epi32(sum[row][1], _mm256_madd_epi16(value, right));
            }
        }
        UNROLL for (int row = 0; row < rows; row++) {
            __m256i pairs = _mm256_hadd_epi32(sum[row][0], sum[row][1]);
            pairs = _mm256_permute4x64_epi64(pairs, 0xd8);
            _mm256_storeu_si256((__m256i *)(sums + row * PANEL + column), pairs);
        }
    }
}

#elif defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>
#define VARIANT_NAME "arm-dot"
#define OFFSET 0
typedef int8_t Value;

// 4 x 4 outputs of 6 rows fill 24 of the 32 registers.
INLINE void tile(const int8_t *weights, const Value *values, size_t ld, int inputs, const int rows, int32_t *sums) {
    for (int column = 0; column < PANEL; column += 16) {
        int32x4_t sum[TILE_ROWS][4];
        UNROLL for (int row = 0; row < rows; row++) UNROLL for (int c = 0; c < 4; c++) sum[row][c] = vdupq_n_s32(0);
        const int8_t *at = weights + 4 * column;
        for (int input = 0; input < inputs; input += 4, at += 4 * PANEL) {
            int8x16_t weight[4];
            UNROLL for (int c = 0; c < 4; c++) weight[c] = vld1q_s8(at + 16 * c);
            UNROLL for (int row = 0; row < rows; row++) {
                int32_t four;
                memcpy(&four, values + row * ld + input, 4);
                int8x16_t value = vreinterpretq_s8_s32(vdupq_n_s32(four));
                UNROLL for (int c = 0; c < 4; c++) sum[row][c] = vdotq_s32(sum[row][c], value, weight[c]);
            }
        }
        UNROLL for (int row = 0; row < rows; row++)
            UNROLL for (int c = 0; c < 4; c++) vst1q_s32(sums + row * PANEL + column + 4 * c, sum[row][c]);
    }
}

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

#endif
