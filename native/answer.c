// The whole loop: sequences in, layers, exits, whoever is sure leaves, the others go on together.
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "encoder.h"
#include "exits.h"
#include "halfling.h"

enum {
    PART_TOKENS = 80,    // computed together by one thread: fewer read weights more often, more make one thread wait
    SHARED_TOKENS = 72,  // up to which threads share the work on all of them
    FEW_TOKENS = 256,    // up to which a thread that waits long for another waits for the processor, not for work
    WANTED = 1,          // a token's flags: its answer is wanted
    THERE = 2,           // it has not left alone
    DONE = 4,            // its sequence leaves
    WORTH_WAITING = 4,   // tokens that an exit spares its own layer: from so many on that layer computes in two passes
    REMEMBERED = 16,     // parts over which the share of tokens that leave at an exit is averaged
    ALONE_NANOSECONDS = 100000000,  // that threads do not share work on few tokens, once one waited long for another
};

struct Model {
    Weights weights;
    Pool *pool;
    Room *rooms;  // one for each thread
    _Atomic float share_left[MOST_LAYERS];  // by layer: of the tokens that lately reached its exit
    long long alone_until;
    pthread_mutex_t turn;
    _Atomic pid_t process;  // whose lock and rooms these are; while they are made, less than 0
};

// Sequences that are computed together.
typedef struct {
    Batch batch;
    int32_t *numbers;  // of its sequences among all
    int32_t *ids, *rows;
    uint8_t *flags;  // of its tokens
    int more;        // of the exit's layer, now that who stays is known
} Part;

typedef struct {
    Model *model;
    const Policy *policy;
    const Questions *in;
    const Answers *out;
    Part *parts;
    int32_t num_parts;
    atomic_int next;
    Barrier barrier;  // of threads that share one part
    int shared, failed;
    int32_t *order;                // sequences, the longest first
    int32_t *before, *confirmed;   // what patience remembers: of each answer; of each sequence or token
    float *token_logits, *token_doubts;  // where tokens leave alone
    void *memory;
} Call;

static const Header *header_of(const Call *call) { return call->model->weights.header; }

// Tokens whose states are classified together: which, and where their logits go.
typedef struct {
    const Call *call;
    const Head *head;
    Room *room;
    int32_t count, rows[ROOM_STEP];
    float *to[ROOM_STEP];
} Classifying;

static void classify(Classifying *these) {
    const Weights *weights = &these->call->model->weights;
    const Header *h = weights->header;
    const Head *head = these->head;
    Room *room = these->room;
    int32_t ld = state_columns(h);
    for (int32_t n = 0; n < these->count; n++)
        copy_states(weights, &room->some, n, &room->all, these->rows[n], 1);
    if (h->pooled) {
        weights->kernels->product(&head->dense, these->count, &room->some.bytes, 0, head->dense.groups,
                                  room->some.floats, ld);
        weights->kernels->tanh(room->some.floats, these->count * ld);
    }
    for (int32_t n = 0; n < these->count; n++)
        weights->kernels->logits(room->some.floats + (size_t)n * ld, h->width, head->weights, head->bias, h->classes,
                                 these->to[n]);
    these->count = 0;
}

static void classify_later(Classifying *these, int32_t row, float *to) {
    these->rows[these->count] = row;
    these->to[these->count++] = to;
    if (these->count == ROOM_STEP) classify(these);
}

static const Head *head_after(const Call *call, int32_t layer) {
    const Header *h = header_of(call);
    for (int32_t n = 0; n < h->exits; n++)
        if (h->exit_layers[n] == layer) return &call->model->weights.heads[n];
    return NULL;
}

static int leaves(const Call *call, int32_t exit, int32_t number, float unsure) {
    const Policy *policy = call->policy;
    if (exit == policy->exits - 1) return 1;
    if (call->in->leave_after) return call->in->leave_after[number] <= policy->layers[exit];
    return unsure < policy->thresholds[exit];
}

// Judges a sequence whose tokens leave together. Returns whether it leaves.
static int judge_sequence(const Call *call, int32_t exit, int32_t number) {
    const Questions *in = call->in;
    int32_t first = in->picked_starts[number], answers = in->picked_starts[number + 1] - first;
    int32_t classes = header_of(call)->classes;
    float unsure = doubt(call->policy, call->out->logits + (int64_t)first * classes, classes, answers,
                         call->before + first, call->confirmed + number);
    if (!leaves(call, exit, number, unsure)) return 0;
    call->out->exit_layers[number] = call->policy->layers[exit];
    call->out->uncertainties[number] = unsure;
    return 1;
}

