/* Can every key of a directory be found? Files may be whole, each by itself, and still not lead to
 * what is in them: a filter that does not know a key hides it from every lookup. */
#include "base/error.h"
#include "sharded/sharded_internal.h"

#include <stdio.h>

#define KEY_ROOM 40

typedef struct missing {
    uint64_t count;
    nphd_key first;
} missing;

static void note(missing *of, nphd_key key)
{
    of->first = of->count == 0 ? key : of->first;
    of->count++;
}

static void tell(const nphd_sharded *sharded, const nphdi_shard *shard, const missing *of,
                 const char *what, nphd_damage damage, void *context)
{
    char key[KEY_ROOM];
    nphd_error text = NPHD_ERROR_INIT;

    if (of->count == 0) {
        return;
    }
    if (sharded->key_bytes == 16) {
        (void)snprintf(key, sizeof(key), "%016llx%016llx", (unsigned long long)of->first.high,
                       (unsigned long long)of->first.low);
    } else {
        (void)snprintf(key, sizeof(key), "%llu", (unsigned long long)of->first.low);
    }
    (void)nphdi_fail(&text, NPHD_CORRUPT, "%s/%s: %llu keys of %s are not found, the first is %s",
                     sharded->path, what, (unsigned long long)of->count, nphdi_shard_name(shard),
                     key);
    damage(context, text.text);
}

static nphd_status check_shard(const nphd_sharded *sharded, const nphdi_shard *shard,
                               nphd_damage damage, void *context, const nphdi_watch *watch,
                               nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t slots = nphdi_index_slots(shard->index);
    missing filter = {0, {0, 0}};
    missing tables = {0, {0, 0}};

    for (uint64_t slot = 0; slot < slots; slot++) {
        nphd_key key;
        bool visible;
        bool stored;
        nphdi_shard *found;
        uint32_t found_slot;
        TRY(nphdi_watch_loop(watch, slot, slots, err));
        TRY(nphdi_index_key_at(shard->index, (uint32_t)slot, &key, &visible, &stored, err));
        if (!visible) {
            continue;
        }
        if (!nphdi_sharded_maybe(sharded, key)) {
            note(&filter, key);
        }
        TRY(nphdi_sealed_find(sharded, key, &found, &found_slot, err));
        if (found == NULL) {
            note(&tables, key);
        }
    }
    tell(sharded, shard, &filter, NPHDI_BLOOM_NAME, damage, context);
    tell(sharded, shard, &tables, "key tables", damage, context);
done:
    return status;
}

nphd_status nphdi_sharded_check_keys(const nphd_sharded *sharded, nphd_damage damage, void *context,
                                     const nphdi_watch *watch, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    for (uint64_t i = 0; i < sharded->sealed_count; i++) {
        const nphdi_watch part = nphdi_watch_part(watch, i, sharded->sealed_count);
        TRY(check_shard(sharded, sharded->sealed[i], damage, context, &part, err));
    }
done:
    return status;
}
