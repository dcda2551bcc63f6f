// Text to ids: SentencePiece's Unigram in XLM-R's layout, cut as `tokenizers` cuts it. The tables are mapped.
#include <stdlib.h>
#include <string.h>

#include "folder.h"
#include "halfling.h"

// The file begins with this; the arrays follow in this order, each on a multiple of 8 bytes. Little-endian.
typedef struct {
    char magic[8];  // "HALFTOKN"
    uint32_t version, unknown;
    uint64_t bytes;  // of the whole file
    uint64_t edges;  // int64 [edges], a power of two: a table of `key << 24 | child`, -1 where there is none
    uint64_t pieces;       // double [pieces]: scores by id
    uint64_t nodes;        // int32 [nodes]: the piece that ends there, or -1
    uint64_t codes;        // int32 [codes]: a character's number among those of all pieces, 0 where it is in none
    uint64_t units;        // uint32 [units]: SentencePiece's table of normalisation, a trie of bytes
    uint64_t replacement_bytes;  // what its leaves point at
    uint64_t kinds;        // uint8 [kinds]: what a character of planes 0, 1 and 14 is to graphemes and words
    uint64_t width;        // of keys: node * width + character
    double unknown_score;
} TokenizerHeader;

struct Tokenizer {
    const TokenizerHeader *header;
    const int64_t *edges;
    const double *scores;
    const int32_t *pieces, *numbers;
    const uint32_t *units;
    const char *replacements;
    const uint8_t *kinds;
    size_t mapped;
    int lent;  // the tables are the caller's
};

typedef struct {
    int32_t *values;
    size_t count, room;
} Numbers;

enum {
    JOINS = 1, PREPENDS = 2, CONTROL = 4, SPACE = 8,  // kinds of characters
    MARK = 0x2581,        // before every word
    WHOLE_BELOW = 6,      // bytes of a grapheme that is looked up as a whole
    CHILD_BITS = 24,
};

static int add(Numbers *numbers, int32_t value) {
    if (numbers->count == numbers->room) {
        size_t room = numbers->room ? 2 * numbers->room : 256;
        int32_t *grown = realloc(numbers->values, room * sizeof *grown);
        if (!grown) return 0;
        numbers->values = grown;
        numbers->room = room;
    }
    numbers->values[numbers->count++] = value;
    return 1;
}

// Reads a character and returns its bytes; a byte that begins none counts as one.
static size_t decode(const unsigned char *text, size_t bytes, int32_t *code) {
    size_t length = text[0] < 0xc2 ? 1 : text[0] < 0xe0 ? 2 : text[0] < 0xf0 ? 3 : text[0] < 0xf5 ? 4 : 1;
    if (length > bytes) length = 1;
    *code = length == 1 ? text[0] : text[0] & (0x7f >> length);
    for (size_t n = 1; n < length; n++) *code = *code << 6 | (text[n] & 0x3f);
    return length;
}

static int kind(const Tokenizer *tokenizer, int32_t code) {
    // Planes 2 to 13 hold nothing that joins, controls or parts: in the table plane 14 follows plane 1.
    uint64_t place = code < 0x20000 ? code : code < 0xe0000 ? UINT64_MAX : (uint64_t)code - 0xc0000;
    return place < tokenizer->header->kinds ? tokenizer->kinds[place] : 0;
}

static int add_text(Numbers *codes, const char *text, size_t bytes) {
    for (size_t at = 0; at < bytes;) {
        int32_t code;
        at += decode((const unsigned char *)text + at, bytes - at, &code);
        if (!add(codes, code)) return 0;
    }
    return 1;
}

// What the shortest beginning of `text` that the table knows becomes; NULL where it knows none.
static const char *replacement(const Tokenizer *tokenizer, const char *text, size_t bytes) {
    uint64_t units = tokenizer->header->units, node = 0;
    for (size_t at = 0; node < units; at++) {
        uint32_t unit = tokenizer->units[node];
        if (at && (unit & (1u << 31 | 0xff)) != (unsigned char)text[at - 1]) return NULL;
        node ^= (uint64_t)(unit >> 10) << ((unit & 1u << 9) >> 6);
        if (at && unit >> 8 & 1) {
            uint32_t place = node < units ? tokenizer->units[node] & 0x7fffffff : UINT32_MAX;
            return place < tokenizer->header->replacement_bytes ? tokenizer->replacements + place : NULL;
        }
        if (at == bytes || !text[at]) return NULL;
        node ^= (unsigned char)text[at];
    }
    return NULL;
}

