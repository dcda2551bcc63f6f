#include "folder.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { VERSION = 2, ALIGNMENT = 64 };

// Reads sections one after the other. Once one does not fit, all are NULL.
typedef struct {
    const Weights *weights;
    const Section *table;
    int32_t next;
    int fits;
} Reader;

static const void *section(Reader *reader, uint64_t bytes) {
    const Header *header = reader->weights->header;
    if (!reader->fits || reader->next >= header->sections) return reader->fits = 0, NULL;
    const Section *here = &reader->table[reader->next++];
    if (here->bytes != bytes || here->offset % ALIGNMENT || here->offset > header->bytes ||
        here->bytes > header->bytes - here->offset)
        return reader->fits = 0, NULL;
    return (const char *)header + here->offset;
}

static Linear linear(Reader *reader, int32_t inputs, int32_t outputs, int32_t group, Form form) {
    uint64_t weights = (uint64_t)inputs * outputs, column = sizeof(float) * (uint64_t)outputs;
    Linear found = {inputs, outputs, group, inputs / group, outputs, form, NULL, NULL, NULL, NULL};
    const char *at = section(reader, weights + column * (2 + (uint64_t)found.groups));
    if (at) {
        found.weights = (const int8_t *)at;
        found.scales = (const float *)(at + weights);
        found.bias = found.scales + outputs;
        found.offsets = (const int32_t *)(found.bias + outputs);
    }
    return found;
}

static uint32_t crc32_of(const unsigned char *bytes, size_t count, uint32_t crc) {
    for (size_t n = 0; n < count; n++) {
        crc ^= bytes[n];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (0xedb88320u & -(crc & 1));
    }
    return crc;
}

static int within(int32_t value, int32_t least, int32_t most) { return value >= least && value <= most; }

// Whether the sizes are ones that the kernels can take, and none overflows what is computed from it.
static int shape_fits(const Header *h) {
    if (!within(h->layers, 1, MOST_LAYERS) || !within(h->width, LANES, 1 << 14) || h->width % LANES ||
        !within(h->heads, 1, 1 << 10) || !within(h->depth, LANES, 1 << 10) || h->depth % LANES ||
        h->heads * h->depth > 1 << 15 || !within(h->inner, PANEL, 1 << 16) || h->inner % PANEL ||
        !within(h->group, LANES, h->width) || h->width % h->group || h->group % LANES ||
        !within(h->inner_group, PANEL, h->inner) || h->inner % h->inner_group || h->inner_group % PANEL ||
        !within(h->word_group, LANES, h->width) || h->width % h->word_group || h->word_group % LANES ||
        !within(h->vocabulary, 1, 1 << 24) || !within(h->positions, 1, 1 << 20) ||
        !within(h->classes, 1, MOST_CLASSES) || !within(h->exits, 1, h->layers) || h->tagger >> 1 || h->pooled >> 1 ||
        !(h->epsilon > 0 && h->epsilon < 1))
        return 0;
    for (int n = 0; n < MOST_LAYERS; n++)
        if (h->wide[n] >> 1) return 0;
    for (int n = 0; n < h->exits; n++)
        if (!within(h->exit_layers[n], n ? h->exit_layers[n - 1] + 1 : 1, h->layers)) return 0;
    return h->exit_layers[h->exits - 1] == h->layers;
}

static const char *read_sections(Weights *weights) {
    const Header *h = weights->header;
    int32_t states = state_columns(h), heads = head_columns(h);
    Reader reader = {weights, (const Section *)(h + 1), 0, 1};
    weights->layers = calloc((size_t)h->layers, sizeof *weights->layers);
    weights->heads = calloc((size_t)h->exits, sizeof *weights->heads);
    if (!weights->layers || !weights->heads) return "no memory";
    uint64_t row = sizeof(float) * (uint64_t)h->width;
    weights->words = section(&reader, (uint64_t)h->vocabulary * h->width);
    weights->word_scales = section(&reader, sizeof(float) * (uint64_t)h->vocabulary * (h->width / h->word_group));
    weights->places = section(&reader, h->positions * row);
    weights->norm = section(&reader, 4 * row);
    weights->numbers = 1;
    for (int n = 0; n < h->layers; n++) {
        Layer *layer = &weights->layers[n];
        Form form = form_after(h, n);
        if (form == WIDE) weights->numbers = 2;
        layer->projections = linear(&reader, h->width, 3 * heads, h->group, form);
        layer->attended = linear(&reader, h->heads * h->depth, states, h->heads * h->depth, form);
        layer->attention_norm = section(&reader, 4 * row);
        layer->up = linear(&reader, h->width, h->inner, h->group, form);
        layer->down = linear(&reader, h->inner, states, h->inner_group, form == WIDE ? WIDE : ONE_SIDED);
        layer->output_norm = section(&reader, 4 * row);
    }
    for (int n = 0; n < h->exits; n++) {
        Head *head = &weights->heads[n];
        if (h->pooled) head->dense = linear(&reader, h->width, states, h->group, form_after(h, h->exit_layers[n]));
        head->weights = section(&reader, h->classes * row);
        head->bias = section(&reader, sizeof(float) * (uint64_t)h->classes);
    }
    return reader.fits && reader.next == h->sections ? NULL : "its sections are not those of its shape";
}

static const char *check(Weights *weights) {
    const Header *h = weights->header;
    if (weights->mapped < sizeof *h || memcmp(h->magic, "HALFLING", sizeof h->magic)) return "no weights of halfling";
    if (h->version != VERSION) return "written by another version";
    if (h->bytes != weights->mapped) return "not as long as it was";
    size_t room = (weights->mapped - sizeof *h) / sizeof(Section);
    if (h->sections < 1 || (size_t)h->sections > room) return "its table of sections is damaged";
    Header copy = *h;
    copy.checksum = 0;
    uint32_t crc = crc32_of((const unsigned char *)&copy, sizeof copy, ~0u);
    crc = ~crc32_of((const unsigned char *)(h + 1), sizeof(Section) * (size_t)h->sections, crc);
    if (crc != h->checksum) return "its header is damaged";
    return shape_fits(h) ? read_sections(weights) : "its shape is none that this version computes";
}

const char *map_file(const char *path, const void **mapping, size_t *bytes) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (file < 0) return "cannot be opened";
    if (fstat(file, &status) || !S_ISREG(status.st_mode) || status.st_size <= 0) {
        close(file);
        return "is no file, or an empty one";
    }
    void *mapped = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (mapped == MAP_FAILED) return "cannot be mapped";
    *mapping = mapped;
    *bytes = (size_t)status.st_size;
    return NULL;
}

void unmap_file(const void *mapping, size_t bytes) { munmap((void *)mapping, bytes); }

const char *weights_over(Weights *weights, const void *file, size_t bytes, const Kernels *kernels) {
    *weights = (Weights){.kernels = kernels, .header = file, .mapped = bytes, .lent = 1};
    const char *wrong = check(weights);
    if (wrong) weights_close(weights);
    return wrong;
}

void weights_close(Weights *weights) {
    free(weights->layers);
    free(weights->heads);
    if (weights->header && !weights->lent) unmap_file(weights->header, weights->mapped);
    *weights = (Weights){0};
}
