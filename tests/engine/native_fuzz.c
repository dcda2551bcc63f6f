// Opens damaged weights and tokenizers, and asks those that open questions that fit and questions that do not.
// Nothing may crash, hang or wake a sanitizer.
//
//     fuzz WEIGHTS TOKENIZER SCRATCH VARIANT ROUNDS SEED
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "halfling.h"

typedef struct {
    unsigned char *bytes;
    size_t count;
} File;

enum { HEADER = 1368 };  // bytes of the weights file before its table of sections

static unsigned long long state;

static unsigned below(unsigned most) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(state >> 33) % most;
}

static File read_file(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) exit(2);
    fseek(file, 0, SEEK_END);
    File found = {NULL, (size_t)ftell(file)};
    rewind(file);
    found.bytes = malloc(found.count);
    if (fread(found.bytes, 1, found.count, file) != found.count) exit(2);
    fclose(file);
    return found;
}

static void write_file(const char *path, const unsigned char *bytes, size_t count) {
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(bytes, 1, count, file) != count || fclose(file)) exit(2);
}

static unsigned crc_of(const unsigned char *bytes, size_t count) {
    unsigned crc = ~0u;
    for (size_t n = 0; n < count; n++) {
        crc ^= bytes[n];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (0xedb88320u & -(crc & 1));
    }
    return ~crc;
}

// Changes some bytes, mostly of the first `front`, or cuts the end off; 32-bit numbers become odd ones.
static size_t damage(unsigned char *bytes, size_t count, size_t front) {
    static const int odd[] = {0, 1, -1, 2, 15, 16, 17, 63, 64, 128, 0x7fffffff, (int)0x80000000, 0x7f800000, 0x7fc00000};
    for (unsigned n = below(3); n-- > 0;) {
        size_t place = below(4) ? below((unsigned)front) : below((unsigned)count);
        if (below(2))
            bytes[place] ^= (unsigned char)(1u << below(8));
        else if ((place &= ~(size_t)3) + 4 <= count)
            memcpy(bytes + place, &odd[below(sizeof odd / sizeof *odd)], 4);
    }
    return below(8) ? count : below((unsigned)count);
}

// Returns a number that stands for the bits of all logits.
static unsigned ask(Model *model) {
    Sizes sizes;
    halfling_sizes(model, &sizes);
    if (sizes.vocabulary > 1 << 20 || sizes.positions > 1 << 12) return 0;
    int sequences = (int)below(6), layers[3] = {1, 2, sizes.layers}, token_layers[6 * 40], exits[6];
    float thresholds[2] = {(float)below(10) / 10, 0.5f}, unsure[6], *logits;
    int ids[6 * 40], starts[7] = {0}, picked[6 * 40], picked_starts[7] = {0}, leave[6];
    for (int n = 0; n < sequences; n++) {
        int tokens = 1 + (int)below(39), answers = (int)below(tokens + 1);
        for (int t = 0; t < tokens; t++) ids[starts[n] + t] = (int)below((unsigned)sizes.vocabulary);
        for (int p = 0; p < answers; p++) picked[picked_starts[n] + p] = (int)below(tokens);
        starts[n + 1] = starts[n] + tokens;
        picked_starts[n + 1] = picked_starts[n] + answers;
        leave[n] = (int)below(5);
    }
    if (!below(8) && sequences) ids[below(starts[sequences])] = (int)below(0xffffffffu);
    if (!below(8) && picked_starts[sequences]) picked[below(picked_starts[sequences])] = (int)below(0xffffffffu);
    logits = malloc(sizeof(float) * (size_t)(picked_starts[sequences] + 1) * (size_t)sizes.classes);
    int first = (int)below(3);
    Policy policy = {3 - first, layers + first, thresholds, (int)below(5), (int)below(3), (int)below(2), (int)below(2)};
    Questions in = {sequences, ids, starts, picked, picked_starts, below(3) ? NULL : leave};
    Answers out = {logits, exits, unsure, token_layers};
    unsigned bits = 0;
    if (!halfling_answer(model, &policy, &in, &out))
        for (int n = 0; n < picked_starts[sequences] * sizes.classes; n++) {
            unsigned one;
            memcpy(&one, logits + n, 4);
            bits = bits * 31 + one;
        }
    free(logits);
    return bits;
}

int main(int count, char **given) {
    if (count == 2) return 0x7fffffff + count > 0;  // undefined: does a sanitizer look?
    if (count != 7) return 2;
    File weights = read_file(given[1]), tables = read_file(given[2]);
    const char *scratch = given[3], *wrong;
    int opened = 0, read = 0;
    unsigned bits = 0;
    state = strtoull(given[6], NULL, 10);
    Model *whole = halfling_open(given[1], 1, given[4], &wrong);
    if (!whole) return 3;
    for (int n = 0; n < 50; n++) bits = bits * 31 + ask(whole);
    halfling_close(whole);
    for (int round = 0; round < atoi(given[5]); round++) {
        unsigned char *copy = malloc(weights.count);
        memcpy(copy, weights.bytes, weights.count);
        size_t size = damage(copy, weights.count, HEADER + 16 * 28);
        int sections;
        memcpy(&sections, copy + 24, 4);
        if (below(16) && size > HEADER && sections > 0 && HEADER + 16 * (size_t)sections <= size) {
            memset(copy + 12, 0, 4);  // a checksum that is right lets the sizes be looked at
            unsigned crc = crc_of(copy, HEADER + 16 * (size_t)sections);
            memcpy(copy + 12, &crc, 4);
        }
        write_file(scratch, copy, size);
        free(copy);
        Model *model = halfling_open(scratch, 1 + (int)below(3), given[4], &wrong);
        for (int n = 0; model && n < 4; n++) ask(model);
        opened += model != NULL;
        halfling_close(model);

        copy = malloc(tables.count);
        memcpy(copy, tables.bytes, tables.count);
        size = damage(copy, tables.count, below(2) ? 96 : tables.count);
        write_file(scratch, copy, size);
        free(copy);
        Tokenizer *tokenizer = halfling_tokenizer_open(scratch, &wrong);
        unsigned length = below(400);
        char *text = malloc(length + 1);
        for (unsigned n = 0; n < length; n++) text[n] = (char)(below(3) ? 32 + below(95) : below(256));
        int64_t ends[2] = {length / 2, length}, id_ends[2];
        if (tokenizer) halfling_free(halfling_tokenize(tokenizer, text, ends, 2, id_ends));
        free(text);
        read += tokenizer != NULL;
        halfling_tokenizer_close(tokenizer);
    }
    free(weights.bytes);
    free(tables.bytes);
    printf("%d %d %u\n", opened, read, bits);
    return 0;
}
