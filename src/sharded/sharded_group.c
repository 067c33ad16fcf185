/* Groups: 16 neighbouring shards with one filter that tells which of them may have a key, so that a
 * lookup over many shards costs one cache line for each 16 instead of one for each.
 *
 * The filter is made when a shard is sealed and there are 16 neighbours without one, up to and
 * including that shard, and is a section of its file. It names its members by number and
 * generation, and is in force while exactly these stand side by side in the list of sealed shards.
 * When one is rebuilt, the others are looked up one by one until a shard that is sealed later
 * carries a new filter for them. All stored entries of the members are in it, hidden ones too. */
#include "base/bytes.h"
#include "filters/group_filter.h"
#include "index/mapped.h"
#include "sharded/sharded_internal.h"

#include <string.h>

_Static_assert(NPHDI_GROUP_SHARDS == NPHDI_GROUP_FILTER_SHARDS, "one group");
_Static_assert(NPHDI_GROUP_LINE_BYTES == NPHDI_GROUP_FILTER_LINE_BYTES, "one line");

/* ---- which are in force ---- */

/* Is this the shard that was meant, and does its file stay as it is? */
static bool is_member(const nphdi_shard *shard, const nphdi_record_shard *member)
{
    return shard->number == member->number && shard->file_bytes > 0 && shard->generation > 0 &&
           shard->generation == member->generation;
}

/* Notes the group whose filter `carrier` has at its first member, if all members are there. */
static void take_group(const nphd_sharded *sharded, const nphdi_shard *carrier)
{
    const nphdi_trailer *trailer = nphdi_index_trailer(carrier->index);
    const nphdi_trailer_section *section =
        trailer != NULL ? nphdi_trailer_find(trailer, NPHDI_SECTION_GROUP) : NULL;
    const uint8_t *data;
    nphdi_group_head head;
    uint64_t first;

    if (section == NULL) {
        return;
    }
    data = carrier->index->content->mapped.base + section->offset;
    if (!nphdi_group_decode_head(data, section->bytes, &head) ||
        head.rows != NPHDI_GROUP_FILTER_ROWS) {
        return;
    }
    first = nphdi_sealed_from(sharded, head.shards[0].number);
    if (sharded->sealed_count - first < NPHDI_GROUP_SHARDS) {
        return;
    }
    for (uint32_t i = 0; i < NPHDI_GROUP_SHARDS; i++) {
        if (!is_member(sharded->sealed[first + i], &head.shards[i])) {
            return;
        }
    }
    sharded->sealed[first]->group.filter = data + NPHDI_GROUP_HEAD_BYTES + head.padding;
    sharded->sealed[first]->group.lines = head.lines;
}

void nphdi_groups_refresh(nphd_sharded *sharded)
{
    for (uint64_t i = 0; i < sharded->sealed_count; i++) {
        memset(&sharded->sealed[i]->group, 0, sizeof(sharded->sealed[i]->group));
    }
    for (uint64_t i = 0; i < sharded->sealed_count; i++) {
        take_group(sharded, sharded->sealed[i]);
    }
    sharded->group_count = 0;
    for (uint64_t i = 0, end; i < sharded->sealed_count; i = end) {
        nphdi_group *group = &sharded->groups[sharded->group_count++];
        *group = sharded->sealed[i]->group;
        group->first = i;
        /* a group that begins inside another one is not in force */
        end = i + (group->filter != NULL ? NPHDI_GROUP_SHARDS : 1);
        for (uint64_t member = i; member < end; member++) {
            sharded->sealed[member]->grouped = group->filter != NULL;
        }
    }
}

/* ---- making one ---- */

/* Every key of 16 shards is read for a group: beyond this many, one rotation in 16 would take
 * seconds longer than the others. Where shards are so large, few of them hold very much. */
#define GROUP_KEYS_MOST (4ULL << 20)

typedef struct members {
    nphdi_group_head head;
    nphdi_shard *shards[NPHDI_GROUP_SHARDS]; /* the one that is written too */
    nphd_index *indexes[NPHDI_GROUP_SHARDS];
} members;

/* A shard of the list that a new group may have; NULL: none. The one that is written counts. */
static nphdi_shard *free_shard(const nphd_sharded *sharded, const nphdi_record_shard *listed,
                               uint32_t written)
{
    nphdi_shard *shard = nphdi_sealed_numbered(sharded, listed->number);

    if (shard == NULL || shard->left_alone) {
        return NULL;
    }
    if (listed->number == written) {
        return shard;
    }
    return is_member(shard, listed) && !shard->grouped ? shard : NULL;
}

