// One variant's kernels. This file is compiled once for each, with TABLE as the name of its table.
#include "kernels.h"

#include <math.h>

#include "tiles.h"
#include "vectors.h"

#if defined(__AVX512F__)
enum { WIDEST = 2 };  // vectors of a row of a product of floats that fit into the registers
#else
enum { WIDEST = 1 };
#endif

// Does OF_ROWS for as many rows as there are, up to a tile's: for each number the compiler makes code of its own.
#define FOR_ROWS(count)             \
    switch (count) {                \
        case 1: OF_ROWS(1); break;  \
        case 2: OF_ROWS(2); break;  \
        case 3: OF_ROWS(3); break;  \
        case 4: OF_ROWS(4); break;  \
        case 5: OF_ROWS(5); break;  \
        default: OF_ROWS(6); break; \
    }

// Scales, adds up and stores the integer sums of one tile. `part` counts the numbers that stand for groups.
INLINE void finish(const Linear *matrix, int panel, int part, const int32_t *sums, const int rows,
                   const float *scales, int ld_scales, float *out, int ld) {
    int numbers = numbers_of(matrix->form);
    const int32_t *offsets = matrix->offsets + (size_t)(part / numbers) * matrix->stride + panel * PANEL;
    int begins = part == 0, ends = part == matrix->groups * numbers - 1;
    // Tiles see activations raised by OFFSET. One-sided ones are stored 128 lower than they count.
    int raised = (OFFSET ? 1 : 0) - (matrix->form == ONE_SIDED);
    for (int c = 0; c < PANEL; c += LANES) {
        Ints offset;
        memcpy(&offset, offsets + c, sizeof offset);
        offset *= raised;
        Floats factor = load(matrix->scales + panel * PANEL + c), bias = load(matrix->bias + panel * PANEL + c);
        for (int row = 0; row < rows; row++) {
            Ints sum;
            memcpy(&sum, sums + row * PANEL + c, sizeof sum);
            Floats total = __builtin_convertvector(sum + offset, Floats), scale = all(scales[row * ld_scales]);
            total = begins ? total * scale : FMA(total, scale, load(out + row * ld + c));
            store(out + row * ld + c, ends ? FMA(total, factor, bias) : total);
        }
    }
}

static void product(const Linear *matrix, int32_t rows, const Quantised *in, int32_t first, int32_t last, float *out,
                    int32_t ld) {
    int32_t sums[TILE_ROWS * PANEL];
    int inputs = matrix->group, numbers = numbers_of(matrix->form), begin = first * numbers;
    for (int panel = 0; panel < matrix->outputs / PANEL; panel++)
        for (int part = begin; part < last * numbers; part++) {
            size_t before = (size_t)panel * matrix->inputs + (size_t)(part / numbers) * inputs;
            const int8_t *weights = matrix->weights + before * PANEL;
            const Value *values = (const Value *)in->values + (size_t)(part - begin) * inputs;
            for (int row = 0; row < rows; row += TILE_ROWS) {
                const Value *at = values + (size_t)row * in->ld;
                const float *scales = in->scales + row * in->ld_scales + part - begin;
                float *to = out + (size_t)row * ld + panel * PANEL;
#define OF_ROWS(n)                              \
    tile(weights, at, in->ld, inputs, n, sums); \
    finish(matrix, panel, part, sums, n, scales, in->ld_scales, to, ld)
                FOR_ROWS(rows - row)
#undef OF_ROWS
            }
        }
}

// Stores the lowest 8 bits of whole numbers as activations.
INLINE void store_values(Value *to, Ints whole) {
    Bytes bytes = __builtin_convertvector(whole, Bytes);
    if (sizeof(Value) == 1) {
        bytes ^= (int8_t)(OFFSET ? -128 : 0);
        memcpy(to, &bytes, sizeof bytes);
    } else {
        Words words = __builtin_convertvector(bytes, Words);
        memcpy(to, &words, sizeof words);
    }
}

// Vector `n` of a group; `even`, where there is some, has its second row `columns` further on.
INLINE Floats evened(const float *in, const float *even, int columns, int n, const Form form) {
    Floats value = load(in + n);
    if (form == ONE_SIDED) return value - GELU_FLOOR;
    return even ? FMA(value, load(even + n), load(even + columns + n)) : value;
}