// Judges each token of a sequence that is still there. Returns whether none whose answer is wanted remains.
static int judge_tokens(const Call *call, int32_t exit, int32_t number, uint8_t *flags) {
    const Questions *in = call->in;
    int32_t first = in->starts[number], tokens = in->starts[number + 1] - first, undone = 0;
    int32_t layer = call->policy->layers[exit], classes = header_of(call)->classes;
    for (int32_t token = 0; token < tokens; token++) {
        if (!(flags[token] & THERE)) continue;
        int32_t place = first + token;
        float unsure = doubt(call->policy, call->token_logits + (int64_t)place * classes, classes, 1,
                             call->before + place, call->confirmed + place);
        call->token_doubts[place] = unsure;
        call->out->token_layers[place] = layer;  // the last that is written stays
        if (leaves(call, exit, number, unsure)) flags[token] &= (uint8_t)~THERE;
        undone |= flags[token] == (WANTED | THERE);
    }
    if (undone) return 0;
    double sum = 0;
    int32_t deepest = 0, begin = in->picked_starts[number], end = in->picked_starts[number + 1];
    for (int32_t token = first; token < first + tokens; token++)
        if (call->out->token_layers[token] > deepest) deepest = call->out->token_layers[token];
    for (int32_t n = begin; n < end; n++) {
        int32_t place = first + in->picked[n];
        memcpy(call->out->logits + (int64_t)n * classes, call->token_logits + (int64_t)place * classes,
               sizeof(float) * (size_t)classes);
        sum += call->token_doubts[place];
    }
    call->out->exit_layers[number] = deepest;
    call->out->uncertainties[number] = begin < end ? (float)(sum / (end - begin)) : 1;
    return 1;
}

// Takes sequences that are done out of a part, and moves the states of the others together.
static void compact(const Call *call, Part *part, Room *room) {
    Batch *batch = &part->batch;
    int32_t kept = 0, to = 0;
    for (int32_t sequence = 0; sequence < batch->sequences; sequence++) {
        int32_t from = batch->starts[sequence], end = batch->starts[sequence + 1];
        if (part->flags[from] & DONE) continue;
        if (from != to) {
            copy_states(&call->model->weights, &room->all, to, &room->all, from, end - from);
            memmove(part->flags + to, part->flags + from, (size_t)(end - from));
        }
        part->numbers[kept] = part->numbers[sequence];
        batch->starts[kept++] = to;
        to += end - from;
    }
    batch->starts[kept] = to;
    batch->sequences = kept;
    batch->tokens = to;
}

// How many of so many tokens an exit will spare the rest of its layer, by who left there lately. The answers are the
// same whatever it says.
static float spared(const Call *call, int32_t layer, int32_t tokens) {
    return atomic_load_explicit(&call->model->share_left[layer - 1], memory_order_relaxed) * (float)tokens;
}

static void remember(const Call *call, int32_t layer, float share) {
    if (call->policy->by_token || call->in->leave_after) return;  // those say nothing of who leaves by a policy
    _Atomic float *left = &call->model->share_left[layer - 1];
    float before = atomic_load_explicit(left, memory_order_relaxed);
    atomic_store_explicit(left, before + (share - before) / REMEMBERED, memory_order_relaxed);
}

// Classifies after a layer, and marks sequences that leave.
static void judge(const Call *call, Part *part, Room *room, int32_t exit) {
    const Questions *in = call->in;
    Batch *batch = &part->batch;
    int32_t classes = header_of(call)->classes, left = 0, last = exit == call->policy->exits - 1;
    Classifying these = {.call = call, .head = head_after(call, call->policy->layers[exit]), .room = room};
    for (int32_t sequence = 0; sequence < batch->sequences; sequence++) {
        int32_t number = part->numbers[sequence], row = batch->starts[sequence];
        if (call->policy->by_token) {
            float *to = call->token_logits + (int64_t)classes * in->starts[number];
            for (; row < batch->starts[sequence + 1]; row++, to += classes)
                if (part->flags[row] & THERE && (!last || part->flags[row] & WANTED)) classify_later(&these, row, to);
        } else
            for (int32_t n = in->picked_starts[number]; n < in->picked_starts[number + 1]; n++)
                classify_later(&these, row + in->picked[n], call->out->logits + (int64_t)n * classes);
    }
    classify(&these);
    for (int32_t sequence = 0; sequence < batch->sequences; sequence++) {
        int32_t number = part->numbers[sequence];
        uint8_t *flags = part->flags + batch->starts[sequence];
        if (call->policy->by_token ? judge_tokens(call, exit, number, flags) : judge_sequence(call, exit, number))
            for (; flags < part->flags + batch->starts[sequence + 1]; flags++, left++) *flags |= DONE;
    }
    remember(call, call->policy->layers[exit], (float)left / (float)batch->tokens);
}

