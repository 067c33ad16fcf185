#include "index/hidden.h"

#include "base/memory.h"

#include <assert.h>
#include <string.h>

nphd_status nphdi_hidden_create(nphdi_hidden *hidden, const nphd_allocator *allocator,
                                uint64_t slots, nphd_error *err)
{
    nphd_status status;

    memset(hidden, 0, sizeof(*hidden));
    status = nphdi_alloc(allocator, (slots + 63) / 64, sizeof(uint64_t), &hidden->memory, err);
    if (status == NPHD_OK) {
        hidden->allocator = allocator;
        hidden->words = hidden->memory;
        hidden->slots = slots;
    }
    return status;
}

void nphdi_hidden_release(nphdi_hidden *hidden)
{
    if (hidden->allocator != NULL) {
        nphdi_free(hidden->allocator, hidden->memory, (hidden->slots + 63) / 64, sizeof(uint64_t));
    }
    memset(hidden, 0, sizeof(*hidden));
}

bool nphdi_hidden_set(nphdi_hidden *hidden, uint32_t slot)
{
    const uint64_t bit = 1ULL << (slot % 64);

    assert(slot < hidden->slots);
    if ((atomic_fetch_or_explicit(&hidden->words[slot / 64], bit, memory_order_acq_rel) & bit) !=
        0) {
        return false;
    }
    (void)atomic_fetch_add_explicit(&hidden->count, 1, memory_order_relaxed);
    return true;
}
