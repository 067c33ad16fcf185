/* Life of an index, its parameters and its state. */
#include "base/error.h"
#include "index/index_internal.h"

#include <nphd/version.h>
#include <string.h>

/* Levels are worth looking at where they are few. */
#define COUNTED_SLOTS 65536

const char *nphd_version(void)
{
    return NPHD_VERSION_TEXT;
}

nphd_status nphdi_options_read(const void *options, size_t known_bytes, void *defaults,
                               const char *what, nphd_error *err)
{
    size_t bytes;
    const uint8_t *octets = options;

    if (options == NULL) {
        return NPHD_OK;
    }
    memcpy(&bytes, options, sizeof(bytes));
    if (bytes < sizeof(bytes)) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "%s: struct_size is %zu; use the INIT macro",
                          what, bytes);
    }
    for (size_t i = known_bytes; i < bytes; i++) {
        if (octets[i] != 0) {
            return nphdi_fail(err, NPHD_INVALID_ARGUMENT,
                              "%s: a field that this version does not know is set", what);
        }
    }
    memcpy(defaults, options, bytes < known_bytes ? bytes : known_bytes);
    return NPHD_OK;
}

static nphd_status check_options(const nphd_index_options *options, nphd_error *err)
{
    if (options->max_bits > NPHD_MAX_BITS || options->max_bits % 8 != 0) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT,
                          "max_bits is %u; it must be 8 to %u in steps of 8", options->max_bits,
                          NPHD_MAX_BITS);
    }
    if (options->key_bits != 64 && options->key_bits != 128) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "key_bits is %u; it must be 64 or 128",
                          options->key_bits);
    }
    if (options->metric != NPHD_METRIC_NPHD && options->metric != NPHD_METRIC_HAMMING) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "metric %d is not known",
                          (int)options->metric);
    }
    if (options->connectivity < 2 || options->connectivity > NPHDI_MAX_OPTION_CONNECTIVITY) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "connectivity is %u; it must be 2 to %u",
                          options->connectivity, NPHDI_MAX_OPTION_CONNECTIVITY);
    }
    if (options->build_breadth > NPHDI_MAX_BREADTH || options->search_breadth > NPHDI_MAX_BREADTH) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "a breadth is %u; it must be 1 to %u",
                          options->build_breadth > options->search_breadth
                              ? options->build_breadth
                              : options->search_breadth,
                          NPHDI_MAX_BREADTH);
    }
    return NPHD_OK;
}

static void fill_defaults(nphd_index_options *options)
{
    options->max_bits = options->max_bits == 0 ? NPHD_DEFAULT_BITS : options->max_bits;
    options->key_bits = options->key_bits == 0 ? 64 : options->key_bits;
    options->metric = options->metric == NPHD_METRIC_DEFAULT ? NPHD_METRIC_NPHD : options->metric;
    options->connectivity =
        options->connectivity == 0 ? NPHDI_DEFAULT_CONNECTIVITY : options->connectivity;
    options->build_breadth =
        options->build_breadth == 0 ? NPHDI_DEFAULT_BUILD_BREADTH : options->build_breadth;
    options->search_breadth =
        options->search_breadth == 0 ? NPHDI_DEFAULT_SEARCH_BREADTH : options->search_breadth;
    if (options->allocator == NULL) {
        options->allocator = nphdi_allocator_system();
    }
    if (options->io == NULL) {
        options->io = nphdi_io_posix();
    }
}

nphd_status nphdi_index_check_options(const nphd_index_options *options, nphd_error *err)
{
    nphd_index_options known = *options;

    fill_defaults(&known);
    return check_options(&known, err);
}

static nphd_status index_locks(nphd_index *index, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    TRY(nphdi_rwlock_init(&index->change_lock, err));
    index->change_lock_made = true;
    TRY(nphdi_rwlock_init(&index->content_lock, err));
    index->content_lock_made = true;
    if (pthread_mutex_init(&index->pool_lock, NULL) != 0) {
        return nphdi_fail(err, NPHD_OUT_OF_MEMORY, "cannot create a lock");
    }
    index->pool_lock_made = true;
done:
    return status;
}

