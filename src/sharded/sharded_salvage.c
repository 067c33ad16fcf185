/* Building a clean directory from a damaged one.
 *
 * Shards that open are gone through as they are, so that deletions count. Of one that does not, or
 * that has damaged blocks, those entries are taken whose row and node lie in undamaged blocks. They
 * are entered oldest shard first, each replacing what an older shard had for its key. */
#include "base/error.h"
#include "sharded/salvage_blocks.h"
#include "sharded/sharded_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Vectors that are entered at once. */
#define ENTER_AT_ONCE 1024

/* Where the parts of the work end, for whom is told how far it is: of the whole, and of a shard. */
enum { OPENING = 1, TAKING = 9, READING = 1, ALL = 10 };

typedef struct salvage {
    nphd_sharded *from; /* NULL: it cannot be opened at all */
    nphd_sharded *to;
    const nphd_io *io;
    const nphd_allocator *allocator;
    const char *path;
    const nphd_salvage_options *options;
    bool made; /* the new directory is there, and was empty */
    nphd_salvage_report report;
    nphdi_names names; /* of the damaged directory */
    uint32_t *numbers; /* of its shards */
    size_t number_count;
    size_t count;
    nphd_key keys[ENTER_AT_ONCE];
    nphd_vector vectors[ENTER_AT_ONCE];
    uint8_t bits[ENTER_AT_ONCE][NPHD_MAX_BYTES];
} salvage;

static void tell(void *context, const char *text)
{
    salvage *of = context;

    of->report.files++;
    if (of->options->damage != NULL) {
        of->options->damage(of->options->damage_context, text);
    }
}

void nphdi_sharded_damage(const nphd_sharded *sharded, const char *format, ...)
{
    char text[NPHD_ERROR_TEXT_BYTES];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    nphdi_log_write(&sharded->log, NPHD_LOG_WARNING, "salvage: %s", text);
    if (sharded->damage != NULL) {
        sharded->damage(sharded->damage_context, text);
    }
}

nphd_status nphdi_salvage_key_at(const nphd_sharded *sharded, nphd_index *index, uint64_t slot,
                                 nphd_key *out_key, bool *out_visible, bool *out_stored,
                                 uint64_t *passed_over, nphd_error *err)
{
    nphd_error why = NPHD_ERROR_INIT;
    const nphd_status status =
        nphdi_index_key_at(index, (uint32_t)slot, out_key, out_visible, out_stored, &why);

    if (status == NPHD_CORRUPT && sharded->salvage && !sharded->read_only) {
        if ((*passed_over)++ == 0) {
            nphdi_sharded_damage(sharded, "%s", why.text);
        }
        *out_visible = false;
        *out_stored = false;
        return NPHD_OK;
    }
    if (status != NPHD_OK) {
        nphdi_error_copy(err, &why);
    }
    return status;
}

/* The log of the damaged directory would repeat what `damage` is told. */
static void say_nothing(void *context, nphd_log_level level, const char *text)
{
    (void)context;
    (void)level;
    (void)text;
}

static nphd_status enter_gathered(salvage *of, const nphdi_watch *watch, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_watch moment = nphdi_watch_stretch(watch, 0, 0, 1);
    nphd_batch_options batch = NPHD_BATCH_OPTIONS_INIT;

    batch.progress = nphdi_watch_progress;
    batch.progress_context = &moment;
    if (of->to->parameters.multi) {
        TRY(nphd_sharded_add_many(of->to, of->keys, of->vectors, of->count, &batch, NULL, NULL,
                                  err));
    } else {
        TRY(nphd_sharded_upsert(of->to, of->keys, of->vectors, of->count, &batch, NULL, err));
    }
    of->count = 0;
done:
    return status;
}

static nphd_status enter(salvage *of, nphd_index *index, uint32_t slot, nphd_key key,
                         const nphdi_watch *watch, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    size_t bytes = 0;

    if (of->count == ENTER_AT_ONCE) {
        TRY(enter_gathered(of, watch, err));
    }
    TRY(nphdi_index_vector_at(index, slot, of->bits[of->count], &bytes, err));
    if (bytes > of->to->parameters.max_bits / 8 ||
        (of->to->parameters.metric == NPHD_METRIC_HAMMING &&
         bytes != of->to->parameters.max_bits / 8)) {
        of->report.unreadable++; /* of another width, which the new directory cannot have too */
    } else if (bytes > 0) {
        of->keys[of->count] = key;
        of->vectors[of->count].data = of->bits[of->count];
        of->vectors[of->count++].bytes = bytes;
    }
done:
    return status;
}

