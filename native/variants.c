// Which kernels this processor runs.
#include <string.h>

#include "halfling.h"
#include "kernels.h"

extern const Kernels halfling_plain;

#if defined(__x86_64__)
#include <cpuid.h>

extern const Kernels halfling_avx512, halfling_avxvnni, halfling_avx2;

// The registers that the operating system keeps for each thread.
static unsigned kept_registers(void) {
    unsigned low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static int runs(const Kernels *kernels) {
    unsigned a, b, c, d, features = 0, vnni512 = 0, vnni256 = 0;
    if (kernels == &halfling_plain) return 1;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    int fused = (c >> 12 & 1) && (c >> 28 & 1) && (c >> 27 & 1);  // FMA, AVX, XGETBV
    if (!fused || (kept_registers() & 0x6) != 0x6) return 0;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) features = b, vnni512 = c >> 11 & 1;
    if (__get_cpuid_count(7, 1, &a, &b, &c, &d)) vnni256 = a >> 4 & 1;
    int avx2 = (features >> 5 & 1) && (features >> 3 & 1) && (features >> 8 & 1);  // with BMI1 and BMI2
    if (kernels == &halfling_avx2) return avx2;
    if (kernels == &halfling_avxvnni) return avx2 && vnni256;
    // AVX-512 F, DQ, CD, BW and VL, and the state of its registers.
    unsigned needed = 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31;
    return avx2 && vnni512 && (features & needed) == needed && (kept_registers() & 0xe6) == 0xe6;
}

static const Kernels *const variants[] = {&halfling_avx512, &halfling_avxvnni, &halfling_avx2, &halfling_plain};

#elif defined(__aarch64__)
#if defined(__linux__)
#include <sys/auxv.h>
#endif

extern const Kernels halfling_dot;

static int runs(const Kernels *kernels) {
    if (kernels == &halfling_plain) return 1;
#if defined(__linux__)
    return getauxval(AT_HWCAP) >> 20 & 1;  // HWCAP_ASIMDDP
#else
    return 1;  // every Arm processor of Apple's computers
#endif
}

static const Kernels *const variants[] = {&halfling_dot, &halfling_plain};

#else
static int runs(const Kernels *kernels) { return kernels == &halfling_plain; }

static const Kernels *const variants[] = {&halfling_plain};
#endif

const Kernels *halfling_kernels(const char *name) {
    for (size_t n = 0; n < sizeof variants / sizeof *variants; n++)
        if ((!name || !strcmp(name, variants[n]->name)) && runs(variants[n])) return variants[n];
    return NULL;
}

const char *halfling_variant(int32_t number) {
    for (size_t n = 0; n < sizeof variants / sizeof *variants; n++)
        if (runs(variants[n]) && !number--) return variants[n]->name;
    return NULL;
}
