// The layers: some sequences, which lie one after the other, go through them together.
#pragma once

#include "folder.h"
#include "pool.h"

enum { ROOM_STEP = 64 };  // a room is for a multiple of so many tokens, so that as many always find room in `some`

// States of tokens, as floats and in 8 bits.
typedef struct {
    float *floats;  // [tokens][state columns]
    Quantised bytes;
} States;

// What one thread, or several that share their work, compute with. Rows are tokens.
typedef struct {
    int32_t tokens, threads;  // there is room for
    void *memory;
    size_t bytes;
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
    // NULL all do.
    int32_t *rows, *asked_starts;
    int32_t asked;
    int by_token;  // tokens leave alone: every later layer reads those that have
} Batch;

// What one of `count` threads works on, the same batch in the same room.
typedef struct {
    const Weights *weights;
    const Batch *batch;
    Room *room;
    int32_t index, count;
    Barrier *barrier;
} Work;

// Returns where the next array of `bytes` lies, and counts it; with `memory` NULL it counts only.
void *take(char *memory, size_t *used, size_t bytes);
// Grows `room`, where it is too small, for `threads` that share it. Returns 0 without memory.
int room_for(Room *room, const Weights *weights, int32_t tokens, int32_t threads);
void room_free(Room *room);
// Copies rows of states, which may overlap.
void copy_states(const Weights *weights, const States *to, int32_t to_row, const States *from, int32_t from_row,
                 int32_t rows);

// Sums of embeddings, normed, for tokens with `ids`, which count their positions from each sequence's start.
void embed(const Work *work, const int32_t *ids);
// `layer` is 0-based. `more`: of a layer that computed some tokens already, and all keys and values.
void compute_layer(const Work *work, int32_t layer, int more);
