/* Random numbers of tests. Every random test starts from test_seed(): a new seed for each run,
 * printed, or the one in the environment variable NPHD_TEST_SEED, which replays a failure. */
#ifndef TEST_RANDOM_H
#define TEST_RANDOM_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef struct test_random {
    uint64_t state;
} test_random;

/* SplitMix64 (Steele, Lea and Flood 2014). */
static inline uint64_t test_random_next(test_random *random)
{
    uint64_t x = random->state += 0x9e3779b97f4a7c15u;

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* 0..range-1; range > 0. */
static inline uint64_t test_random_below(test_random *random, uint64_t range)
{
    return test_random_next(random) % range;
}

static inline void test_random_fill(test_random *random, void *out, size_t bytes)
{
    uint8_t *to = (uint8_t *)out;

    for (size_t i = 0; i < bytes; i++) {
        to[i] = (uint8_t)test_random_next(random);
    }
}

static inline uint64_t test_seed(void)
{
    const char *text = getenv("NPHD_TEST_SEED");
    struct timespec now;
    uint64_t seed;

    if (text != NULL) {
        seed = strtoull(text, NULL, 0);
    } else {
        (void)clock_gettime(CLOCK_REALTIME, &now);
        seed = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    }
    (void)fprintf(stderr, "NPHD_TEST_SEED=%" PRIu64 "\n", seed);
    return seed;
}

#endif
