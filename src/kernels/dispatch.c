/* The choice of kernels: every level this build has, what processor and operating system run of
 * them, and what the environment asks for. Chosen once, without a constructor: threads that meet
 * at the first call come to the same answer, and any of them may store it. */
#include "kernels/kernels.h"
#include <nphd/vector.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Each answers for the flags its file is compiled with. The builtin looks at the operating system's
 * part, saving the wide registers, as well. */
#if defined(__x86_64__)

static bool runs_avx2(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt") &&
           __builtin_cpu_supports("bmi2");
}

static bool runs_avx512(void)
{
    return runs_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vpopcntdq");
}

#else

static bool runs_avx2(void)
{
    return false;
}

static bool runs_avx512(void)
{
    return false;
}

#endif

size_t nphdi_kernels_available(const nphdi_kernels *out[4])
{
    /* neon is in the baseline of every build that has it */
    const nphdi_kernels *levels[4] = {
        nphdi_kernels_portable(),
        nphdi_kernels_neon(),
        runs_avx2() ? nphdi_kernels_avx2() : NULL,
        runs_avx512() ? nphdi_kernels_avx512() : NULL,
    };
    size_t count = 0;

    for (size_t i = 0; i < 4; i++) {
        if (levels[i] != NULL) {
            out[count++] = levels[i];
        }
    }
    return count;
}

static const nphdi_kernels *kernels_choose(void)
{
    const nphdi_kernels *levels[4];
    size_t count = nphdi_kernels_available(levels);
    const char *wanted = getenv("NPHD_KERNEL");

    for (size_t i = 0; wanted != NULL && i < count; i++) {
        if (strcmp(levels[i]->name, wanted) == 0) {
            return levels[i];
        }
    }
    return levels[count - 1];
}

const nphdi_kernels *nphdi_kernels_get(void)
{
    static _Atomic(const nphdi_kernels *) chosen;
    const nphdi_kernels *kernels = atomic_load_explicit(&chosen, memory_order_acquire);

    if (kernels == NULL) {
        kernels = kernels_choose();
        atomic_store_explicit(&chosen, kernels, memory_order_release);
    }
    return kernels;
}

const char *nphd_kernel_name(void)
{
    return nphdi_kernels_get()->name;
}