// Lists the tokens whose states are computed next: those with all flags of `with` and none of `without`. Returns how
// many.
static int32_t ask(Part *part, int with, int without) {
    Batch *batch = &part->batch;
    int32_t asked = 0;
    for (int32_t sequence = 0; sequence < batch->sequences; sequence++) {
        batch->asked_starts[sequence] = asked;
        for (int32_t row = batch->starts[sequence]; row < batch->starts[sequence + 1]; row++)
            if ((part->flags[row] & (with | without)) == with) part->rows[asked++] = row;
    }
    batch->asked_starts[batch->sequences] = asked;
    batch->rows = asked == batch->tokens ? NULL : part->rows;
    return batch->asked = asked;
}

// What thread `index` of those that wait at `barrier` does of a part.
static void compute_part(const Call *call, Part *part, Room *room, int32_t index, Barrier *barrier) {
    Work work = {&call->model->weights, &part->batch, room, index, barrier->count, barrier};
    int32_t exit = 0, layers = header_of(call)->layers, there = call->policy->by_token ? THERE : 0, waits = 0;
    embed(&work, part->ids);
    for (int32_t layer = 1, fresh = 1; part->batch.sequences; layer++) {
        int exits = layer == call->policy->layers[exit];
        if (!index && (fresh || exits)) {
            // The last layer computes what is wanted alone. At an exit that comes first: who leaves needs no more.
            int32_t wanted = exits && (layer == layers || !there) ? ask(part, WANTED | there, 0) : part->batch.tokens;
            waits = layer < layers && spared(call, layer, part->batch.tokens - wanted) >= WORTH_WAITING;
            if (layer < layers && !waits) ask(part, there, 0);
        }
        if (fresh || exits) barrier_wait(barrier);
        compute_layer(&work, layer - 1, 0);
        fresh = exits;
        if (!exits) continue;
        exit++;
        if (!index) {
            judge(call, part, room, exit - 1);
            part->more = waits && ask(part, 0, WANTED | DONE);
            if (!part->more) compact(call, part, room);
        }
        barrier_wait(barrier);
        if (!part->more) continue;
        compute_layer(&work, layer - 1, 1);
        if (!index) compact(call, part, room);
        barrier_wait(barrier);
    }
}

static void compute(void *given, int index) {
    Call *call = given;
    if (call->failed) return;
    if (call->shared) {
        compute_part(call, call->parts, &call->model->rooms[0], index, &call->barrier);
        return;
    }
    Barrier alone = {.count = 1};
    for (int32_t next; (next = atomic_fetch_add(&call->next, 1)) < call->num_parts;)
        compute_part(call, &call->parts[next], &call->model->rooms[index], 0, &alone);
}

typedef struct {
    int32_t tokens, number;
} Length;

static int longer(const void *left, const void *right) {
    const Length *one = left, *two = right;
    return one->tokens != two->tokens ? (one->tokens < two->tokens) - (one->tokens > two->tokens)
                                      : (one->number > two->number) - (one->number < two->number);
}

// Deals sequences, the longest first, out to parts that hold about as much each.
static void deal(Call *call, Length *lengths, int threads) {
    const Questions *in = call->in;
    int32_t total = in->starts[in->sequences];
    for (int32_t n = 0; n < in->sequences; n++) lengths[n] = (Length){in->starts[n + 1] - in->starts[n], n};
    qsort(lengths, (size_t)in->sequences, sizeof *lengths, longer);
    int32_t parts = (total + PART_TOKENS - 1) / PART_TOKENS;
    parts = (parts + threads - 1) / threads * threads;
    if (parts > in->sequences) parts = in->sequences;
    // Threads that take a part each would wait for one that has more than its share.
    call->shared = threads > 1 && (total <= SHARED_TOKENS || parts < threads ||
                                   (parts == threads && lengths[0].tokens * 4 > total / threads * 5));
    if (call->shared) parts = 1;
    call->num_parts = parts;
    int32_t *numbers = call->order;
    for (int32_t part = 0; part < parts; part++) {
        call->parts[part].numbers = numbers;
        // There and back: 0 1 2, 2 1 0, 0 1 2.
        for (int32_t turn = 0;; turn++) {
            int32_t place = turn * parts + (turn % 2 ? parts - 1 - part : part);
            if (turn * parts >= in->sequences) break;
            if (place < in->sequences) *numbers++ = lengths[place].number;
        }
        call->parts[part].batch.sequences = (int32_t)(numbers - call->parts[part].numbers);
    }
}