/* ---- shards ---- */

static nphd_status take_entries(salvage *of, nphd_index *index, const nphdi_block_map *map,
                                const nphdi_watch *watch, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t slots = nphdi_index_slots(index);
    const bool damaged = index->content->view && map->damaged > 0;
    nphdi_block_walk at = {&index->content->mapped, map, 0, true};
    nphdi_watch last;

    for (uint64_t slot = 0; slot < slots; slot++) {
        nphd_key key;
        bool visible = false;
        bool stored = false;
        const nphdi_watch at_slot = nphdi_watch_stretch(watch, slot, slot, slots);
        TRY(slot % NPHDI_WATCH_EVERY == 0 ? nphdi_watch_ask(&at_slot, 0, 1, err) : NPHD_OK);
        if (damaged ? !nphdi_walk_key(&at, index, (uint32_t)slot, &key, &visible)
                    : nphdi_index_key_at(index, (uint32_t)slot, &key, &visible, &stored, NULL) !=
                          NPHD_OK) {
            of->report.unreadable++;
            continue;
        }
        if (visible && (of->from == NULL || !nphdi_key_set_has(&of->from->tombstones, key))) {
            TRY(enter(of, index, (uint32_t)slot, key, &at_slot, err));
        }
    }
    last = nphdi_watch_stretch(watch, 1, 1, 1);
    TRY(enter_gathered(of, &last, err));
done:
    return status;
}

/* Left out since its parameters are not those of the others; its vectors may fit all the same. */
static bool is_of_another_kind(const salvage *of, const nphd_index *index)
{
    const nphdi_shape *shape = &index->content->shape;
    const nphd_index_options *others = &of->from->parameters;

    return shape->key_bytes == others->key_bits / 8 &&
           (shape->payload_bytes != others->max_bits / 8 || shape->metric != others->metric ||
            shape->multi != others->multi);
}

/* Is a shard that was left out worth a look? It was told of already. An older one that opens is
 * what an interruption left, or contradicts the others; the newest has only lost its record. */
static bool is_wanted(const salvage *of, const nphd_index *index)
{
    return of->from == NULL || is_of_another_kind(of, index) ||
           (index->generation > atomic_load(&of->from->newest_generation) &&
            memcmp(index->identity, of->from->identity, sizeof(index->identity)) == 0);
}

static nphd_status take_shard(salvage *of, uint32_t number, const nphdi_watch *watch,
                              nphd_error *err)
{
    nphd_status status = NPHD_OK;
    /* as the damaged directory has it open, or else its file alone */
    const nphdi_shard *open = of->from != NULL ? nphdi_sealed_numbered(of->from, number) : NULL;
    nphd_open_options options = NPHD_OPEN_OPTIONS_INIT;
    nphd_index *index = NULL;
    nphd_error why = NPHD_ERROR_INIT;
    nphdi_block_map map = {NULL, 0, 0};
    const nphdi_watch reading = nphdi_watch_stretch(watch, 0, READING, ALL);
    const nphdi_watch entering = nphdi_watch_stretch(watch, READING, ALL, ALL);
    char *path = NULL;
    size_t room = 0;

    TRY(nphdi_shard_path(of->allocator, of->path, number, &path, &room, err));
    TRY(nphdi_block_map_make(of->io, of->allocator, path, &reading, &map, err));
    if (map.damaged > 0 && (open != NULL || of->from == NULL)) {
        (void)nphdi_fail(&why, NPHD_CORRUPT, "%s: %llu of %llu blocks are damaged", path,
                         (unsigned long long)map.damaged, (unsigned long long)map.blocks);
        tell(of, why.text);
    }
    if (open == NULL) {
        options.io = of->io;
        status = nphdi_index_view_shard(path, &options, &index, &why);
        if (status == NPHD_CORRUPT || status == NPHD_UNSUPPORTED || status == NPHD_NOT_FOUND) {
            if (of->from == NULL && map.damaged == 0) {
                tell(of, why.text);
            }
            status = NPHD_OK;
            goto done;
        }
        if (status != NPHD_OK) {
            nphdi_error_copy(err, &why);
            goto done;
        }
    }
    if (open != NULL || is_wanted(of, index)) {
        if (of->from == NULL) { /* nobody knows which shard is the newest */
            TRY(nphd_sharded_set_unit(of->to, nphd_index_unit(index), true, err));
        }
        TRY(take_entries(of, open != NULL ? open->index : index, &map, &entering, err));
    }
done:
    nphd_index_close(index);
    nphdi_block_map_release(of->allocator, &map);
    nphdi_free(of->allocator, path, room, 1);
    return status;
}