INLINE void quantise_group(const float *in, const float *even, int columns, int group, const Form form,
                           const float levels, Value *to, float *scales) {
    Floats most = {};
    for (int c = 0; c < group; c += LANES) most = largest(most, magnitude(evened(in, even, columns, c, form)));
    float top = largest_of(most), step = top * (1 / levels);
    Floats factor = all(top > 1e-30f ? levels / top : 0.0f);
    for (int c = 0; c < group; c += LANES) {
        Ints whole = (Ints)FMA(evened(in, even, columns, c, form), factor, all(ROUNDING));
        if (form == WIDE) store_values(to + group + c, whole);
        store_values(to + c, form == WIDE ? (whole + 128) >> 8 : form == ONE_SIDED ? whole - 128 : whole);
    }
    scales[0] = form == WIDE ? 256 * step : step;
    if (form == WIDE) scales[1] = step;
}

static void quantise(const float *in, int32_t ld, int32_t rows, const float *even, Form form, const Quantised *out) {
    int group = out->group, numbers = numbers_of(form), columns = group * out->groups;
    for (int row = 0; row < rows; row++)
        for (int n = 0; n < out->groups; n++) {
            const float *from = in + (size_t)row * ld + n * group, *own = even ? even + n * group : NULL;
            Value *to = (Value *)out->values + (size_t)row * out->ld + n * group * numbers;
            float *scales = out->scales + row * out->ld_scales + n * numbers;
            if (form == WIDE)
                quantise_group(from, own, columns, group, WIDE, 32639, to, scales);
            else if (form == ONE_SIDED)
                quantise_group(from, NULL, columns, group, ONE_SIDED, 255, to, scales);
            else
                quantise_group(from, own, columns, group, SIGNED, 127, to, scales);
        }
}

// x times the normal distribution's probability of values below x: one half plus a polynomial in x squared, odd in x,
// held to the probability at 5.25 beyond; within 1.5e-6 of the exact value.
INLINE Floats gelu_of(Floats x) {
    const float edge = 5.25f;
    Floats held = smallest(largest(x, all(-edge)), all(edge));
    Floats t = FMA(held * (2 / (edge * edge)), held, all(-1.0f));
    static const float terms[] = {
        0.000979945296421647f, -0.002821704838424921f, 0.003095216117799282f, -0.0036222264170646667f,
        0.007904110476374626f, -0.013653267174959183f, 0.018829312175512314f, -0.024842578917741776f,
        0.031967971473932266f, -0.039782095700502396f, 0.04965047538280487f,  -0.06712634116411209f,
        0.1346592903137207f};
    Floats sum = all(terms[0]);
    UNROLL for (int n = 1; n < 13; n++) sum = FMA(sum, t, all(terms[n]));
    return x * FMA(sum, held, all(0.5f));
}

static void gelu(float *values, int32_t ld, int32_t rows, int32_t columns) {
    for (int row = 0; row < rows; row++)
        for (int c = 0; c < columns; c += LANES) {
            float *at = values + (size_t)row * ld + c;
            store(at, gelu_of(load(at)));
        }
}

static void norm(float *states, const float *added, int32_t ld, int32_t rows, int32_t width, const float *norm,
                 float epsilon) {
    for (int row = 0; row < rows; row++) {
        float *state = states + (size_t)row * ld;
        Floats sum = {};
        for (int c = 0; c < width; c += LANES) {
            Floats value = load(state + c);
            if (added) store(state + c, value += load(added + (size_t)row * ld + c));
            sum += value;
        }
        float mean = sum_of(sum) / (float)width;
        Floats squares = {};
        for (int c = 0; c < width; c += LANES) {
            Floats off = load(state + c) - mean;
            squares = FMA(off, off, squares);
        }
        float factor = 1 / sqrtf(sum_of(squares) / (float)width + epsilon);
        for (int c = 0; c < width; c += LANES)
            store(state + c, FMA((load(state + c) - mean) * factor, load(norm + c), load(norm + width + c)));
    }
}

static void embed(const int8_t *word, const float *scales, int32_t group, const float *position, int32_t width,
                  float *out) {
    for (int first = 0; first < width; first += group, scales++)
        for (int c = first; c < first + group; c += LANES) {
            Bytes bytes;
            memcpy(&bytes, word + c, sizeof bytes);
            store(out + c, FMA(__builtin_convertvector(bytes, Floats), all(*scales), load(position + c)));
        }
}

