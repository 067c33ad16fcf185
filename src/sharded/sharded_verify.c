/* Looking at a directory from outside: its header, and whether all of it is as it was written. */
#include "base/error.h"
#include "index/file_check.h"
#include "index/source.h"
#include "sharded/sharded_opening.h"

#include <stdio.h>
#include <string.h>

/* ---- metadata ---- */

nphd_status nphd_directory_metadata(const char *path, const nphd_io *io, nphd_metadata *out,
                                    nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphd_allocator *allocator = nphdi_allocator_system();
    nphdi_names names;
    uint32_t *numbers = NULL;
    size_t count = 0;
    char *file = NULL;
    size_t room = 0;

    nphdi_error_clear(err);
    memset(&names, 0, sizeof(names));
    TRY(nphdi_check_path(path, err));
    io = io != NULL ? io : nphdi_io_posix();
    TRY(nphdi_io_check_directories(io, err));
    TRY(nphdi_directory_list(io, path, allocator, &names, err));
    TRY(nphdi_shard_numbers(allocator, &names, &numbers, &count, err));
    if (count == 0) {
        status = nphdi_fail(err, NPHD_NOT_FOUND, "%s: there is no shard in it", path);
        goto done;
    }
    TRY(nphdi_shard_path(allocator, path, numbers[0], &file, &room, err));
    status = nphd_file_metadata(file, io, out, err);
done:
    nphdi_free(allocator, file, room, 1);
    nphdi_free(allocator, numbers, names.count, sizeof(*numbers));
    nphdi_names_free(&names);
    return status;
}

/* ---- verify ---- */

typedef struct verification {
    const nphd_verify_options *options;
    const nphd_io *io;
    const nphd_allocator *allocator;
    nphdi_watch whole;
    nphdi_watch part; /* of the file at hand */
    uint64_t parts;   /* that were begun */
    uint64_t all;     /* that there may be */
    nphd_directory_report report;
    nphd_error first; /* what the call answers */
    uint64_t told;    /* damages of the file at hand */
} verification;

static void tell(void *context, const char *text)
{
    verification *of = context;

    of->told++;
    if (of->first.status == NPHD_OK) {
        (void)nphdi_fail(&of->first, NPHD_CORRUPT, "%s", text);
    }
    if (of->options->damage != NULL) {
        of->options->damage(of->options->damage_context, text);
    }
}

/* Damage goes on to the next file; that a file cannot be read at all ends the call. */
static nphd_status settle(verification *of, nphd_status status, const nphd_error *why,
                          nphd_error *err)
{
    if (status == NPHD_CORRUPT || status == NPHD_UNSUPPORTED || status == NPHD_MISMATCH) {
        if (of->told == 0) {
            tell(of, why->text);
        }
        status = NPHD_OK;
    }
    if (status != NPHD_OK) {
        nphdi_error_copy(err, why);
    }
    of->report.damaged_files += of->told > 0 ? 1 : 0;
    return status;
}

static nphd_status next_part(verification *of, nphd_error *err)
{
    of->part = nphdi_watch_part(&of->whole, of->parts++, of->all);
    return nphdi_watch_ask(&of->part, 0, 1, err);
}

static nphd_status verify_shard(verification *of, const char *path, nphd_error *err)
{
    nphd_verify_report report;
    nphd_verify_options options = *of->options;
    nphd_error why = NPHD_ERROR_INIT;
    nphd_status status;

    memset(&report, 0, sizeof(report));
    of->told = 0;
    options.damage = tell;
    options.damage_context = of;
    options.progress = nphdi_watch_progress;
    options.progress_context = &of->part;
    status = nphd_file_verify_with(path, &options, &report, &why);
    of->report.files++;
    of->report.file_bytes += report.file_bytes;
    of->report.blocks += report.blocks;
    of->report.damaged_blocks += report.damaged;
    of->report.unverified_files += report.checksums ? 0 : 1;
    return settle(of, status, &why, err);
}

/* Every block of a file with a trailer against its checksum. */
static nphd_status verify_blocks(verification *of, const nphdi_source *source,
                                 const nphdi_trailer *trailer, nphd_error *err)
{
    nphdi_file_check check;
    nphd_status status;

    memset(&check, 0, sizeof(check));
    check.source = source;
    check.trailer = trailer;
    check.allocator = of->allocator;
    check.threads = of->options->threads;
    check.damage = tell;
    check.damage_context = of;
    check.watch = &of->part;
    status = nphdi_file_check_run(&check, err);
    of->report.blocks += check.blocks;
    of->report.damaged_blocks += check.damaged;
    return status;
}

