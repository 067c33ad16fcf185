#include "index/used_slots.h"

#include "base/error.h"
#include "base/memory.h"

#include <assert.h>
#include <string.h>

#define WORD_BITS 64

/* Slots of the least room: what a small index takes is but a few words. */
#define LEAST_ROOM 64

/* Words of one level, and where it begins behind those below it. */
static uint64_t level_words(uint64_t room, uint32_t level, uint64_t *out_begin)
{
    uint64_t words = room;
    uint64_t begin = 0;

    for (uint32_t i = 0; i <= level; i++) {
        begin += i > 0 ? words : 0;
        words = (words + WORD_BITS - 1) / WORD_BITS;
    }
    *out_begin = begin;
    return words;
}

static uint64_t all_words(uint64_t room)
{
    uint64_t begin;
    const uint64_t words = level_words(room, NPHDI_USED_LEVELS - 1, &begin);

    return begin + words;
}

nphd_status nphdi_used_slots_reserve(nphdi_used_slots *used, const nphd_allocator *allocator,
                                     uint64_t slots, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_used_slots next = {{NULL}, 2 * used->room < LEAST_ROOM ? LEAST_ROOM : 2 * used->room};
    uint64_t *memory = NULL;

    if (slots <= used->room) {
        return NPHD_OK;
    }
    next.room = next.room < slots ? slots : next.room;
    TRY(nphdi_alloc(allocator, all_words(next.room), sizeof(*memory), &memory, err));
    for (uint32_t level = 0; level < NPHDI_USED_LEVELS; level++) {
        uint64_t begin;
        (void)level_words(next.room, level, &begin);
        next.levels[level] = memory + begin;
        if (used->room > 0) {
            const uint64_t words = level_words(used->room, level, &begin);
            memcpy(next.levels[level], used->levels[level], words * sizeof(*memory));
        }
    }
    nphdi_used_slots_release(used, allocator);
    *used = next;
done:
    return status;
}

void nphdi_used_slots_release(nphdi_used_slots *used, const nphd_allocator *allocator)
{
    nphdi_free(allocator, used->levels[0], all_words(used->room), sizeof(uint64_t));
    memset(used, 0, sizeof(*used));
}

void nphdi_used_slots_set(nphdi_used_slots *used, uint64_t slot)
{
    uint64_t bit = slot;

    assert(slot < used->room);
    for (uint32_t level = 0; level < NPHDI_USED_LEVELS; level++) {
        uint64_t *word = &used->levels[level][bit / WORD_BITS];
        *word |= 1ULL << (bit % WORD_BITS);
        if (*word != UINT64_MAX) {
            break;
        }
        bit /= WORD_BITS;
    }
}

void nphdi_used_slots_clear(nphdi_used_slots *used, uint64_t slot)
{
    uint64_t bit = slot;

    assert(slot < used->room);
    for (uint32_t level = 0; level < NPHDI_USED_LEVELS; level++) {
        used->levels[level][bit / WORD_BITS] &= ~(1ULL << (bit % WORD_BITS));
        bit /= WORD_BITS;
    }
}

void nphdi_used_slots_clear_all(nphdi_used_slots *used)
{
    if (used->room > 0) {
        memset(used->levels[0], 0, all_words(used->room) * sizeof(uint64_t));
    }
}

uint64_t nphdi_used_slots_next_free(const nphdi_used_slots *used, uint64_t from)
{
    uint64_t at = from; /* a bit of `level` */
    uint32_t level = 0;

    /* up, past the words that are full; the highest level is short enough to be walked */
    for (;;) {
        uint64_t begin;
        const uint64_t words = level_words(used->room, level, &begin);
        uint64_t word;
        if (at / WORD_BITS >= words) {
            return used->room;
        }
        word = used->levels[level][at / WORD_BITS] | ((1ULL << (at % WORD_BITS)) - 1);
        if (word != UINT64_MAX) {
            at = at / WORD_BITS * WORD_BITS + (uint64_t)__builtin_ctzll(~word);
            break;
        }
        at = at / WORD_BITS + 1;
        if (level + 1 < NPHDI_USED_LEVELS) {
            level++;
        } else {
            at *= WORD_BITS;
        }
    }
    /* down, to the first free one of a word that is not full */
    while (level > 0) {
        uint64_t begin;
        level--;
        if (at >= level_words(used->room, level, &begin)) {
            return used->room;
        }
        at = at * WORD_BITS + (uint64_t)__builtin_ctzll(~used->levels[level][at]);
    }
    return at < used->room ? at : used->room;
}

uint64_t nphdi_used_slots_bytes(const nphdi_used_slots *used)
{
    return all_words(used->room) * sizeof(uint64_t);
}
