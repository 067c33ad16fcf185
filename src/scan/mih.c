/* The tables: their layout, making, opening and checking. */
#include "scan/mih.h"

#include "base/bytes.h"
#include "base/error.h"
#include "platform/platform.h"

#include <stdatomic.h>
#include <string.h>

#define WORD_BITS 64
#define HEAD_BYTES ((uint64_t)(NPHDI_MIH_LENGTHS + 16) * 4)
#define ALIGNMENT 64
#define BESIDE_BYTES 2

/* Rows whose values are known before the first is counted or placed: enough to hide what a miss in
 * the table costs. */
#define AHEAD 64

static uint64_t padded(uint64_t bytes)
{
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static uint64_t starts_bytes(const nphdi_mih_table *table)
{
    return padded(4 * (table->values + 1));
}

static uint64_t slots_bytes(const nphdi_mih_table *table)
{
    return padded(4 * (uint64_t)table->entries);
}

static uint64_t beside_bytes(const nphdi_mih_table *table, nphdi_mih_form form)
{
    return form.beside ? padded(2 * (uint64_t)table->entries) : 0;
}

/* Does no vector end inside of this word? */
static bool word_is_whole(const nphdi_mih *mih, uint32_t word)
{
    for (uint32_t length = 8 * word + 1; length < 8 * word + 8 && length < mih->lengths; length++) {
        if (mih->counts[length] > 0) {
            return false;
        }
    }
    return true;
}

/* The tables without their places, for the counts that are set. */
static void lay_out(nphdi_mih *mih, uint32_t payload_bytes, nphdi_mih_form form)
{
    const uint32_t chunks = form.chunks;
    uint64_t longer = 0; /* slots whose vector has the chunk */
    uint32_t least = 0;  /* bytes that it needs */
    uint32_t end = 0;

    mih->lengths = 0;
    for (uint32_t length = 0; length < NPHDI_MIH_LENGTHS; length++) {
        longer += mih->counts[length];
        mih->lengths = mih->counts[length] > 0 ? length + 1 : mih->lengths;
    }
    mih->covered = longer;
    memset(mih->tables_of, 0, sizeof(mih->tables_of));
    mih->bytes = HEAD_BYTES;
    mih->table_count = 0;
    for (uint32_t chunk = 0;; chunk++) {
        const uint32_t number = chunk % chunks;
        const uint32_t bits = WORD_BITS / chunks + (number < WORD_BITS % chunks ? 1 : 0);
        nphdi_mih_table *table = &mih->tables[mih->table_count];
        if (end + bits > 8 * payload_bytes) {
            break;
        }
        table->word = chunk / chunks;
        table->next = chunk - number + (number + 1) % chunks;
        table->whole = word_is_whole(mih, table->word);
        table->shift = end % WORD_BITS;
        table->bits = bits;
        table->values = (uint64_t)1 << bits;
        end += bits;
        table->end = end;
        for (; 8 * least < end; least++) {
            longer -= mih->counts[least];
        }
        table->entries = (uint32_t)longer;
        table->average = (double)longer / (double)table->values;
        mih->bytes += starts_bytes(table) + slots_bytes(table) + beside_bytes(table, form);
        mih->table_count++;
    }
    for (uint32_t length = 0, tables = 0; length < NPHDI_MIH_LENGTHS; length++) {
        while (tables < mih->table_count && mih->tables[tables].end <= 8 * length) {
            tables++;
        }
        mih->tables_of[length] = (uint8_t)tables;
    }
}

static void place(nphdi_mih *mih, nphdi_mih_form form, const uint8_t *block)
{
    const uint8_t *at = block + HEAD_BYTES;

    mih->block = block;
    for (uint32_t i = 0; i < mih->table_count; i++) {
        nphdi_mih_table *table = &mih->tables[i];
        table->starts = at;
        at += starts_bytes(table);
        table->slots = at;
        at += slots_bytes(table);
        table->beside = form.beside ? at : NULL;
        at += beside_bytes(table, form);
    }
}

/* ---- rows ---- */

/* The word of a row, with zeros beyond its payload, which must not be read. */
static uint64_t word_of(const nphdi_rows *rows, const nphdi_mih_table *table, uint64_t slot)
{
    const uint8_t *payload = rows->base + slot * rows->stride + rows->prefix_bytes;
    const uint32_t at = 8 * table->word;
    const uint32_t rest = rows->payload_bytes - at;
    uint8_t word[8] = {0};

    if (rest >= 8) {
        return nphdi_get64(payload + at);
    }
    memcpy(word, payload + at, rest);
    return nphdi_get64(word);
}

/* Chunks lie in whole bytes of the row or in bits of its last ones, so what is behind does not
 * matter. */
static uint32_t value_of(const nphdi_rows *rows, const nphdi_mih_table *table, uint64_t slot)
{
    return (uint32_t)(word_of(rows, table, slot) >> table->shift) & (uint32_t)(table->values - 1);
}

/* The value of the next chunk, where there are four of them; after the last comes the first. */
static uint16_t beside_of(const nphdi_rows *rows, const nphdi_mih_table *table, uint64_t slot)
{
    return (uint16_t)(word_of(rows, table, slot) >> (table->shift + 16) % WORD_BITS);
}

void nphdi_mih_count(const nphdi_rows *rows, uint64_t slots, uint32_t *counts)
{
    memset(counts, 0, NPHDI_MIH_LENGTHS * sizeof(*counts));
    if (rows->prefix_bytes == 0) {
        counts[rows->payload_bytes] = (uint32_t)slots;
        return;
    }
    for (uint64_t slot = 0; slot < slots; slot++) {
        counts[nphdi_rows_query(rows, (uint32_t)slot).bytes]++;
    }
}

uint64_t nphdi_mih_bytes(const uint32_t *counts, uint32_t payload_bytes, nphdi_mih_form form)
{
    nphdi_mih mih;

    memcpy(mih.counts, counts, sizeof(mih.counts));
    lay_out(&mih, payload_bytes, form);
    return mih.bytes;
}

/* ---- making ---- */

typedef struct build {
    const nphdi_rows *rows;
    uint64_t slots;
    const nphdi_mih *mih;
    const nphdi_watch *watch;
    _Atomic uint32_t next;
    _Atomic bool cancelled;
    nphd_error *err; /* of the calling thread */
} build;

/* The next rows that have the chunk, from *slot on. */
static size_t next_values(const build *of, const nphdi_mih_table *table, uint64_t *slot,
                          uint32_t *slots, uint32_t *values)
{
    const uint8_t *starts = table->starts;
    size_t count = 0;

    for (; *slot < of->slots && count < AHEAD; ++*slot) {
        if (8 * nphdi_rows_query(of->rows, (uint32_t)*slot).bytes >= table->end) {
            slots[count] = (uint32_t)*slot;
            values[count] = value_of(of->rows, table, *slot);
            __builtin_prefetch(starts + 4 * (uint64_t)values[count], 1);
            count++;
        }
    }
    return count;
}

/* Of a table, whose slots are gone through twice; false: the caller wants no more. A table that was
 * given up is of no use. */
static bool goes_on(build *of, uint32_t worker, const nphdi_watch *watch, uint64_t done,
                    uint64_t *asked)
{
    if (done >= *asked) {
        *asked = done + NPHDI_WATCH_EVERY;
        if (worker == 0 && !atomic_load(&of->cancelled) &&
            nphdi_watch_ask(watch, done, 2 * of->slots, of->err) != NPHD_OK) {
            atomic_store(&of->cancelled, true);
        }
        return !atomic_load(&of->cancelled);
    }
    return true;
}

/* Sorts by counting: how many slots each value has, where they begin, and each to its place, which
 * moves every beginning to that of the value behind. */
static void build_table(build *of, uint32_t worker, uint32_t number)
{
    const nphdi_mih_table *table = &of->mih->tables[number];
    const nphdi_watch watch = nphdi_watch_part(of->watch, number, of->mih->table_count);
    uint8_t *starts = (uint8_t *)(uintptr_t)table->starts;
    uint8_t *places = (uint8_t *)(uintptr_t)table->slots;
    uint8_t *beside = (uint8_t *)(uintptr_t)table->beside;
    const uint64_t values_count = table->values;
    uint32_t slots[AHEAD];
    uint32_t values[AHEAD];
    uint32_t before = 0;
    uint64_t asked = 0;

    for (uint64_t slot = 0; slot < of->slots && goes_on(of, worker, &watch, slot, &asked);) {
        const size_t count = next_values(of, table, &slot, slots, values);
        for (size_t i = 0; i < count; i++) {
            uint8_t *start = starts + 4 * (uint64_t)values[i];
            nphdi_put32(start, nphdi_get32(start) + 1);
        }
    }
    for (uint64_t value = 0; value < values_count; value++) {
        const uint32_t some = nphdi_get32(starts + 4 * value);
        nphdi_put32(starts + 4 * value, before);
        before += some;
    }
    asked = 0;
    for (uint64_t slot = 0;
         slot < of->slots && goes_on(of, worker, &watch, of->slots + slot, &asked);) {
        const size_t count = next_values(of, table, &slot, slots, values);
        for (size_t i = 0; i < count; i++) {
            const uint64_t at = nphdi_get32(starts + 4 * (uint64_t)values[i]);
            __builtin_prefetch(places + 4 * at, 1);
            if (beside != NULL) {
                __builtin_prefetch(beside + 2 * at, 1);
            }
        }
        for (size_t i = 0; i < count; i++) {
            uint8_t *start = starts + 4 * (uint64_t)values[i];
            const uint32_t at = nphdi_get32(start);
            nphdi_put32(places + 4 * (uint64_t)at, slots[i]);
            if (beside != NULL) {
                nphdi_put16(beside + 2 * (uint64_t)at, beside_of(of->rows, table, slots[i]));
            }
            nphdi_put32(start, at + 1);
        }
    }
    memmove(starts + 4, starts, 4 * values_count);
    nphdi_put32(starts, 0);
}

static void build_worker(void *context, uint32_t worker)
{
    build *of = context;

    while (!atomic_load(&of->cancelled)) {
        const uint32_t number = atomic_fetch_add(&of->next, 1);
        if (number >= of->mih->table_count) {
            return;
        }
        build_table(of, worker, number);
    }
}

nphd_status nphdi_mih_build(const nphdi_rows *rows, uint64_t slots, const uint32_t *counts,
                            nphdi_mih_form form, uint32_t threads, const nphdi_watch *watch,
                            uint8_t *out, nphd_error *err)
{
    nphdi_mih mih;
    build of;

    memcpy(mih.counts, counts, sizeof(mih.counts));
    lay_out(&mih, rows->payload_bytes, form);
    place(&mih, form, out);
    for (uint32_t length = 0; length < NPHDI_MIH_LENGTHS; length++) {
        nphdi_put32(out + 4 * (size_t)length, counts[length]);
    }
    nphdi_put32(out + 4 * NPHDI_MIH_LENGTHS, form.chunks);
    nphdi_put32(out + 4 * NPHDI_MIH_LENGTHS + 4, form.beside ? BESIDE_BYTES : 0);
    of.rows = rows;
    of.slots = slots;
    of.mih = &mih;
    of.watch = watch;
    of.err = err;
    atomic_init(&of.next, 0);
    atomic_init(&of.cancelled, false);
    nphdi_threads_run(threads < 1 ? 1 : threads, build_worker, &of);
    return atomic_load(&of.cancelled) ? NPHD_CANCELLED : NPHD_OK;
}

/* ---- opening and checking ---- */

bool nphdi_mih_open(nphdi_mih *mih, const uint8_t *block, uint64_t bytes, uint32_t payload_bytes,
                    uint64_t slots)
{
    uint64_t sum = 0;

    memset(mih, 0, sizeof(*mih));
    if (bytes < HEAD_BYTES) {
        return false;
    }
    for (uint32_t length = 0; length < NPHDI_MIH_LENGTHS; length++) {
        mih->counts[length] = nphdi_get32(block + 4 * (size_t)length);
        sum += mih->counts[length];
        if (mih->counts[length] > 0 && length > payload_bytes) {
            return false;
        }
    }
    const uint32_t beside = nphdi_get32(block + 4 * NPHDI_MIH_LENGTHS + 4);
    const nphdi_mih_form form = {nphdi_get32(block + 4 * NPHDI_MIH_LENGTHS), beside > 0};
    if (sum != slots || form.chunks < 3 || form.chunks > 4 ||
        (form.beside && (beside != BESIDE_BYTES || form.chunks != 4))) {
        return false;
    }
    lay_out(mih, payload_bytes, form);
    place(mih, form, block);
    return mih->bytes == bytes;
}

static nphd_status check_table(const nphdi_mih *mih, const nphdi_mih_table *table,
                               const nphdi_rows *rows, const nphdi_watch *watch, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t values_count = table->values;
    uint64_t asked = 0;
    uint32_t at = 0;

    for (uint64_t value = 0; value < values_count; value++) {
        if (value + at >= asked) {
            TRY(nphdi_watch_ask(watch, value + at, values_count + table->entries, err));
            asked = value + at + NPHDI_WATCH_EVERY;
        }
        const uint32_t end = nphdi_get32(table->starts + 4 * (value + 1));
        uint64_t least = 0;
        if (nphdi_get32(table->starts + 4 * value) != at || end < at || end > table->entries) {
            return NPHD_CORRUPT;
        }
        for (; at < end; at++) {
            const uint32_t slot = nphdi_get32(table->slots + 4 * (uint64_t)at);
            if (slot < least || slot >= mih->covered ||
                8 * nphdi_rows_query(rows, (uint32_t)slot).bytes < table->end ||
                value_of(rows, table, slot) != value ||
                (table->beside != NULL &&
                 nphdi_get16(table->beside + 2 * (uint64_t)at) != beside_of(rows, table, slot))) {
                return NPHD_CORRUPT;
            }
            least = (uint64_t)slot + 1;
        }
    }
    status = at == table->entries ? NPHD_OK : NPHD_CORRUPT;
done:
    return status;
}

/* A table has as many entries as there are vectors with its chunk, all different: each is there. */
nphd_status nphdi_mih_check(const nphdi_mih *mih, const nphdi_rows *rows, const nphdi_watch *watch,
                            nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint32_t counts[NPHDI_MIH_LENGTHS];

    nphdi_mih_count(rows, mih->covered, counts);
    if (memcmp(counts, mih->counts, sizeof(counts)) != 0) {
        return NPHD_CORRUPT;
    }
    for (uint32_t i = 0; i < mih->table_count; i++) {
        const nphdi_watch part = nphdi_watch_part(watch, i, mih->table_count);
        TRY(check_table(mih, &mih->tables[i], rows, &part, err));
    }
done:
    return status;
}
