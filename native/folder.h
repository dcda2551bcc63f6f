// The weights file: mapped, read-only, shared between processes.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "kernels.h"

enum { MOST_LAYERS = 256, MOST_CLASSES = 65536 };

// The file begins with this; sections follow in the order of `read_sections`. Little-endian.
typedef struct {
    char magic[8];  // "HALFLING"
    uint32_t version, checksum;  // CRC-32 of the header and the table of sections while this field is 0
    uint64_t bytes;              // of the whole file
    int32_t sections;
    int32_t tagger;        // whether every token has an answer, or the first of a text
    int32_t layers, width, heads, depth;  // depth of a head, filled up to LANES
    int32_t inner, group, inner_group;    // inner width, filled up; inputs that share a scale
    int32_t word_group;  // channels of an embedding that share a scale
    int32_t vocabulary, positions, classes;
    int32_t exits;         // layers that have a classifier, the last included
    int32_t pooled;        // whether classifiers begin with a dense layer and tanh
    float epsilon;
    int32_t exit_layers[MOST_LAYERS];  // 1-based, ascending; 0 where there are no more
    uint8_t wide[MOST_LAYERS];         // by layer: whether its products read activations of 16 bits
} Header;

_Static_assert(sizeof(Header) == 1368, "the file's header has no other length");

typedef struct {
    uint64_t offset, bytes;
} Section;

typedef struct {
    Linear projections, attended, up, down;
    const float *attention_norm, *output_norm;  // [4][width]: factors and shifts; factors and shifts of quantising
} Layer;

typedef struct {
    Linear dense;          // where classifiers are pooled
    const float *weights;  // [classes][width]
    const float *bias;     // [classes]
} Head;

typedef struct {
    const Header *header;
    const int8_t *words;  // [vocabulary][width]
    const float *word_scales, *places, *norm;  // [vocabulary][width / word_group], [positions][width], [4][width]
    Layer *layers;
    Head *heads;  // one for each of exit_layers
    int32_t numbers;  // most that stand for an activation
    const Kernels *kernels;  // what computes with them
    size_t mapped;
    int lent;  // the file is the caller's
} Weights;

// Maps a file, read-only. Returns NULL, or what is wrong with it.
const char *map_file(const char *path, const void **mapping, size_t *bytes);
void unmap_file(const void *mapping, size_t bytes);

// Checks every size and offset of a file in memory, which is the caller's. Returns NULL, or what is wrong with it.
const char *weights_over(Weights *weights, const void *file, size_t bytes, const Kernels *kernels);
void weights_close(Weights *weights);

// How the states after so many layers are quantised: as the next one reads them.
static inline Form form_after(const Header *header, int32_t layers) {
    return header->wide[layers < header->layers ? layers : layers - 1] ? WIDE : SIGNED;
}
// Columns that a state takes in memory.
static inline int32_t state_columns(const Header *header) { return (header->width + PANEL - 1) / PANEL * PANEL; }
// Columns of queries, keys or values.
static inline int32_t head_columns(const Header *header) {
    return (header->heads * header->depth + PANEL - 1) / PANEL * PANEL;
}