// How far the grapheme of several characters reaches that begins here; 0 where none does, and `alone` is how far none
// does: a run of characters that prepend is read once, not again from each of them.
static size_t grapheme(const Tokenizer *tokenizer, const char *text, size_t bytes, size_t *alone) {
    const unsigned char *from = (const unsigned char *)text;
    int32_t code = 0;
    size_t at = 0, next = 0;
    while (at < bytes && (next = decode(from + at, bytes - at, &code), kind(tokenizer, code) & PREPENDS)) at += next;
    *alone = at ? at : 1;
    if (at == bytes || (kind(tokenizer, code) & CONTROL)) return 0;
    size_t end = at + next;
    while (end < bytes && (next = decode(from + end, bytes - end, &code), kind(tokenizer, code) & JOINS)) end += next;
    return end > at + decode(from + at, bytes - at, &code) ? end : 0;
}

// Characters as the pieces are looked for in them. `tokenizers` replaces a short grapheme by what its shortest known
// beginning becomes, and of a longer one each character.
static int normalise(const Tokenizer *tokenizer, const char *text, size_t bytes, Numbers *codes) {
    for (size_t at = 0; at < bytes;) {
        size_t alone = 1;
        size_t whole = (unsigned char)text[at] < 0x80 && (at + 1 == bytes || (unsigned char)text[at + 1] < 0x80)
                           ? 0
                           : grapheme(tokenizer, text + at, bytes - at, &alone);
        const char *becomes = whole && whole < WHOLE_BELOW ? replacement(tokenizer, text + at, whole) : NULL;
        if (becomes) {
            if (!add_text(codes, becomes, strlen(becomes))) return 0;
            at += whole;
            continue;
        }
        for (size_t end = at + (whole ? whole : alone); at < end;) {
            int32_t code;
            size_t length = decode((const unsigned char *)text + at, bytes - at, &code);
            becomes = replacement(tokenizer, text + at, length);
            if (!(becomes ? add_text(codes, becomes, strlen(becomes)) : add(codes, code))) return 0;
            at += length;
        }
    }
    return 1;
}

static uint64_t child_of(const Tokenizer *tokenizer, uint64_t node, int32_t code, int shift) {
    const TokenizerHeader *h = tokenizer->header;
    int32_t number = (uint64_t)code < h->codes ? tokenizer->numbers[code] : 0;
    if (number <= 0) return 0;
    uint64_t key = node * h->width + (uint64_t)number, slot = key * 0x9e3779b97f4a7c15u >> shift;
    for (uint64_t tries = 0; tries < h->edges; tries++, slot = (slot + 1) & (h->edges - 1)) {
        int64_t edge = tokenizer->edges[slot];
        if (edge < 0) return 0;
        if ((uint64_t)edge >> CHILD_BITS != key) continue;
        uint64_t child = (uint64_t)edge & ((1 << CHILD_BITS) - 1);
        return child < h->nodes ? child : 0;
    }
    return 0;
}

// The best way to a place of a word.
typedef struct {
    double score;
    int64_t from;
    int32_t piece;
} Way;

// Appends the ids of a word's best cut. The arithmetic is that of `tokenizers`: double precision, the first of equals.
static int cut(const Tokenizer *tokenizer, const int32_t *codes, size_t count, Way *ways, Numbers *ids) {
    const TokenizerHeader *h = tokenizer->header;
    int32_t unknown = (int32_t)h->unknown;
    int shift = 64 - __builtin_ctzll(h->edges);
    for (size_t n = 0; n <= count; n++) ways[n] = (Way){0, -1, unknown};
    for (size_t start = 0; start < count; start++) {
        uint64_t node = 0;
        for (size_t place = start; place < count; place++) {
            node = child_of(tokenizer, node, codes[place], shift);
            int32_t piece = node ? tokenizer->pieces[node] : -1;
            int known = piece >= 0 && (uint64_t)piece < h->pieces;
            if (known || place == start) {
                double score = ways[start].score + (known ? tokenizer->scores[piece] : h->unknown_score);
                Way *way = &ways[place + 1];
                if (way->from < 0 || score > way->score) *way = (Way){score, (int64_t)start, known ? piece : unknown};
            }
            if (!node) break;
        }
    }
    size_t first = ids->count;
    int32_t after = -1;
    for (int64_t place = (int64_t)count; place > 0; place = ways[place].from) {
        int32_t piece = ways[place].piece;
        if ((piece != unknown || after != unknown) && !add(ids, piece)) return 0;  // an unknown stretch is one token
        after = piece;
    }
    for (size_t low = first, high = ids->count; low + 1 < high; low++) {
        int32_t swapped = ids->values[low];
        ids->values[low] = ids->values[--high];
        ids->values[high] = swapped;
    }
    return 1;
}

// Cuts words: at white space, and before every mark that stands in the text.
static int cut_words(const Tokenizer *tokenizer, const Numbers *codes, int32_t *word, Way *ways, Numbers *ids) {
    for (size_t at = 0; at < codes->count;) {
        size_t count = 0;
        if (kind(tokenizer, codes->values[at]) & SPACE) {
            at++;
            continue;
        }
        if (codes->values[at] != MARK) word[count++] = MARK;
        do word[count++] = codes->values[at++];
        while (at < codes->count && codes->values[at] != MARK && !(kind(tokenizer, codes->values[at]) & SPACE));
        if (!cut(tokenizer, word, count, ways, ids)) return 0;
    }
    return 1;
}

