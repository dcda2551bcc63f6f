#include "encoder.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { LINE = 64 };

// Columns in memory of queries, and of keys and values. A line more than there are: of rows that lie a power of two
// apart the first-level cache holds few.
static int32_t query_columns(const Header *h) { return head_columns(h) + LANES; }
static int32_t key_columns(const Header *h) { return 2 * head_columns(h) + LANES; }

void *take(char *memory, size_t *used, size_t bytes) {
    char *found = memory ? memory + *used : NULL;
    *used += (bytes + LINE - 1) / LINE * LINE;
    return found;
}

static Quantised take_quantised(char *memory, size_t *used, size_t rows, int32_t columns, int32_t group,
                                int32_t numbers, int32_t value_bytes) {
    int32_t groups = columns / group;
    Quantised found = {NULL, NULL, columns * numbers, groups * numbers, group, groups};
    found.values = take(memory, used, rows * (size_t)found.ld * (size_t)value_bytes);
    found.scales = take(memory, used, sizeof(float) * rows * (size_t)found.ld_scales);
    return found;
}

static size_t lay_out(Room *room, char *memory, const Weights *weights) {
    const Header *h = weights->header;
    int32_t numbers = weights->numbers, value_bytes = weights->kernels->value_bytes;
    size_t rows = (size_t)room->tokens, used = 0;
    int32_t threads = room->threads;
    size_t states = sizeof(float) * rows * (size_t)state_columns(h);
    // Several threads compute the inner layer whole before it is narrowed, one thread group by group.
    int32_t inner = threads > 1 ? h->inner : h->inner_group, context = h->heads * h->depth;
    for (int n = 0; n < 2; n++) {
        States *found = n ? &room->some : &room->all;
        found->floats = take(memory, &used, states);
        found->bytes = take_quantised(memory, &used, rows, h->width, h->group, numbers, value_bytes);
    }
    room->queries = take(memory, &used, sizeof(float) * rows * (size_t)query_columns(h));
    room->keys_values = take(memory, &used, sizeof(float) * rows * (size_t)key_columns(h));
    room->context = take(memory, &used, sizeof(float) * rows * (size_t)context);
    room->quantised_context = take_quantised(memory, &used, rows, context, context, numbers, value_bytes);
    room->added = take(memory, &used, states);
    room->inner = take(memory, &used, sizeof(float) * rows * (size_t)inner);
    room->quantised_inner = take_quantised(memory, &used, rows, inner, h->inner_group, numbers, value_bytes);
    room->attention = take(memory, &used, sizeof(float *) * (size_t)threads);
    for (int32_t n = 0; n < threads; n++) {
        float *own = take(memory, &used, sizeof(float) * attend_room(h->positions, h->depth));
        if (memory) room->attention[n] = own;
    }
    return used;
}

// Not from the heap: what is outgrown there stays in the process, in pieces that nothing fits.
#ifdef __wasm__
static char *map_room(size_t bytes) { return aligned_alloc(LINE, bytes); }
static void unmap_room(char *memory, size_t bytes) { (void)bytes, free(memory); }
#else
static char *map_room(size_t bytes) {
    char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}
static void unmap_room(char *memory, size_t bytes) { munmap(memory, bytes); }
#endif

int room_for(Room *room, const Weights *weights, int32_t tokens, int32_t threads) {
    if (room->memory && room->tokens >= tokens && room->threads >= threads) return 1;
    // Never less than it was: calls that want many tokens and calls that want many threads take turns.
    Room wanted = {.tokens = (tokens + ROOM_STEP - 1) / ROOM_STEP * ROOM_STEP, .threads = threads};
    if (room->tokens > wanted.tokens) wanted.tokens = room->tokens;
    if (room->threads > wanted.threads) wanted.threads = room->threads;
    size_t bytes = lay_out(&wanted, NULL, weights);
    room_free(room);
    wanted.memory = map_room(bytes);
    wanted.bytes = bytes;
    if (!wanted.memory) return 0;
    lay_out(&wanted, wanted.memory, weights);
    *room = wanted;
    return 1;
}

void room_free(Room *room) {
    if (room->memory) unmap_room(room->memory, room->bytes);
    *room = (Room){0};
}

void copy_states(const Weights *weights, const States *to, int32_t to_row, const States *from, int32_t from_row,
                 int32_t rows) {
    size_t floats = (size_t)state_columns(weights->header), scales = (size_t)to->bytes.ld_scales;
    size_t values = (size_t)to->bytes.ld * (size_t)weights->kernels->value_bytes;
    size_t count = (size_t)rows, here = (size_t)to_row, there = (size_t)from_row;
    memmove(to->floats + here * floats, from->floats + there * floats, count * floats * sizeof(float));
    memmove(to->bytes.scales + here * scales, from->bytes.scales + there * scales, count * scales * sizeof(float));
    memmove((char *)to->bytes.values + here * values, (char *)from->bytes.values + there * values, count * values);
}