nphd_status nphdi_index_create(const nphd_index_options *options, bool view, nphd_index **out,
                               nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_index_options known = NPHD_INDEX_OPTIONS_INIT;
    nphd_index *index = NULL;
    nphdi_shape shape;

    nphdi_error_clear(err);
    if (out == NULL) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "out is NULL");
    }
    *out = NULL;
    TRY(nphdi_options_read(options, sizeof(known), &known, "index options", err));
    fill_defaults(&known);
    TRY(check_options(&known, err));
    TRY(nphdi_alloc(known.allocator, 1, sizeof(*index), &index, err));
    index->allocator = known.allocator;
    index->io = known.io;
    TRY(nphdi_process_note(&index->process, err));
    atomic_store(&index->build_breadth, known.build_breadth);
    atomic_store(&index->search_breadth, known.search_breadth);
    TRY(index_locks(index, err));
    memset(&shape, 0, sizeof(shape));
    shape.metric = known.metric;
    shape.payload_bytes = known.max_bits / 8;
    shape.prefix_bytes = known.metric == NPHD_METRIC_NPHD ? 1 : 0;
    shape.key_bytes = known.key_bits / 8;
    shape.connectivity = known.connectivity;
    shape.connectivity_base = 2 * known.connectivity;
    shape.multi = known.multi;
    TRY(nphdi_content_create(&shape, view, known.allocator, &index->content, err));
    *out = index;
    index = NULL;
done:
    nphd_index_close(index);
    return status;
}

nphd_status nphd_index_create(const nphd_index_options *options, nphd_index **out, nphd_error *err)
{
    return nphdi_index_create(options, false, out, err);
}

void nphd_index_close(nphd_index *index)
{
    /* what another thread was changing when the process forked cannot be taken apart: its memory
     * stays with this process */
    if (index == NULL ||
        (nphdi_process_is_other(&index->process) && nphdi_index_adopt(index, NULL) != NPHD_OK)) {
        return;
    }
    nphdi_content_close(index->content);
    nphdi_home_release(index->allocator, &index->home);
    while (index->pool != NULL) {
        nphdi_pooled_scratch *scratch = index->pool;
        index->pool = scratch->next;
        nphdi_graph_scratch_free(&scratch->scratch, index->allocator);
        nphdi_free(index->allocator, scratch, 1, sizeof(*scratch));
    }
    if (index->pool_lock_made) {
        (void)pthread_mutex_destroy(&index->pool_lock);
    }
    if (index->content_lock_made) {
        nphdi_rwlock_destroy(&index->content_lock);
    }
    if (index->change_lock_made) {
        nphdi_rwlock_destroy(&index->change_lock);
    }
    nphdi_free(index->allocator, index, 1, sizeof(*index));
}

nphd_status nphdi_index_borrow(nphd_index *index, nphdi_pooled_scratch **out, nphd_error *err)
{
    (void)pthread_mutex_lock(&index->pool_lock);
    *out = index->pool;
    if (*out != NULL) {
        index->pool = (*out)->next;
    }
    (void)pthread_mutex_unlock(&index->pool_lock);
    if (*out != NULL) {
        return NPHD_OK;
    }
    return nphdi_alloc(index->allocator, 1, sizeof(**out), out, err);
}

void nphdi_index_give_back(nphd_index *index, nphdi_pooled_scratch *scratch)
{
    if (scratch == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&index->pool_lock);
    scratch->next = index->pool;
    index->pool = scratch;
    (void)pthread_mutex_unlock(&index->pool_lock);
}

void nphdi_index_replace(nphd_index *index, nphdi_content *content)
{
    nphdi_content_close(index->content);
    index->content = content;
    atomic_store(&index->dirty, 0);
}

nphd_status nphdi_check_key(const nphdi_shape *shape, nphd_key key, uint64_t number,
                            nphd_error *err)
{
    if (shape->key_bytes == 8 && key.high != 0) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT,
                          "item %llu: a key of 128 bits in an index with keys of 64 bits",
                          (unsigned long long)number);
    }
    if (nphdi_is_free_key(key, shape->key_bytes)) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT,
                          "item %llu: the key with all bits one is reserved by the file format",
                          (unsigned long long)number);
    }
    return NPHD_OK;
}

