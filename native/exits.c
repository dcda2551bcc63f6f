#include "exits.h"

#include <math.h>

static int32_t likeliest(const float *logits, int32_t classes) {
    int32_t best = 0;
    for (int32_t n = 1; n < classes; n++)
        if (logits[n] > logits[best]) best = n;
    return best;
}

static float within_0_and_1(float value) { return value < 0 ? 0 : value > 1 ? 1 : value; }

// By a criterion that looks at one exit alone.
static float uncertainty_of(int32_t criterion, const float *logits, int32_t classes) {
    float top = logits[likeliest(logits, classes)], total = 0, weighted = 0, second = 0;
    int seen = 0;  // the largest counts once as the first; equal ones are second
    for (int32_t n = 0; n < classes; n++) {
        float shifted = logits[n] - top, power = expf(shifted);
        total += power;
        weighted += power * shifted;
        if (shifted == 0 && !seen)
            seen = 1;
        else if (power > second)
            second = power;
    }
    if (criterion == ENTROPY) {
        // An underflown power is 0 here, where p ln p would be no number.
        float entropy = (logf(total) - weighted / total) / logf((float)classes);
        return entropy > 1 ? 1 : entropy;
    }
    if (criterion == MARGIN) return within_0_and_1(1 - (1 / total - second / total));
    return within_0_and_1((1 - 1 / total) / (1 - 1 / (float)classes));
}

float doubt(const Policy *policy, const float *logits, int32_t classes, int32_t answers, int32_t *before,
            int32_t *confirmed) {
    if (policy->criterion == PATIENCE) {
        int same = answers > 0;
        for (int32_t n = 0; n < answers; n++) {
            int32_t now = likeliest(logits + (int64_t)n * classes, classes);
            same = same && before[n] == now;
            before[n] = now;
        }
        *confirmed = same ? *confirmed + 1 : 0;
        int32_t held = *confirmed < policy->patience ? *confirmed : policy->patience;
        return (float)(1 - (double)held / policy->patience);
    }
    if (!answers) return 1;
    double sum = 0;
    float most = 0;
    for (int32_t n = 0; n < answers; n++) {
        float one = uncertainty_of(policy->criterion, logits + (int64_t)n * classes, classes);
        sum += one;
        if (one > most) most = one;
    }
    // What is no number is above no other, so `most` has not seen it.
    return policy->pooling == MAX && !policy->by_token && sum == sum ? most : (float)(sum / answers);
}