typedef struct {
    int32_t first, last;
} Range;

// This thread's part of `total` things.
static Range share(const Work *work, int32_t total) {
    return (Range){(int32_t)((int64_t)total * work->index / work->count),
                   (int32_t)((int64_t)total * (work->index + 1) / work->count)};
}

static Range overlap(Range one, int32_t first, int32_t last) {
    Range found = {one.first > first ? one.first : first, one.last < last ? one.last : last};
    if (found.last < found.first) found.last = found.first;
    return (Range){found.first - first, found.last - first};
}

// The rows from `first` on.
static Quantised rows_of(const Quantised *whole, int32_t first, int32_t value_bytes) {
    Quantised found = *whole;
    found.values = (char *)whole->values + (size_t)first * (size_t)whole->ld * (size_t)value_bytes;
    found.scales += (size_t)first * (size_t)whole->ld_scales;
    return found;
}

// Columns of a product, counted in panels, of all groups.
static void multiply(const Work *work, const Linear *matrix, Range panels, int32_t rows, const Quantised *in,
                     float *out, int32_t ld) {
    if (panels.first == panels.last) return;
    Linear part = part_of(matrix, panels.first, panels.last);
    work->weights->kernels->product(&part, rows, in, 0, matrix->groups, out + panels.first * PANEL, ld);
}

// What a step of a layer needs.
typedef struct {
    const Work *work;
    const Kernels *kernels;
    const Header *header;
    Room *room;
    const Layer *layer;
    States states;  // that the layer changes
    int32_t asked, ld;
} Step;

static void quantise_states(const Step *step, const States *states, const float *norm, Form form, Range rows) {
    Quantised out = rows_of(&states->bytes, rows.first, step->kernels->value_bytes);
    step->kernels->quantise(states->floats + (size_t)rows.first * step->ld, step->ld, rows.last - rows.first,
                            norm + 2 * step->header->width, form, &out);
}

static void norm_and_quantise(const Step *step, const float *norm, const float *added, Form form, Range rows) {
    const Header *h = step->header;
    if (added) added += (size_t)rows.first * step->ld;
    step->kernels->norm(step->states.floats + (size_t)rows.first * step->ld, added, step->ld, rows.last - rows.first,
                        h->width, norm, h->epsilon);
    quantise_states(step, &step->states, norm, form, rows);
}

// Copies asked rows from the batch's states to an array of their own, or back.
static void copy_asked(const Step *step, Range rows, int back) {
    const States *all = &step->room->all, *some = &step->room->some;
    for (int32_t row = rows.first; row < rows.last; row++) {
        int32_t place = step->work->batch->rows[row];
        back ? copy_states(step->work->weights, all, place, some, row, 1)
             : copy_states(step->work->weights, some, row, all, place, 1);
    }
}

static void project(const Step *step, int more) {
    const Header *h = step->header;
    int32_t panels = head_columns(h) / PANEL;
    const Linear *matrix = &step->layer->projections;
    Range own = share(step->work, (more ? 1 : 3) * panels);
    Linear queries = part_of(matrix, 0, panels), others = part_of(matrix, panels, 3 * panels);
    multiply(step->work, &queries, overlap(own, 0, panels), step->asked, &step->states.bytes, step->room->queries,
             query_columns(h));
    multiply(step->work, &others, overlap(own, panels, 3 * panels), step->work->batch->tokens,
             &step->room->all.bytes, step->room->keys_values, key_columns(h));
}

static void attend(const Step *step) {
    const Header *h = step->header;
    const Batch *batch = step->work->batch;
    int32_t depth = h->depth, context = h->heads * depth, ld_queries = query_columns(h), ld = key_columns(h);
    Range own = share(step->work, batch->sequences * h->heads);
    for (int32_t unit = own.first; unit < own.last; unit++) {
        int32_t sequence = unit / h->heads, column = unit % h->heads * depth;
        int32_t first = batch->starts[sequence], tokens = batch->starts[sequence + 1] - first;
        int32_t asks = batch->asked_starts[sequence], asked = batch->asked_starts[sequence + 1] - asks;
        if (!asked) continue;
        const float *keys = step->room->keys_values + (size_t)first * ld + column;
        step->kernels->attend(step->room->queries + (size_t)asks * ld_queries + column, ld_queries, asked, keys,
                              keys + head_columns(h), ld, tokens, depth,
                              step->room->context + (size_t)asks * context + column, context,
                              step->room->attention[step->work->index]);
    }
}