static nphd_status verify_other(verification *of, const char *path, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_source source;
    nphdi_trailer trailer;
    nphd_error why = NPHD_ERROR_INIT;
    bool found = false;

    memset(&source, 0, sizeof(source));
    of->told = 0;
    status = nphdi_source_open(&source, of->io, path, &why);
    if (status == NPHD_NOT_FOUND) {
        return NPHD_OK;
    }
    of->report.files++;
    of->report.file_bytes += source.bytes;
    if (status == NPHD_OK) {
        status = nphdi_source_trailer(&source, &trailer, &found, &why);
    }
    if (status == NPHD_OK && found) {
        status = verify_blocks(of, &source, &trailer, &why);
    }
    of->report.unverified_files += found ? 0 : 1;
    nphdi_source_close(&source);
    return settle(of, status, &why, err);
}

/* A filter without trailer is whole only if the reference could have written it. */
static nphd_status verify_filter(verification *of, const char *directory, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_filter_facts facts;
    nphd_error why = NPHD_ERROR_INIT;

    of->told = 0;
    TRY(nphdi_filter_look(of->io, of->allocator, directory, &facts, err));
    if (!facts.whole && facts.author != NPHDI_AUTHOR_NONE &&
        facts.author != NPHDI_AUTHOR_REFERENCE) {
        (void)nphdi_fail(&why, NPHD_CORRUPT,
                         "%s/%s: neither whole with our trailer nor as the reference writes it; it "
                         "can be made anew from the keys",
                         directory, NPHDI_BLOOM_NAME);
        TRY(settle(of, NPHD_CORRUPT, &why, err));
    }
done:
    return status;
}

/* What is out of date but in order is no damage, and not told. */
static void say_nothing(void *context, nphd_log_level level, const char *text)
{
    (void)context;
    (void)level;
    (void)text;
}

/* ---- journals ---- */

/* The byte up to which a journal counts, as the one that continues it says; UINT64_MAX: there is
 * none. */
static nphd_status journal_limit(const verification *of, const char *directory,
                                 const nphdi_names *names, uint64_t sequence, uint64_t *out,
                                 nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint64_t other;

    *out = UINT64_MAX;
    for (size_t i = 0; i < names->count; i++) {
        nphdi_journal_reader reader;
        bool valid = false;
        char *path = NULL;
        size_t room = 0;
        if (!nphdi_journal_is_name(names->names[i], &other) || other <= sequence) {
            continue;
        }
        TRY(nphdi_path_join(of->allocator, directory, names->names[i], &path, &room, err));
        status = nphdi_journal_reader_open(&reader, of->io, of->allocator, path, err);
        /* damage in the head of the other is told when its turn comes */
        if (status == NPHD_OK && nphdi_journal_reader_head(&reader, &valid, NULL) == NPHD_OK &&
            valid && reader.head.before == sequence) {
            *out = reader.head.before_bytes;
        }
        nphdi_journal_reader_close(&reader);
        nphdi_free(of->allocator, path, room, 1);
        TRY(status);
    }
done:
    return status;
}

/* What is there may be a commit that was interrupted, and nothing that was acknowledged, or the
 * rest of one that was, if the file has lost its end: worth a word, and no damage. */
static void tell_torn(const verification *of, const nphdi_journal_reader *reader)
{
    nphd_error text = NPHD_ERROR_INIT;

    (void)nphdi_fail(
        &text, NPHD_OK,
        "%s: the last %llu bytes, from byte %llu on, are no whole commit: one that was "
        "interrupted, unless the file was cut",
        reader->source.name, (unsigned long long)(reader->source.bytes - reader->offset),
        (unsigned long long)reader->offset);
    if (of->options->damage != NULL) {
        of->options->damage(of->options->damage_context, text.text);
    }
}

/* The same of the head: nothing was ever committed to such a journal, unless it was cut. */
static void tell_headless(const verification *of, const nphdi_journal_reader *reader)
{
    nphd_error text = NPHD_ERROR_INIT;

    (void)nphdi_fail(
        &text, NPHD_OK,
        "%s: the head is not whole: a journal whose making was interrupted, unless the "
        "file was cut",
        reader->source.name);
    if (of->options->damage != NULL) {
        of->options->damage(of->options->damage_context, text.text);
    }
}

