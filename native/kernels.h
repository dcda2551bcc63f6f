// What the encoder computes with. One table of functions for each variant of the processor.
#pragma once

#include <stddef.h>
#include <stdint.h>

enum {
    PANEL = 64,  // outputs that lie together in a weight matrix
    LANES = 16,  // floats of a vector; widths and head depths are multiples of it
    TILE_ROWS = 6,
};

// How a matrix's activations are written in 8 bits.
typedef enum {
    SIGNED,     // one number each
    ONE_SIDED,  // one number each, counted from GELU_FLOOR up, with the whole range above it
    WIDE,       // two: 256 times the first, and what is lacking. A group's second numbers follow its first ones.
} Form;

static inline int32_t numbers_of(Form form) { return form == WIDE ? 2 : 1; }

// Below what GELU gives. The file's biases hold what it comes to.
#define GELU_FLOOR (-0.17f)

// Weights in 8 bits. Layout of `weights`: [outputs / 64][inputs / 4][64][4].
// Activations have one scale for each row and group of inputs.
typedef struct {
    int32_t inputs, outputs;  // outputs are a multiple of PANEL
    int32_t group, groups;    // inputs = group * groups
    int32_t stride;           // of `offsets`: outputs of the whole matrix, where this is a part of one
    Form form;
    const int8_t *weights;
    const float *scales, *bias;  // [outputs]
    const int32_t *offsets;      // [groups][stride]: -128 times the sum of a group's weights
} Linear;

// A matrix of floats in 8 bits: `values` [rows][ld] in the variant's own form, `scales` [rows][ld_scales], one for each
// group's numbers. A wide group has two.
typedef struct {
    void *values;
    float *scales;
    int32_t ld, ld_scales, group, groups;
} Quantised;

typedef struct {
    const char *name;
    int32_t value_bytes;  // of one quantised activation

    // out[row][output] = bias + scale * sum over groups of (activation scale * integer product).
    // Computes groups `first` to `last` (exclusive); `in` begins at group `first`. What earlier groups came to
    // stands in `out`; scale and bias are applied with the last group.
    void (*product)(const Linear *matrix, int32_t rows, const Quantised *in, int32_t first, int32_t last, float *out,
                    int32_t ld);
    // Each group of each row in 127ths of its largest magnitude (255ths where it is one-sided, 32,639ths where wide).
    // `even` [2][columns], which channels are multiplied by before, and what is added then, may be NULL.
    void (*quantise)(const float *in, int32_t ld, int32_t rows, const float *even, Form form, const Quantised *out);
    void (*gelu)(float *values, int32_t ld, int32_t rows, int32_t columns);
    // states = norm(states + added), `added` may be NULL; `norm` is [2][width] at least: factors, then shifts.
    void (*norm)(float *states, const float *added, int32_t ld, int32_t rows, int32_t width, const float *norm,
                 float epsilon);
    // A word's row, with a scale for each `group` of channels, and a position's.
    void (*embed)(const int8_t *word, const float *scales, int32_t group, const float *position, int32_t width,
                  float *out);
    // Attention of `asked` queries over `tokens` keys and values of one sequence and head. `room` holds
    // attend_room(tokens, depth) floats.
    void (*attend)(const float *queries, int32_t ld_queries, int32_t asked, const float *keys, const float *values,
                   int32_t ld, int32_t tokens, int32_t depth, float *out, int32_t ld_out, float *room);
    // out[c] = bias[c] + weights[c] . state
    void (*logits)(const float *state, int32_t width, const float *weights, const float *bias, int32_t classes,
                   float *out);
    void (*tanh)(float *values, int32_t count);
} Kernels;

static inline size_t attend_room(int32_t tokens, int32_t depth) {
    size_t padded = ((size_t)tokens + LANES - 1) / LANES * LANES;
    return padded * ((size_t)depth + TILE_ROWS);
}

// Columns `first` to `last` of a matrix, counted in panels.
static inline Linear part_of(const Linear *matrix, int32_t first, int32_t last) {
    Linear part = *matrix;
    part.weights += (size_t)first * PANEL * matrix->inputs;
    part.scales += first * PANEL;
    part.bias += first * PANEL;
    part.offsets += first * PANEL;
    part.outputs = (last - first) * PANEL;
    return part;
}

// The variant of that name, or with NULL the fastest that this processor runs; NULL where it does not run.
const Kernels *halfling_kernels(const char *name);