// The inner layer of one thread: a group of its channels at a time, so that these stay in the caches.
static void feed_forward_alone(const Step *step) {
    const Layer *layer = step->layer;
    int32_t columns = step->header->inner_group;
    Room *room = step->room;
    Quantised inner = room->quantised_inner;
    inner.ld_scales = numbers_of(layer->down.form);
    inner.ld = columns * inner.ld_scales;
    inner.groups = 1;
    for (int32_t group = 0; group < layer->down.groups; group++) {
        Linear up = part_of(&layer->up, group * columns / PANEL, (group + 1) * columns / PANEL);
        step->kernels->product(&up, step->asked, &step->states.bytes, 0, up.groups, room->inner, columns);
        step->kernels->gelu(room->inner, columns, step->asked, columns);
        step->kernels->quantise(room->inner, columns, step->asked, NULL, layer->down.form, &inner);
        step->kernels->product(&layer->down, step->asked, &inner, group, group + 1, room->added, step->ld);
    }
}

static void feed_forward_together(const Step *step) {
    const Layer *layer = step->layer;
    const Kernels *kernels = step->kernels;
    int32_t columns = layer->up.outputs;
    Room *room = step->room;
    Range panels = share(step->work, columns / PANEL), rows = share(step->work, step->asked);
    multiply(step->work, &layer->up, panels, step->asked, &step->states.bytes, room->inner, columns);
    kernels->gelu(room->inner + panels.first * PANEL, columns, step->asked, (panels.last - panels.first) * PANEL);
    barrier_wait(step->work->barrier);
    Quantised own = rows_of(&room->quantised_inner, rows.first, kernels->value_bytes);
    kernels->quantise(room->inner + (size_t)rows.first * columns, columns, rows.last - rows.first, NULL,
                      layer->down.form, &own);
    barrier_wait(step->work->barrier);
    multiply(step->work, &layer->down, share(step->work, step->ld / PANEL), step->asked, &room->quantised_inner,
             room->added, step->ld);
    barrier_wait(step->work->barrier);
}

static Step step_of(const Work *work, const Layer *layer) {
    const Weights *weights = work->weights;
    return (Step){work, weights->kernels, weights->header, work->room, layer, work->room->all, work->batch->tokens,
                  state_columns(weights->header)};
}

void compute_layer(const Work *work, int32_t number, int more) {
    const Layer *layer = &work->weights->layers[number];
    const Batch *batch = work->batch;
    Room *room = work->room;
    Step step = step_of(work, layer);
    Range rows = share(work, batch->rows ? batch->asked : batch->tokens);
    if (batch->rows) {
        step.states = room->some;
        step.asked = batch->asked;
        copy_asked(&step, rows, 0);
        barrier_wait(work->barrier);
    }
    project(&step, more);
    barrier_wait(work->barrier);
    attend(&step);
    barrier_wait(work->barrier);
    Quantised context = rows_of(&room->quantised_context, rows.first, step.kernels->value_bytes);
    int32_t columns = layer->attended.inputs;
    step.kernels->quantise(room->context + (size_t)rows.first * columns, columns, rows.last - rows.first, NULL,
                           layer->attended.form, &context);
    barrier_wait(work->barrier);
    multiply(work, &layer->attended, share(work, step.ld / PANEL), step.asked, &room->quantised_context, room->added,
             step.ld);
    barrier_wait(work->barrier);
    norm_and_quantise(&step, layer->attention_norm, room->added, layer->up.form, rows);
    barrier_wait(work->barrier);
    work->count > 1 ? feed_forward_together(&step) : feed_forward_alone(&step);
    Form form = form_after(step.header, number + 1);
    norm_and_quantise(&step, layer->output_norm, room->added, form, rows);
    if (batch->rows) copy_asked(&step, rows, 1);
    int some_left = batch->rows && batch->by_token;  // read before a faster thread asks for the next layer's rows
    barrier_wait(work->barrier);
    if (!some_left) return;
    // The 8 bits of a state are made for one layer: those of tokens that have left are made anew for the next.
    quantise_states(&step, &room->all, layer->output_norm, form, share(work, batch->tokens));
    barrier_wait(work->barrier);
}

void embed(const Work *work, const int32_t *ids) {
    const Weights *weights = work->weights;
    const Batch *batch = work->batch;
    const Header *h = weights->header;
    Step step = step_of(work, NULL);
    Range rows = share(work, batch->tokens);
    for (int32_t sequence = 0; sequence < batch->sequences; sequence++) {
        Range own = overlap(rows, batch->starts[sequence], batch->starts[sequence + 1]);
        for (int32_t place = own.first; place < own.last; place++) {
            int32_t row = batch->starts[sequence] + place, id = ids[row];
            step.kernels->embed(weights->words + (size_t)id * h->width,
                                weights->word_scales + (size_t)id * (h->width / h->word_group), h->word_group,
                                weights->places + (size_t)place * h->width, h->width,
                                step.states.floats + (size_t)row * step.ld);
        }
    }
    norm_and_quantise(&step, weights->norm, NULL, form_after(h, 0), rows);
    barrier_wait(work->barrier);
}