/* ---- the whole ---- */

/* Vectors of all shards shall fit, also of one that is wider than the others. */
static nphd_status find_widest(const salvage *of, uint32_t key_bits, uint32_t *max_bits,
                               nphd_error *err)
{
    nphd_status status = NPHD_OK;

    for (size_t i = 0; i < of->number_count; i++) {
        nphd_metadata found = NPHD_METADATA_INIT;
        char *path = NULL;
        size_t room = 0;
        TRY(nphdi_shard_path(of->allocator, of->path, of->numbers[i], &path, &room, err));
        if (nphd_file_metadata(path, of->io, &found, NULL) == NPHD_OK &&
            found.metric == NPHD_METRIC_NPHD && found.key_bits == key_bits &&
            found.max_bits > *max_bits) {
            *max_bits = found.max_bits;
        }
        nphdi_free(of->allocator, path, room, 1);
    }
done:
    return status;
}

static nphd_status open_new(salvage *of, const char *new_path, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;
    nphd_metadata metadata = NPHD_METADATA_INIT;

    if (of->from != NULL) {
        options.max_bits = of->from->parameters.max_bits;
        options.key_bits = of->from->parameters.key_bits;
        options.metric = of->from->parameters.metric;
        options.connectivity = of->from->parameters.connectivity;
        options.multi = of->from->parameters.multi ? 2 : 1;
    } else {
        TRY(nphd_directory_metadata(of->path, of->io, &metadata, err));
        options.max_bits = metadata.max_bits;
        options.key_bits = metadata.key_bits;
        options.metric = metadata.metric;
        options.multi = metadata.multi ? 2 : 1;
    }
    if (options.metric != NPHD_METRIC_HAMMING) {
        TRY(find_widest(of, options.key_bits, &options.max_bits, err));
    }
    options.io = of->io;
    TRY(nphdi_directory_make_empty(of->io, of->allocator, new_path, err));
    status = nphd_sharded_open(new_path, &options, &of->to, err);
    of->made = status != NPHD_BUSY; /* else somebody has it since, and what comes is not ours */
    TRY(status);
    if (of->from != NULL) {
        TRY(nphd_sharded_set_unit(of->to, nphd_sharded_unit(of->from), false, err));
    }
done:
    return status;
}

/* Every shard that is open must still be there to be taken. */
static nphd_status check_listed(const salvage *of, nphd_error *err)
{
    const uint32_t *numbers = of->numbers;
    const size_t count = of->number_count;
    size_t at = 0;

    for (uint64_t i = 0; of->from != NULL && i < of->from->sealed_count; i++) {
        const nphdi_shard *shard = of->from->sealed[i];
        while (at < count && numbers[at] < shard->number) {
            at++;
        }
        if (at == count || numbers[at] != shard->number) {
            return nphdi_fail(err, NPHD_NOT_FOUND, "%s: went away meanwhile", shard->path);
        }
    }
    return NPHD_OK;
}

static nphd_status take_all(salvage *of, const nphdi_watch *watch, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_block_map none = {NULL, 0, 0};
    const nphdi_watch active = nphdi_watch_part(watch, of->number_count, of->number_count + 1);

    for (size_t i = 0; i < of->number_count; i++) {
        const nphdi_watch part = nphdi_watch_part(watch, i, of->number_count + 1);
        TRY(take_shard(of, of->numbers[i], &part, err));
    }
    if (of->from != NULL) {
        /* what the journal added */
        TRY(take_entries(of, of->from->active, &none, &active, err));
    }
done:
    return status;
}