/* The newest 16 neighbours without a filter, not newer than the shard that is written. The sealed
 * shards stay while one of them is being written; the list of them may move. */
static bool choose_members(nphd_sharded *sharded, nphd_index *index, const nphdi_capture *capture,
                           uint32_t written, members *out)
{
    uint32_t found = 0;

    nphdi_rwlock_read(&sharded->state_lock);
    /* an active shard will be written again, and then without a filter */
    const bool sealed = nphdi_sealed_numbered(sharded, written) != NULL;
    for (uint32_t i = sealed ? capture->shard_count : 0; i > 0 && found < NPHDI_GROUP_SHARDS; i--) {
        const nphdi_record_shard *listed = &capture->shards[i - 1];
        nphdi_shard *shard =
            listed->number <= written ? free_shard(sharded, listed, written) : NULL;
        if (shard == NULL) {
            found = 0;
            continue;
        }
        found++;
        out->head.shards[NPHDI_GROUP_SHARDS - found] = *listed;
        out->shards[NPHDI_GROUP_SHARDS - found] = shard;
        out->indexes[NPHDI_GROUP_SHARDS - found] = listed->number == written ? index : shard->index;
    }
    nphdi_rwlock_read_end(&sharded->state_lock);
    return found == NPHDI_GROUP_SHARDS;
}

/* Enters all stored keys of a member. false: a node is out of bounds. */
static bool enter_keys(const nphdi_content *content, uint32_t member, uint64_t lines,
                       uint8_t *filter)
{
    const uint64_t slots = nphdi_content_slots(content);
    nphd_key key;

    for (uint64_t slot = 0; slot < slots; slot++) {
        if (!nphdi_content_is_stored(content, (uint32_t)slot)) {
            continue;
        }
        if (!nphdi_content_key(content, (uint32_t)slot, &key)) {
            return false;
        }
        nphdi_group_filter_add(filter, lines, member,
                               nphdi_hash_key(key, content->shape.key_bytes));
    }
    return true;
}

void nphdi_group_make(nphd_sharded *sharded, nphd_index *index, const nphdi_capture *capture,
                      uint32_t number, uint64_t offset, nphdi_extra_section *out)
{
    members of;
    uint64_t most = 0;
    uint64_t total = 0;
    uint8_t *data = NULL;

    memset(out, 0, sizeof(*out));
    memset(&of, 0, sizeof(of));
    if (!choose_members(sharded, index, capture, number, &of)) {
        return;
    }
    for (uint32_t i = 0; i < NPHDI_GROUP_SHARDS; i++) {
        const uint64_t stored = nphdi_index_stored(of.indexes[i]);
        most = stored > most ? stored : most;
        total += stored;
    }
    if (total > GROUP_KEYS_MOST) {
        return;
    }
    of.head.rows = NPHDI_GROUP_FILTER_ROWS;
    of.head.lines = nphdi_group_filter_lines(most);
    of.head.padding =
        (uint32_t)(0 - (offset + NPHDI_GROUP_HEAD_BYTES)) % NPHDI_GROUP_FILTER_LINE_BYTES;
    out->bytes = nphdi_group_bytes(&of.head);
    if (nphdi_alloc(sharded->allocator, out->bytes, 1, &data, NULL) != NPHD_OK) {
        return;
    }
    out->id = NPHDI_SECTION_GROUP;
    out->data = data;
    nphdi_group_encode_head(&of.head, data);
    data += NPHDI_GROUP_HEAD_BYTES + of.head.padding;
    for (uint32_t i = 0; i < NPHDI_GROUP_SHARDS; i++) {
        if (!enter_keys(of.indexes[i]->content, i, of.head.lines, data)) {
            of.shards[i]->left_alone = true;
            nphdi_group_release(sharded, out);
            return;
        }
    }
}

void nphdi_group_release(const nphd_sharded *sharded, nphdi_extra_section *section)
{
    if (section->id == NPHDI_SECTION_GROUP) {
        /* made here, and lent to the writer since */
        void *data = (void *)(uintptr_t)section->data;
        nphdi_free(sharded->allocator, data, section->bytes, 1);
    }
    memset(section, 0, sizeof(*section));
}