/* A journal that was put aside may have what nothing else has. */
static void tell_unapplied(const verification *of, const char *directory, const char *name)
{
    nphd_error text = NPHD_ERROR_INIT;

    if (of->options->damage == NULL || !nphdi_journal_is_unapplied(name)) {
        return;
    }
    (void)nphdi_fail(&text, NPHD_OK,
                     "%s/%s: a journal that was not applied, as the reference had saved since",
                     directory, name);
    of->options->damage(of->options->damage_context, text.text);
}

static nphd_status verify_frames(verification *of, nphdi_journal_reader *reader, uint64_t limit,
                                 nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_error why = NPHD_ERROR_INIT;
    nphdi_journal_step step = NPHDI_JOURNAL_WHOLE;

    for (bool more = true; more;) {
        TRY(nphdi_watch_ask(&of->part, reader->offset, reader->source.bytes, err));
        TRY(nphdi_journal_reader_next(reader, limit, &step, err));
        more = step == NPHDI_JOURNAL_WHOLE;
        of->report.blocks += step == NPHDI_JOURNAL_WHOLE ? 1 : 0;
        if (step == NPHDI_JOURNAL_TORN) {
            tell_torn(of, reader);
        }
        if (step == NPHDI_JOURNAL_DAMAGED_FRAME) {
            (void)nphdi_fail(&why, NPHD_CORRUPT, "%s: frame %llu at byte %llu is damaged",
                             reader->source.name, (unsigned long long)reader->number,
                             (unsigned long long)reader->offset);
            of->report.blocks++;
            of->report.damaged_blocks++;
            tell(of, why.text);
            TRY(nphdi_journal_reader_skip(reader, &more, err));
        }
    }
done:
    return status;
}

static nphd_status verify_journal(verification *of, const char *path, uint64_t limit,
                                  nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_journal_reader reader;
    nphd_error why = NPHD_ERROR_INIT;
    bool valid = false;

    of->told = 0;
    of->report.files++;
    status = nphdi_journal_reader_open(&reader, of->io, of->allocator, path, &why);
    reader.watch = &of->part;
    of->report.file_bytes += reader.source.bytes;
    if (status == NPHD_OK) {
        status = nphdi_journal_reader_head(&reader, &valid, &why);
        of->report.blocks++;
        of->report.damaged_blocks += status == NPHD_CORRUPT ? 1 : 0;
    }
    if (status == NPHD_OK && valid) {
        status = verify_frames(of, &reader, limit, &why);
    } else if (status == NPHD_OK) {
        tell_headless(of, &reader);
    }
    nphdi_journal_reader_close(&reader);
    return settle(of, status, &why, err);
}

static nphd_status verify_journals(verification *of, const char *directory,
                                   const nphdi_names *names, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    char *path = NULL;
    size_t room = 0;

    for (size_t i = 0; i < names->count; i++) {
        uint64_t sequence;
        uint64_t limit = 0;
        if (!nphdi_journal_is_name(names->names[i], &sequence)) {
            tell_unapplied(of, directory, names->names[i]);
            continue;
        }
        TRY(next_part(of, err));
        TRY(journal_limit(of, directory, names, sequence, &limit, err));
        TRY(nphdi_path_join(of->allocator, directory, names->names[i], &path, &room, err));
        TRY(verify_journal(of, path, limit, err));
        nphdi_free(of->allocator, path, room, 1);
        path = NULL;
    }
done:
    nphdi_free(of->allocator, path, room, 1);
    return status;
}

/* ---- the whole ---- */

/* In both of its slots; one of them may be torn by a power cut. */
static nphd_status verify_head(verification *of, const char *path, nphd_error *err)
{
    nphdi_lock_head head;
    nphdi_lock_head_state state = NPHDI_LOCK_HEAD_NONE;
    nphd_error why = NPHD_ERROR_INIT;
    nphd_status status = nphdi_lock_head_read(of->io, of->allocator, path, &head, &state, &why);

    of->told = 0;
    if (status == NPHD_OK && state == NPHDI_LOCK_HEAD_DAMAGED) {
        status = nphdi_fail(&why, NPHD_CORRUPT, "%s/%s: damaged; the next save writes it anew",
                            path, NPHDI_LOCK_NAME);
    }
    return settle(of, status, &why, err);
}

