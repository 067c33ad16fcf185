/* Bugs to see that the tests bite. A build with -DNPHD_SEED_BUG=n has bug number n and serves
 * tests/crash/layer_bite.py alone; in every other build NPHDI_BUG(n) is the constant 0. What each
 * number stands for is listed there. */
#ifndef NPHDI_SEEDED_BUG_H
#define NPHDI_SEEDED_BUG_H

#ifdef NPHD_SEED_BUG
#define NPHDI_BUG(number) ((number) == NPHD_SEED_BUG)
#else
#define NPHDI_BUG(number) 0
#endif

#endif
