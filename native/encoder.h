// The layers: some sequences, which lie one after the other, go through them together.
#ifndef HALFLING_ENCODER_H
#define HALFLING_ENCODER_H

#include "folder.h"
#include "pool.h"

// States of tokens, as floats and in 8 bits.
typedef struct {
    float *floats;  // [tokens][state columns]
    Quantised bytes;
} States;

// What one thread, or several that share their work, compute with. Rows are tokens.
typedef struct {
    int32_t tokens, threads;  // there is room for
    void *memory;
    States all, some;  // of every token, after the last layer that changed it; of those that a layer changes
    float *queries, *keys_values, *context, *added, *inner;
    Quantised quantised_context, quantised_inner;
    float **attention;  // room for each thread
} Room;

// Sequences under computation.
typedef struct {
    int32_t tokens, sequences;
    int32_t *starts;  // [sequences + 1]: where each begins
    // Tokens whose states the next layer changes, ascending, and where those of each sequence begin. With `rows`
    // NULL all do, and `asked_starts` is `starts`.
    int32_t *rows, *asked_starts;
    int32_t asked;
} Batch;

// One of `count` threads that work on the same batch.
typedef struct {
    int32_t index, count;
    Barrier *barrier;
} Member;

// Grows `room`, where it is too small, for `threads` that share it. Returns 0 without memory.
int room_for(Room *room, const Weights *weights, const Kernels *kernels, int32_t tokens, int32_t threads);
void room_free(Room *room);
// Copies rows of states, which may overlap.
void copy_states(const Weights *weights, const Kernels *kernels, const States *to, int32_t to_row, const States *from,
                 int32_t from_row, int32_t rows);

// Sums of embeddings, normed, for tokens with `ids`, which count their positions from each sequence's start.
void embed(const Weights *weights, const Kernels *kernels, Member member, const Batch *batch, Room *room,
           const int32_t *ids);
// One layer, 0-based.
void compute_layer(const Weights *weights, const Kernels *kernels, Member member, const Batch *batch, Room *room,
                   int32_t layer);

#endif
