// When an answer is sure enough: logits in, uncertainty (0..1) out.
#pragma once

#include "halfling.h"

// The uncertainty of several answers together. `before` holds their classes at the exit before (-1: none) and
// `confirmed` how many exits have confirmed all of them; both are brought up to date. Patience alone reads them.
float doubt(const Policy *policy, const float *logits, int32_t classes, int32_t answers, int32_t *before,
            int32_t *confirmed);