nphd_status nphdi_check_vector(const nphdi_shape *shape, nphd_vector vector, uint64_t number,
                               nphd_error *err)
{
    const uint32_t most = shape->payload_bytes;
    const bool exact = shape->metric == NPHD_METRIC_HAMMING;

    if (vector.data == NULL || vector.bytes == 0) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "item %llu: the vector is empty",
                          (unsigned long long)number);
    }
    if (vector.bytes > most || (exact && vector.bytes != most)) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT,
                          "item %llu: a vector of %zu bytes; this index takes %s%u",
                          (unsigned long long)number, vector.bytes, exact ? "" : "1 to ", most);
    }
    return NPHD_OK;
}

nphd_status nphd_index_reset(nphd_index *index, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_content *fresh = NULL;

    nphdi_error_clear(err);
    NPHDI_INDEX_ENTER(index, err);
    nphdi_rwlock_write(&index->change_lock);
    nphdi_rwlock_write(&index->content_lock);
    status = nphdi_content_create(&index->content->shape, false, index->allocator, &fresh, err);
    if (status == NPHD_OK) {
        nphdi_index_replace(index, fresh);
        index->generation = 0;
        memset(index->identity, 0, sizeof(index->identity));
    }
    nphdi_rwlock_write_end(&index->content_lock);
    nphdi_rwlock_write_end(&index->change_lock);
    return status;
}

uint64_t nphd_index_size(nphd_index *index)
{
    uint64_t size = 0;

    if (nphdi_index_enter(index, NULL) != NPHD_OK) {
        return 0;
    }
    nphdi_rwlock_read(&index->content_lock);
    (void)nphdi_content_size(index->content, &size, NULL);
    nphdi_rwlock_read_end(&index->content_lock);
    return size;
}

uint64_t nphd_index_dirty(nphd_index *index)
{
    return atomic_load_explicit(&index->dirty, memory_order_relaxed);
}

size_t nphd_index_max_bytes(nphd_index *index)
{
    size_t bytes;

    if (nphdi_index_enter(index, NULL) != NPHD_OK) {
        return 0;
    }
    nphdi_rwlock_read(&index->content_lock);
    bytes = index->content->shape.payload_bytes;
    nphdi_rwlock_read_end(&index->content_lock);
    return bytes;
}

nphd_status nphd_index_set_breadth(nphd_index *index, uint32_t build_breadth,
                                   uint32_t search_breadth, nphd_error *err)
{
    nphdi_error_clear(err);
    if (build_breadth > NPHDI_MAX_BREADTH || search_breadth > NPHDI_MAX_BREADTH) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "a breadth must be 1 to %u",
                          NPHDI_MAX_BREADTH);
    }
    if (build_breadth != 0) {
        atomic_store(&index->build_breadth, build_breadth);
    }
    if (search_breadth != 0) {
        atomic_store(&index->search_breadth, search_breadth);
    }
    return NPHD_OK;
}

/* Lists above level 0 of so many slots: what the levels of the first ones say, and an eighth more
 * than is expected of the rest. */
static uint64_t lists_for(const nphdi_content *content, uint64_t slots)
{
    const uint64_t counted = slots < COUNTED_SLOTS ? slots : COUNTED_SLOTS;
    const uint64_t expected = (slots - counted) / (content->shape.connectivity - 1);
    uint64_t lists = expected + expected / 8;

    for (uint64_t slot = 0; slot < counted; slot++) {
        lists += nphdi_graph_random_level((uint32_t)slot, content->shape.connectivity);
    }
    return lists;
}

nphd_status nphd_index_reserve(nphd_index *index, uint64_t vectors, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_content *content;

    nphdi_error_clear(err);
    NPHDI_INDEX_ENTER(index, err);
    nphdi_rwlock_read(&index->change_lock);
    nphdi_rwlock_write(&index->content_lock); /* everything may move */
    content = index->content;
    if (content->view) {
        status = nphdi_fail(err, NPHD_READ_ONLY, "reserve: the index is a view");
        goto done;
    }
    (void)pthread_mutex_lock(&content->slot_lock);
    status = nphdi_content_reserve(content, vectors, lists_for(content, vectors), err);
    if (status == NPHD_OK) {
        const uint64_t live = atomic_load(&content->live_count);
        status = nphdi_content_reserve_map(content, vectors > live ? vectors - live : 0, err);
    }
    (void)pthread_mutex_unlock(&content->slot_lock);
done:
    nphdi_rwlock_write_end(&index->content_lock);
    nphdi_rwlock_read_end(&index->change_lock);
    return status;
}

