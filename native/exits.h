// When an answer is sure enough: logits in, uncertainty (0..1) out.
#ifndef HALFLING_EXITS_H
#define HALFLING_EXITS_H

#include <stdint.h>

enum { ENTROPY, MAX_PROBABILITY, MARGIN, PATIENCE };  // criteria
enum { MEAN, MAX };                                   // pooling

// Where inputs leave. The last layer takes whoever is left.
typedef struct {
    int32_t exits;
    const int32_t *layers;    // [exits], 1-based, ascending; the last is the encoder's last
    const float *thresholds;  // [exits - 1]: leave where the uncertainty is below
    int32_t criterion, patience, by_token, pooling;
} Policy;

// The uncertainty of one answer, by a criterion that looks at one exit alone.
float uncertainty_of(int32_t criterion, const float *logits, int32_t classes);
int32_t likeliest(const float *logits, int32_t classes);

// The uncertainty of several answers together. `before` holds their classes at the exit before (-1: none) and
// `confirmed` how many exits have confirmed all of them; both are brought up to date. Patience alone reads them.
float doubt(const Policy *policy, const float *logits, int32_t classes, int32_t answers, int32_t *before,
            int32_t *confirmed);

#endif
