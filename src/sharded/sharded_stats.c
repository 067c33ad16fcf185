/* What a sharded index tells of itself. */
#include "base/error.h"
#include "sharded/sharded_internal.h"

#include <string.h>

static void add_shard(const nphdi_shard *shard, nphd_sharded_stats *stats)
{
    const nphdi_content *content = shard->index->content;

    stats->size += nphdi_shard_visible(shard);
    stats->dead += nphdi_shard_dead(shard);
    stats->view_shards++;
    /* the rotation thread may be making tables for it */
    nphdi_rwlock_read(&shard->index->content_lock);
    stats->memory_bytes +=
        nphdi_content_memory(content) + (shard->hidden.words != NULL ? shard->hidden.slots / 8 : 0);
    nphdi_rwlock_read_end(&shard->index->content_lock);
    stats->mapped_bytes += content->view ? content->mapped.bytes : 0;
    stats->files += shard->file_bytes > 0 ? 1 : 0;
    stats->disk_bytes += shard->file_bytes;
    stats->verified = stats->verified && (!content->view || content->mapped.has_trailer);
}

static void add_active(const nphd_sharded *sharded, nphd_sharded_stats *stats)
{
    nphd_index *active = sharded->active;
    const uint64_t vectors = nphd_index_size(active);

    stats->size += vectors;
    stats->active_vectors = vectors;
    stats->memory_bytes += nphdi_content_memory(active->content);
    stats->active_bytes = sharded->unsaved || sharded->active_file_bytes == 0
                              ? nphdi_active_bytes_now(sharded)
                              : sharded->active_file_bytes;
    stats->active_capacity = nphdi_content_capacity(active->content);
    stats->files += sharded->active_file_bytes > 0 ? 1 : 0;
    stats->disk_bytes += sharded->active_file_bytes;
}

/* A last shard that waits for writes counts as the active one. */
static void count_head(const nphd_sharded *sharded, nphd_sharded_stats *stats)
{
    const nphdi_shard *head = sharded->sealed[sharded->sealed_count - 1];

    stats->view_shards--;
    stats->active_vectors = nphdi_shard_visible(head);
    stats->active_bytes = head->file_bytes;
    stats->active_capacity = nphdi_index_slots(head->index);
}

static void fill_parameters(const nphd_sharded *sharded, nphd_sharded_stats *stats)
{
    stats->generation = atomic_load(&sharded->generation);
    stats->next_automatic_key = sharded->next_automatic;
    stats->shard_bytes = sharded->shard_bytes;
    stats->max_bits = sharded->parameters.max_bits;
    stats->key_bits = sharded->parameters.key_bits;
    stats->metric = sharded->parameters.metric;
    stats->connectivity = sharded->parameters.connectivity;
    stats->build_breadth = sharded->parameters.build_breadth;
    stats->search_breadth = sharded->parameters.search_breadth;
    stats->multi = sharded->parameters.multi;
    stats->read_only = sharded->read_only;
    stats->unapplied = sharded->journal.unapplied;
}

nphd_status nphd_sharded_get_stats(nphd_sharded *sharded, nphd_sharded_stats *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_sharded_stats stats = NPHD_SHARDED_STATS_INIT;

    nphdi_error_clear(err);
    if (out == NULL || out->struct_size < sizeof(size_t)) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "stats: use NPHD_SHARDED_STATS_INIT");
    }
    status = nphdi_sharded_enter(sharded, err);
    if (status != NPHD_OK) {
        return status;
    }
    /* what files there are and how full the active shard is changes under this lock */
    (void)pthread_mutex_lock(&sharded->change_lock);
    TRY(nphdi_look_begin(sharded, err));
    stats.verified = true;
    add_active(sharded, &stats);
    for (uint64_t i = 0; i < sharded->sealed_count; i++) {
        add_shard(sharded->sealed[i], &stats);
    }
    if (sharded->head_waits) {
        count_head(sharded, &stats);
    }
    stats.dirty = nphd_sharded_dirty(sharded);
    stats.tombstones = sharded->tombstones.count;
    if (sharded->bloom != NULL) {
        stats.bloom = true;
        stats.bloom_keys = nphdi_bloom_count(sharded->bloom);
        stats.bloom_bytes = nphdi_bloom_memory(sharded->bloom);
        stats.memory_bytes += stats.bloom_bytes;
    }
    nphdi_signal_lock(&sharded->queue);
    stats.pending_rotations = sharded->rotation_count;
    stats.disk_bytes += sharded->bloom_file_bytes + sharded->tombstone_file_bytes;
    nphdi_signal_unlock(&sharded->queue);
    stats.disk_bytes += nphdi_journal_disk_bytes(sharded) + atomic_load(&sharded->lock.file_bytes);
    fill_parameters(sharded, &stats);
    nphdi_look_end(sharded);
    stats.struct_size = out->struct_size;
    memcpy(out, &stats, out->struct_size < sizeof(stats) ? out->struct_size : sizeof(stats));
done:
    (void)pthread_mutex_unlock(&sharded->change_lock);
    return status;
}
