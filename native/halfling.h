// The library's border: what Python calls. Little of it changes from version to version, all of it with `halfling_abi`.
#pragma once

#include <stddef.h>
#include <stdint.h>

#define API __attribute__((visibility("default")))

enum { ABI = 1 };

enum { ENTROPY, MAX_PROBABILITY, MARGIN, PATIENCE };  // criteria
enum { MEAN, MAX };                                   // pooling

// Where inputs leave. The last layer takes whoever is left.
typedef struct {
    int32_t exits;
    const int32_t *layers;    // [exits], 1-based, ascending; the last is the encoder's last
    const float *thresholds;  // [exits - 1]: leave where the uncertainty is below
    int32_t criterion, patience, by_token, pooling;
} Policy;

typedef struct Model Model;

// Sequences of token ids, one after the other.
typedef struct {
    int32_t sequences;
    const int32_t *ids, *starts;             // [starts[sequences]], [sequences + 1]
    const int32_t *picked, *picked_starts;   // places whose answers are wanted, counted within each sequence
    const int32_t *leave_after;              // NULL, or for each the layer after which it leaves, whatever it says
} Questions;

typedef struct {
    float *logits;         // [picked][classes], at the exit taken
    int32_t *exit_layers;  // [sequences]: where tokens exit alone the deepest of them
    float *uncertainties;  // [sequences]
    int32_t *token_layers;  // [tokens] where they exit alone: the layer after which each did
} Answers;

// Sizes of an opened file, for whoever compares them with what else is known.
typedef struct {
    int32_t tagger, layers, width, heads, vocabulary, positions, classes;
} Sizes;

API int32_t halfling_abi(void);
// The name of a variant of the kernels that runs here, by number, the fastest first; NULL after the last.
API const char *halfling_variant(int32_t number);
// Returns a model, or NULL with the reason in `*wrong`. `variant` may be NULL: the fastest.
API Model *halfling_open(const char *path, int32_t threads, const char *variant, const char **wrong);
// The same over a file in memory, on a multiple of 64 bytes, which must outlive it.
API Model *halfling_over(const void *file, int64_t bytes, int32_t threads, const char *variant, const char **wrong);
API void halfling_close(Model *model);
API void halfling_sizes(const Model *model, Sizes *sizes);
API const char *halfling_model_variant(const Model *model);
// Answers all questions. Returns NULL, or what is wrong with them. Threads that call it take turns.
API const char *halfling_answer(Model *model, const Policy *policy, const Questions *questions,
                                const Answers *answers);

// Text to ids. Threads may share one.
typedef struct Tokenizer Tokenizer;

API Tokenizer *halfling_tokenizer_open(const char *path, const char **wrong);
// The same over tables in memory, on a multiple of 8 bytes, which must outlive it.
API Tokenizer *halfling_tokenizer_over(const void *tables, int64_t bytes, const char **wrong);
API void halfling_tokenizer_close(Tokenizer *tokenizer);
// Returns the ids of all texts, one after the other, which halfling_free gives back; NULL without memory. `ends` says
// where in `text` each ends; `id_ends` becomes where its ids do.
API int32_t *halfling_tokenize(const Tokenizer *tokenizer, const char *text, const int64_t *ends, int64_t texts,
                               int64_t *id_ends);
API void halfling_free(void *memory);