/* Opens it as a reader does: that the files belong together, the content of the small ones, and
 * that every key is found. */
static nphd_status verify_together(verification *of, const char *path, nphd_error *err)
{
    nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;
    nphd_sharded *sharded = NULL;
    nphd_error why = NPHD_ERROR_INIT;
    nphd_status status;
    nphdi_watch opening = nphdi_watch_part(&of->part, 0, 2);
    const nphdi_watch checking = nphdi_watch_part(&of->part, 1, 2);

    options.read_only = true;
    options.io = of->io;
    options.logger = say_nothing;
    options.progress = nphdi_watch_progress;
    options.progress_context = &opening;
    of->told = 0;
    status = nphd_sharded_open(path, &options, &sharded, &why);
    if (status == NPHD_OK) {
        status = nphdi_sharded_check_keys(sharded, tell, of, &checking, &why);
    }
    nphd_sharded_free(sharded);
    return settle(of, status, &why, err);
}

static nphd_status verify_named(verification *of, const char *directory, const char *name,
                                nphd_status (*verify)(verification *of, const char *path,
                                                      nphd_error *err),
                                nphd_error *err)
{
    nphd_status status = NPHD_OK;
    char *path = NULL;
    size_t room = 0;

    TRY(next_part(of, err));
    TRY(nphdi_path_join(of->allocator, directory, name, &path, &room, err));
    TRY(verify(of, path, err));
done:
    nphdi_free(of->allocator, path, room, 1);
    return status;
}

static nphd_status verify_files(verification *of, const char *path, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_names names;

    memset(&names, 0, sizeof(names));
    TRY(nphdi_directory_list(of->io, path, of->allocator, &names, err));
    of->all = names.count + 3; /* filter, deletions, and whether all fit together */
    for (size_t i = 0; i < names.count; i++) {
        if (nphdi_shard_number(names.names[i]) != NPHDI_NO_NUMBER) {
            TRY(verify_named(of, path, names.names[i], verify_shard, err));
        }
    }
    TRY(verify_named(of, path, NPHDI_BLOOM_NAME, verify_other, err));
    TRY(of->told == 0 ? verify_filter(of, path, err) : NPHD_OK);
    TRY(verify_named(of, path, NPHDI_TOMBSTONES_NAME, verify_other, err));
    TRY(verify_journals(of, path, &names, err));
    TRY(verify_head(of, path, err));
    if (of->report.damaged_files == 0) {
        /* with damage the files cannot be opened, which says no more than was said */
        TRY(next_part(of, err));
        TRY(verify_together(of, path, err));
    }
done:
    nphdi_names_free(&names);
    return status;
}

nphd_status nphd_directory_verify_with(const char *path, const nphd_verify_options *options,
                                       nphd_directory_report *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_verify_options known = NPHD_VERIFY_OPTIONS_INIT;
    verification of;

    nphdi_error_clear(err);
    memset(&of, 0, sizeof(of));
    of.first.struct_size = sizeof(of.first);
    TRY(nphdi_options_read(options, sizeof(known), &known, "verify", err));
    known.struct_size = sizeof(known); /* handed on */
    known.io = known.io != NULL ? known.io : nphdi_io_posix();
    of.options = &known;
    of.io = known.io;
    of.allocator = nphdi_allocator_system();
    TRY(nphdi_check_path(path, err));
    of.whole = nphdi_watch_whole(known.progress, known.progress_context, path);
    TRY(nphdi_io_check_directories(of.io, err));
    TRY(verify_files(&of, path, err));
    if (of.first.status != NPHD_OK) {
        nphdi_error_copy(err, &of.first);
        status = of.first.status;
    }
done:
    if (out != NULL) {
        *out = of.report;
    }
    return status;
}

nphd_status nphd_directory_verify(const char *path, const nphd_io *io, nphd_damage damage,
                                  void *damage_context, nphd_directory_report *out, nphd_error *err)
{
    nphd_verify_options options = NPHD_VERIFY_OPTIONS_INIT;

    options.io = io;
    options.damage = damage;
    options.damage_context = damage_context;
    return nphd_directory_verify_with(path, &options, out, err);
}