static nphd_status count_edges(const nphdi_content *content, nphdi_graph_scratch *scratch,
                               uint64_t *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_graph_reader reader = nphdi_content_reader(content);
    const uint64_t slots = nphdi_content_slots(content);

    *out = 0;
    TRY(nphdi_graph_prepare(scratch, content->allocator, 1, reader.connectivity_base, 0, err));
    for (uint64_t slot = 0; slot < slots; slot++) {
        const _Atomic uint32_t *links;
        const uint32_t count =
            reader.links(reader.store, (uint32_t)slot, 0, scratch->copied, &links);
        if (count == NPHDI_GRAPH_BROKEN) {
            return nphdi_mapped_broken(&content->mapped, slot, err);
        }
        *out += count;
    }
done:
    return status;
}

static void fill_stats(nphd_index *index, const nphdi_content *content, uint64_t live,
                       uint64_t stored, nphd_index_stats *stats)
{
    stats->size = live;
    stats->slots = nphdi_content_slots(content);
    stats->removed = stats->slots > live ? stats->slots - live : 0;
    stats->capacity = nphdi_content_capacity(content);
    stats->dirty = nphd_index_dirty(index);
    stats->memory_bytes = sizeof(*index) + nphdi_content_memory(content);
    stats->mapped_bytes = content->view ? content->mapped.bytes : 0;
    stats->serialized_bytes = nphdi_index_serialized_bytes(content, stored);
    stats->generation = index->generation;
    stats->next_automatic_key = content->next_automatic;
    stats->max_bits = content->shape.payload_bytes * 8;
    stats->key_bits = content->shape.key_bytes * 8;
    stats->metric = content->shape.metric;
    stats->connectivity = content->shape.connectivity;
    stats->build_breadth = atomic_load(&index->build_breadth);
    stats->search_breadth = atomic_load(&index->search_breadth);
    stats->max_level = nphdi_content_reader(content).max_level;
    stats->multi = content->shape.multi;
    stats->view = content->view;
    stats->verified = !content->view || content->mapped.has_trailer;
    stats->tables = nphdi_content_mih_is_whole(content);
}

nphd_status nphd_index_get_stats(nphd_index *index, nphd_index_stats *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_index_stats stats = NPHD_INDEX_STATS_INIT;
    uint64_t live = 0;
    uint64_t stored = 0;
    size_t room;

    nphdi_error_clear(err);
    if (out == NULL || out->struct_size < sizeof(size_t)) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "stats: use NPHD_INDEX_STATS_INIT");
    }
    NPHDI_INDEX_ENTER(index, err);
    room = out->struct_size < sizeof(stats) ? out->struct_size : sizeof(stats);
    nphdi_rwlock_read(&index->content_lock);
    TRY(nphdi_content_stored(index->content, &stored, err));
    TRY(nphdi_content_size(index->content, &live, err));
    /* slots and the automatic counter change under the slot lock */
    (void)pthread_mutex_lock(&index->content->slot_lock);
    fill_stats(index, index->content, live, stored, &stats);
    (void)pthread_mutex_unlock(&index->content->slot_lock);
    stats.struct_size = out->struct_size;
    memcpy(out, &stats, room);
done:
    nphdi_rwlock_read_end(&index->content_lock);
    return status;
}

nphd_status nphd_index_count_edges(nphd_index *index, uint64_t *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_pooled_scratch *scratch = NULL;

    nphdi_error_clear(err);
    *out = 0;
    NPHDI_INDEX_ENTER(index, err);
    nphdi_rwlock_read(&index->content_lock);
    TRY(nphdi_index_borrow(index, &scratch, err));
    status = count_edges(index->content, &scratch->scratch, out, err);
done:
    nphdi_rwlock_read_end(&index->content_lock);
    nphdi_index_give_back(index, scratch);
    return status;
}
