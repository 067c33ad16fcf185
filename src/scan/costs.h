/* What work costs, in nanoseconds on one core: what the choice between scanning, hashing and the
 * graph rests on. Measured once, by bench_mih and bench_plan on a machine of 2023 with AVX-512; as
 * the choice looks at their ratios, other machines differ less than their speeds do. */
#ifndef NPHDI_COSTS_H
#define NPHDI_COSTS_H

#include "scan/mih.h"

static const nphdi_mih_costs nphdi_costs_mih = {1000, 12, 12};

#endif