// What one text after the other is cut in.
typedef struct {
    Numbers codes;
    int32_t *word;
    Way *ways;
    size_t room;
} Bench;

// Appends a text's ids. Returns 0 without memory.
static int tokenize(const Tokenizer *tokenizer, const char *text, size_t bytes, Bench *bench, Numbers *ids) {
    bench->codes.count = 0;
    if (!normalise(tokenizer, text, bytes, &bench->codes)) return 0;
    if (bench->codes.count >= bench->room) {
        free(bench->word);
        free(bench->ways);
        bench->room = 2 * bench->codes.count + 64;
        bench->word = malloc((bench->room + 1) * sizeof *bench->word);
        bench->ways = malloc((bench->room + 2) * sizeof *bench->ways);
        if (!bench->word || !bench->ways) return 0;
    }
    return cut_words(tokenizer, &bench->codes, bench->word, bench->ways, ids);
}

static const char *check(Tokenizer *tokenizer) {
    const TokenizerHeader *h = tokenizer->header;
    if (tokenizer->mapped < sizeof *h || memcmp(h->magic, "HALFTOKN", 8)) return "no tokenizer of halfling";
    if (h->version != 2) return "written by another version";
    if (h->bytes != tokenizer->mapped) return "not as long as it was";
    uint64_t counts[] = {h->edges, h->pieces, h->nodes, h->codes, h->units, h->replacement_bytes, h->kinds};
    uint64_t sizes[] = {8, 8, 4, 4, 4, 1, 1}, at = sizeof *h;
    const char *arrays[7];
    for (int n = 0; n < 7; n++) {
        arrays[n] = (const char *)h + at;
        if (counts[n] > h->bytes || counts[n] * sizes[n] > h->bytes - at) return "its tables are damaged";
        at = (at + counts[n] * sizes[n] + 7) / 8 * 8;
        if (at > h->bytes) return "its tables are damaged";
    }
    if (at != h->bytes || h->edges < 2 || h->edges & (h->edges - 1) || !h->nodes || h->unknown >= h->pieces ||
        !h->replacement_bytes || arrays[5][h->replacement_bytes - 1])
        return "its tables are damaged";
    tokenizer->edges = (const int64_t *)arrays[0];
    tokenizer->scores = (const double *)arrays[1];
    tokenizer->pieces = (const int32_t *)arrays[2];
    tokenizer->numbers = (const int32_t *)arrays[3];
    tokenizer->units = (const uint32_t *)arrays[4];
    tokenizer->replacements = arrays[5];
    tokenizer->kinds = (const uint8_t *)arrays[6];
    return NULL;
}

static Tokenizer *opened(Tokenizer *tokenizer, const char **wrong) {
    if (!*wrong) *wrong = check(tokenizer);
    if (!*wrong) return tokenizer;
    halfling_tokenizer_close(tokenizer);
    return NULL;
}

Tokenizer *halfling_tokenizer_open(const char *path, const char **wrong) {
    Tokenizer *tokenizer = calloc(1, sizeof *tokenizer);
    const void *mapping;
    *wrong = tokenizer ? map_file(path, &mapping, &tokenizer->mapped) : "no memory";
    if (!*wrong) tokenizer->header = mapping;
    return opened(tokenizer, wrong);
}

Tokenizer *halfling_tokenizer_over(const void *tables, int64_t bytes, const char **wrong) {
    Tokenizer *tokenizer = calloc(1, sizeof *tokenizer);
    *wrong = tokenizer ? NULL : "no memory";
    if (!*wrong) *tokenizer = (Tokenizer){.header = tables, .mapped = (size_t)bytes, .lent = 1};
    return opened(tokenizer, wrong);
}

void halfling_tokenizer_close(Tokenizer *tokenizer) {
    if (tokenizer && tokenizer->header && !tokenizer->lent) unmap_file(tokenizer->header, tokenizer->mapped);
    free(tokenizer);
}

int32_t *halfling_tokenize(const Tokenizer *tokenizer, const char *text, const int64_t *ends, int64_t texts,
                           int64_t *id_ends) {
    Numbers ids = {calloc(1, sizeof(int32_t)), 0, 1};
    Bench bench = {0};
    int done = ids.values != NULL;
    for (int64_t n = 0; done && n < texts; n++) {
        int64_t begin = n ? ends[n - 1] : 0;
        done = tokenize(tokenizer, text + begin, (size_t)(ends[n] - begin), &bench, &ids);
        id_ends[n] = (int64_t)ids.count;
    }
    free(bench.codes.values);
    free(bench.word);
    free(bench.ways);
    if (done) return ids.values;
    free(ids.values);
    return NULL;
}

void halfling_free(void *memory) { free(memory); }