// The call's arrays, and those that its parts share out among them.
static size_t lay_out(Call *call, char *memory, Length **lengths, Part *all) {
    const Questions *in = call->in;
    size_t sequences = (size_t)in->sequences, tokens = (size_t)in->starts[sequences], used = 0;
    size_t alone = call->policy->by_token ? tokens : 0, classes = (size_t)header_of(call)->classes;
    size_t answers = alone ? alone : (size_t)in->picked_starts[sequences];
    call->parts = take(memory, &used, sequences * sizeof(Part));
    *lengths = take(memory, &used, sequences * sizeof(Length));
    call->order = take(memory, &used, sequences * sizeof(int32_t));
    call->before = take(memory, &used, answers * sizeof(int32_t));
    call->confirmed = take(memory, &used, (alone ? alone : sequences) * sizeof(int32_t));
    call->token_logits = take(memory, &used, alone * classes * sizeof(float));
    call->token_doubts = take(memory, &used, alone * sizeof(float));
    all->ids = take(memory, &used, tokens * sizeof(int32_t));
    all->rows = take(memory, &used, tokens * sizeof(int32_t));
    all->flags = take(memory, &used, tokens);
    all->batch.starts = take(memory, &used, 4 * sequences * sizeof(int32_t));
    if (memory) memset(call->before, -1, answers * sizeof(int32_t));
    return used;
}

// Gives a part its share of arrays, of which `next` is what others have left, and its tokens.
static void fill(const Call *call, Part *part, Part *next) {
    const Questions *in = call->in;
    Batch *batch = &part->batch;
    batch->by_token = call->policy->by_token;
    part->ids = next->ids, part->rows = next->rows, part->flags = next->flags;
    batch->starts = next->batch.starts, batch->asked_starts = batch->starts + batch->sequences + 1;
    next->batch.starts += 2 * (batch->sequences + 1);
    for (int32_t sequence = 0; sequence < batch->sequences; sequence++) {
        int32_t number = part->numbers[sequence], tokens = in->starts[number + 1] - in->starts[number];
        batch->starts[sequence] = batch->tokens;
        memcpy(next->ids, in->ids + in->starts[number], sizeof(int32_t) * (size_t)tokens);
        memset(next->flags, THERE, (size_t)tokens);
        for (int32_t p = in->picked_starts[number]; p < in->picked_starts[number + 1]; p++)
            next->flags[in->picked[p]] |= WANTED;
        batch->tokens += tokens, next->ids += tokens, next->rows += tokens, next->flags += tokens;
    }
    batch->starts[batch->sequences] = batch->tokens;
}

// Lays out the work for as many threads as there are.
static void prepare(void *given, int threads) {
    Call *call = given;
    Model *model = call->model;
    Length *lengths;
    Part next = {0};
    int32_t most = 0;
    call->memory = calloc(1, lay_out(call, NULL, &lengths, &next));
    call->failed = !call->memory;
    if (call->failed) return;
    lay_out(call, call->memory, &lengths, &next);
    deal(call, lengths, threads);
    for (int32_t n = 0; n < call->num_parts; n++) {
        fill(call, &call->parts[n], &next);
        if (call->parts[n].batch.tokens > most) most = call->parts[n].batch.tokens;
    }
    call->barrier = (Barrier){.count = threads};
    for (int n = 0; n < (call->shared ? 1 : threads); n++)
        call->failed |= !room_for(&model->rooms[n], &model->weights, most, call->shared ? threads : 1);
}

static int rises(const int32_t *starts, int32_t count) {
    if (starts[0]) return 0;
    for (int32_t n = 0; n < count; n++)
        if (starts[n + 1] < starts[n]) return 0;
    return 1;
}

static const char *wrong_questions(const Header *h, const Questions *in) {
    if (in->sequences < 0 || !rises(in->starts, in->sequences) || !rises(in->picked_starts, in->sequences))
        return "sequences do not follow each other";
    for (int32_t n = 0; n < in->sequences; n++) {
        int32_t tokens = in->starts[n + 1] - in->starts[n];
        if (!tokens) return "a sequence without tokens";
        if (tokens > h->positions) return "a sequence is longer than the model reads";
        for (int32_t p = in->picked_starts[n]; p < in->picked_starts[n + 1]; p++)
            if (in->picked[p] < 0 || in->picked[p] >= tokens) return "a place picked lies outside its sequence";
    }
    for (int32_t n = 0; n < in->starts[in->sequences]; n++)
        if (in->ids[n] < 0 || in->ids[n] >= h->vocabulary) return "an id is none of the vocabulary";
    return NULL;
}