/* The damaged directory as far as it opens. */
static nphd_status open_damaged(salvage *of, nphdi_watch *watch, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;
    nphd_error why = NPHD_ERROR_INIT;

    options.io = of->io;
    options.read_only = true;
    options.salvage = true;
    options.damage = tell;
    options.damage_context = of;
    options.logger = of->options->damage != NULL ? say_nothing : NULL;
    options.progress = nphdi_watch_progress;
    options.progress_context = watch;
    status = nphd_sharded_open(of->path, &options, &of->from, &why);
    if (status == NPHD_CORRUPT || status == NPHD_MISMATCH || status == NPHD_UNSUPPORTED) {
        status = NPHD_OK;
    }
    if (status != NPHD_OK) {
        nphdi_error_copy(err, &why);
    }
    return status;
}

static nphd_status salvage_to(salvage *of, const char *new_path, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphd_salvage_options *asked = of->options;
    const nphdi_watch whole =
        nphdi_watch_whole(asked->progress, asked->progress_context, "salvage");
    nphdi_watch opening = nphdi_watch_stretch(&whole, 0, OPENING, ALL);
    const nphdi_watch taking = nphdi_watch_stretch(&whole, OPENING, TAKING, ALL);
    nphdi_watch saving = nphdi_watch_stretch(&whole, TAKING, ALL, ALL);
    nphd_batch_options save = NPHD_BATCH_OPTIONS_INIT;

    save.progress = nphdi_watch_progress;
    save.progress_context = &saving;
    TRY(open_damaged(of, &opening, err));
    TRY(nphdi_directory_list(of->io, of->path, of->allocator, &of->names, err));
    TRY(nphdi_shard_numbers(of->allocator, &of->names, &of->numbers, &of->number_count, err));
    TRY(check_listed(of, err));
    TRY(open_new(of, new_path, err));
    TRY(take_all(of, &taking, err));
    of->report.vectors = nphd_sharded_size(of->to);
    /* of nothing there are no files */
    TRY(of->report.vectors > 0 ? nphd_sharded_save(of->to, &save, err) : NPHD_OK);
    TRY(nphd_sharded_close(of->to, err));
done:
    return status;
}

nphd_status nphd_directory_salvage_with(const char *path, const char *new_path,
                                        const nphd_salvage_options *options,
                                        nphd_salvage_report *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_salvage_options known = NPHD_SALVAGE_OPTIONS_INIT;
    const nphd_allocator *allocator = nphdi_allocator_system();
    salvage *of = NULL;

    nphdi_error_clear(err);
    TRY(nphdi_options_read(options, sizeof(known), &known, "salvage", err));
    TRY(nphdi_check_path(path, err));
    TRY(nphdi_check_path(new_path, err));
    TRY(nphdi_alloc(allocator, 1, sizeof(*of), &of, err));
    of->io = known.io != NULL ? known.io : nphdi_io_posix();
    of->allocator = allocator;
    of->path = path;
    of->options = &known;
    TRY(nphdi_io_check_directories(of->io, err));
    TRY(salvage_to(of, new_path, err));
done:
    if (of != NULL) {
        if (out != NULL) {
            *out = of->report;
        }
        nphd_sharded_free(of->from);
        nphd_sharded_free(of->to);
        if (of->made && status != NPHD_OK && status != NPHD_DURABILITY_UNKNOWN) {
            /* a part of it would pass for all that could be read */
            (void)nphdi_directory_clear(of->io, allocator, new_path, NULL);
        }
        nphdi_free(allocator, of->numbers, of->names.count, sizeof(*of->numbers));
        nphdi_names_free(&of->names);
        nphdi_free(allocator, of, 1, sizeof(*of));
    }
    return status;
}

nphd_status nphd_directory_salvage(const char *path, const char *new_path, const nphd_io *io,
                                   nphd_damage damage, void *damage_context,
                                   nphd_salvage_report *out, nphd_error *err)
{
    nphd_salvage_options options = NPHD_SALVAGE_OPTIONS_INIT;

    options.io = io;
    options.damage = damage;
    options.damage_context = damage_context;
    return nphd_directory_salvage_with(path, new_path, &options, out, err);
}