// Columns [0, 16 * vectors) of a product of floats: out[row][c] = sum over n of left[row][n] * right[n][c].
INLINE void multiply(const float *left, int ld_left, const float *right, int ld_right, int count, const int rows,
                     const int vectors, const float *factors, float *out, int ld_out) {
    Floats sum[TILE_ROWS][WIDEST];
    UNROLL for (int row = 0; row < rows; row++) UNROLL for (int v = 0; v < vectors; v++) sum[row][v] = all(0);
    for (int n = 0; n < count; n++) {
        Floats values[WIDEST];
        UNROLL for (int v = 0; v < vectors; v++) values[v] = load(right + (size_t)n * ld_right + v * LANES);
        UNROLL for (int row = 0; row < rows; row++) {
            Floats factor = all(left[row * ld_left + n]);
            UNROLL for (int v = 0; v < vectors; v++) sum[row][v] = FMA(values[v], factor, sum[row][v]);
        }
    }
    UNROLL for (int row = 0; row < rows; row++) UNROLL for (int v = 0; v < vectors; v++)
        store(out + (size_t)row * ld_out + v * LANES, factors ? sum[row][v] * factors[row] : sum[row][v]);
}

// All columns of it; `factors`, where there are some, are what rows are multiplied by.
INLINE void multiply_all(const float *left, int ld_left, const float *right, int ld_right, int count, const int rows,
                         int columns, const float *factors, float *out, int ld_out) {
    int c = 0;
    for (; c + WIDEST * LANES <= columns; c += WIDEST * LANES)
        multiply(left, ld_left, right + c, ld_right, count, rows, WIDEST, factors, out + c, ld_out);
    for (; c < columns; c += LANES)
        multiply(left, ld_left, right + c, ld_right, count, rows, 1, factors, out + c, ld_out);
}

// Turns scores into powers of e, less the largest, and returns one over their sum.
INLINE float soften(float *scores, int tokens, int padded) {
    const Ints lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    int last = padded - LANES;
    Ints there = lane < tokens - last;
    store(scores + last, there ? load(scores + last) : all(-INFINITY));
    Floats most = load(scores), sum = {};
    for (int token = LANES; token < padded; token += LANES) most = largest(most, load(scores + token));
    float top = largest_of(most);
    for (int token = 0; token < padded; token += LANES) {
        Floats power = exponential(load(scores + token) - top);
        if (token == last) power = there ? power : all(0);
        store(scores + token, power);
        sum += power;
    }
    return 1 / sum_of(sum);
}

static void attend(const float *queries, int32_t ld_queries, int32_t asked, const float *keys, const float *values,
                   int32_t ld, int32_t tokens, int32_t depth, float *out, int32_t ld_out, float *room) {
    int padded = (tokens + LANES - 1) / LANES * LANES;
    float *turned = room, *scores = room + (size_t)depth * padded;
    for (int token = 0; token < padded; token += LANES)
        for (int d = 0; d < depth; d += LANES) {
            Floats rows[LANES];
            UNROLL for (int n = 0; n < LANES; n++)
                rows[n] = token + n < tokens ? load(keys + (size_t)(token + n) * ld + d) : all(0);
            transpose(rows);
            UNROLL for (int n = 0; n < LANES; n++) store(turned + (size_t)(d + n) * padded + token, rows[n]);
        }
    for (int row = 0; row < asked; row += TILE_ROWS) {
        const float *query = queries + (size_t)row * ld_queries;
        float *to = out + (size_t)row * ld_out, factors[TILE_ROWS];
#define OF_ROWS(n)                                                                                  \
    multiply_all(query, ld_queries, turned, padded, depth, n, padded, NULL, scores, padded);         \
    for (int one = 0; one < n; one++) factors[one] = soften(scores + one * padded, tokens, padded); \
    multiply_all(scores, padded, values, ld, tokens, n, depth, factors, to, ld_out)
        FOR_ROWS(asked - row)
#undef OF_ROWS
    }
}

static void logits(const float *state, int32_t width, const float *weights, const float *bias, int32_t classes,
                   float *out) {
    for (int class = 0; class < classes; class++) {
        Floats sum = {};
        for (int c = 0; c < width; c += LANES)
            sum = FMA(load(state + c), load(weights + (size_t)class * width + c), sum);
        out[class] = sum_of(sum) + bias[class];
    }
}

static void hyperbolic_tangent(float *values, int32_t count) {
    for (int c = 0; c < count; c += LANES)
        store(values + c, 1.0f - 2.0f / (exponential(2.0f * load(values + c)) + 1.0f));
}

const Kernels TABLE = {
    VARIANT_NAME, sizeof(Value), product, quantise, gelu, norm, embed, attend, logits, hyperbolic_tangent,
};