static const char *wrong_policy(const Header *h, const Policy *policy) {
    int32_t exit = 0;
    for (int32_t n = 0; n < policy->exits; n++, exit++) {
        while (exit < h->exits && h->exit_layers[exit] != policy->layers[n]) exit++;
        if (exit >= h->exits) return "the policy names a layer without a classifier";
    }
    if (policy->exits < 1 || policy->layers[policy->exits - 1] != h->layers)
        return "the policy's last exit is not last";
    if (policy->criterion < ENTROPY || policy->criterion > PATIENCE) return "unknown criterion";
    if (policy->criterion == PATIENCE && policy->patience < 1) return "patience without a number";
    if (policy->by_token && !h->tagger) return "tokens of a classifier do not leave alone";
    return NULL;
}

// After a fork, whoever held the lock is not here, and may have been about to make a room larger. One of the child's
// threads begins anew, the others wait for it.
static void begin_in_process(Model *model) {
    pid_t here = getpid(), found = atomic_load(&model->process);
    if (found == here) return;
    if (found != -here && atomic_compare_exchange_strong(&model->process, &found, -here)) {
        pthread_mutex_init(&model->turn, NULL);
        for (int n = 0; found && n < pool_threads(model->pool); n++) model->rooms[n] = (Room){0};
        atomic_store(&model->process, here);
    }
    while (atomic_load(&model->process) != here) let_others_run();
}

const char *halfling_answer(Model *model, const Policy *policy, const Questions *in, const Answers *out) {
    const Header *h = model->weights.header;
    const char *wrong = wrong_policy(h, policy);
    if (!wrong) wrong = wrong_questions(h, in);
    if (wrong || !in->sequences) return wrong;
    begin_in_process(model);
    pthread_mutex_lock(&model->turn);
    Call call = {.model = model, .policy = policy, .in = in, .out = out};
    int few = in->starts[in->sequences] <= FEW_TOKENS;
    int alone = few && model->alone_until && nanoseconds() < model->alone_until;
    pool_run(model->pool, alone ? 1 : pool_threads(model->pool), prepare, compute, &call);
    if (few && atomic_load(&call.barrier.crowded)) model->alone_until = nanoseconds() + ALONE_NANOSECONDS;
    pthread_mutex_unlock(&model->turn);
    free(call.memory);
    return call.failed ? "no memory" : NULL;
}

Model *halfling_over(const void *file, int64_t bytes, int32_t threads, const char *variant, const char **wrong) {
    Model *model = calloc(1, sizeof *model);
    if (!model) return *wrong = "no memory", NULL;
    const Kernels *kernels = halfling_kernels(variant);
    *wrong = !kernels ? "this processor does not run that variant"
                      : weights_over(&model->weights, file, (size_t)bytes, kernels);
    if (!*wrong) {
        model->pool = pool_new(threads);
        model->rooms = calloc((size_t)(threads > 1 ? threads : 1), sizeof *model->rooms);
        if (!model->pool || !model->rooms) *wrong = "no memory";
    }
    if (*wrong) return halfling_close(model), NULL;
    for (int32_t layer = 0; layer < MOST_LAYERS; layer++) atomic_init(&model->share_left[layer], 1);
    begin_in_process(model);
    return model;
}

Model *halfling_open(const char *path, int32_t threads, const char *variant, const char **wrong) {
    const void *file;
    size_t bytes;
    *wrong = map_file(path, &file, &bytes);
    if (*wrong) return NULL;
    Model *model = halfling_over(file, (int64_t)bytes, threads, variant, wrong);
    if (model) model->weights.lent = 0;
    else unmap_file(file, bytes);
    return model;
}

void halfling_close(Model *model) {
    if (!model) return;
    for (int n = 0; model->pool && model->rooms && n < pool_threads(model->pool); n++) room_free(&model->rooms[n]);
    pool_free(model->pool);
    free(model->rooms);
    weights_close(&model->weights);
    free(model);
}

void halfling_sizes(const Model *model, Sizes *sizes) {
    const Header *h = model->weights.header;
    *sizes = (Sizes){h->tagger, h->layers, h->width, h->heads, h->vocabulary, h->positions, h->classes};
}

const char *halfling_model_variant(const Model *model) { return model->weights.kernels->name; }

int32_t halfling_abi(void) { return ABI; }
