#include "index/file_check.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/memory.h"
#include "kernels/kernels.h"

#include <string.h>

/* What a worker reads at once: half of a usual second-level cache or all of it, and so long that
 * the calls do not count (bench_verify: 64 KiB are a fifth slower). */
#define CHUNK_BLOCKS 16
#define CHUNK_BYTES ((uint64_t)CHUNK_BLOCKS * NPHDI_TRAILER_BLOCK_BYTES)

/* Where the parts of the work end, for whom is told how far it is: the reading is most of it. */
enum { CHUNKS = 7, COUNTS = 8, PLANES = 9, ALL = 10 };

/* The state of one chunk after its reading. */
typedef struct chunk {
    uint64_t cut;        /* the node that goes on in the next chunk, or NPHDI_NOTHING_CUT */
    uint16_t bad_blocks; /* a bit for each */
} chunk;
_Static_assert(CHUNK_BLOCKS <= 16, "a bit for each block");

typedef struct work {
    nphdi_file_check *check;
    const nphdi_kernels *kernels;
    uint8_t *checksums;
    uint64_t checksum_bytes;
    uint64_t covered; /* bytes of the blocks */
    chunk *chunks;
    uint64_t chunk_count;
    _Atomic uint64_t next_chunk;
    _Atomic uint64_t next_part;
    _Atomic uint64_t live;
    _Atomic bool stopped; /* something cannot be read, or the caller wants no more */
    nphdi_watch chunk_watch;
    nphdi_watch part_watch;
    nphdi_spinlock lock; /* of what follows */
    uint64_t failed_at;  /* the first chunk that could not be read */
    nphd_error failed;
    uint64_t broken_at; /* the first chunk, or part of the planes, whose structure does not hold */
} work;

nphd_status nphdi_source_touch(const nphdi_source *source, uint64_t offset, uint64_t bytes,
                               const nphdi_watch *watch, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint8_t passing[16384];

    for (uint64_t done = 0; done < bytes;) {
        const uint64_t rest = bytes - done;
        const size_t part = rest < sizeof(passing) ? (size_t)rest : sizeof(passing);
        TRY(nphdi_watch_ask(watch, done, bytes, err));
        TRY(nphdi_source_read(source, offset + done, passing, part, err));
        done += part;
    }
done:
    return status;
}

static void note_failed(work *of, uint64_t at, const nphd_error *found)
{
    nphdi_spin_lock(&of->lock);
    if (at < of->failed_at) {
        of->failed_at = at;
        of->failed = *found;
    }
    nphdi_spin_unlock(&of->lock);
    atomic_store(&of->stopped, true);
}

static void note_broken(work *of, uint64_t at, const nphd_error *found)
{
    nphdi_spin_lock(&of->lock);
    if (at < of->broken_at) {
        of->broken_at = at;
        of->check->structure = *found;
    }
    nphdi_spin_unlock(&of->lock);
}

/* ---- chunks ---- */

static uint64_t chunk_bytes(const work *of, uint64_t number)
{
    const uint64_t rest = of->covered - number * CHUNK_BYTES;

    return rest < CHUNK_BYTES ? rest : CHUNK_BYTES;
}

static nphd_status check_chunk(work *of, const nphdi_source *source, uint64_t number,
                               uint8_t *bytes, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_piece piece = {bytes, number * CHUNK_BYTES, chunk_bytes(of, number)};
    const uint8_t *sums = of->checksums + 8 * number * CHUNK_BLOCKS;
    nphd_error found = NPHD_ERROR_INIT;
    uint64_t live = 0;

    TRY(nphdi_source_read(source, piece.offset, bytes, (size_t)piece.length, err));
    for (uint64_t at = 0; at < piece.length; at += NPHDI_TRAILER_BLOCK_BYTES) {
        const uint64_t rest = piece.length - at;
        const uint64_t length = rest < NPHDI_TRAILER_BLOCK_BYTES ? rest : NPHDI_TRAILER_BLOCK_BYTES;
        const uint64_t block = at / NPHDI_TRAILER_BLOCK_BYTES;
        if (of->kernels->checksum(bytes + at, (size_t)length) != nphdi_get64(sums + 8 * block)) {
            of->chunks[number].bad_blocks |= (uint16_t)(1U << block);
        }
    }
    of->chunks[number].cut = NPHDI_NOTHING_CUT;
    if (of->check->mapped != NULL) {
        if (nphdi_mapped_check_nodes(of->check->mapped, &piece, &live, &of->chunks[number].cut,
                                     &found) != NPHD_OK) {
            note_broken(of, number, &found);
        }
        atomic_fetch_add(&of->live, live);
    }
done:
    return status;
}

/* Before a worker takes its next chunk or part, and never behind that: of what comes before the
 * first failure nothing may be left out. Only the calling thread asks; the others stop with it. */
static bool is_stopped(work *of, uint32_t worker, const nphdi_watch *watch,
                       const _Atomic uint64_t *next, uint64_t total)
{
    nphd_error found = NPHD_ERROR_INIT;

    if (worker == 0 && nphdi_watch_ask(watch, atomic_load(next), total, &found) != NPHD_OK) {
        note_failed(of, 0, &found);
    }
    return atomic_load(&of->stopped);
}

/* The file once more for a worker of its own. It may have been replaced by another; then, without
 * a word, there is one worker fewer. */
static bool open_again(const work *of, nphdi_source *out)
{
    const nphdi_trailer *trailer = of->check->trailer;
    nphdi_trailer other;
    bool found = false;

    return nphdi_source_open(out, of->check->source->io, of->check->source->name, NULL) ==
               NPHD_OK &&
           nphdi_source_trailer(out, &other, &found, NULL) == NPHD_OK && found &&
           other.file_bytes == trailer->file_bytes &&
           /* of identity and generation too */
           other.directory_checksum == trailer->directory_checksum;
}

static void run_chunks(void *context, uint32_t worker)
{
    work *of = context;
    nphdi_source own;
    nphd_error found = NPHD_ERROR_INIT;
    uint8_t *bytes = NULL;
    uint64_t number = 0;

    memset(&own, 0, sizeof(own));
    if (nphdi_alloc(of->check->allocator, CHUNK_BYTES, 1, &bytes, &found) != NPHD_OK) {
        if (worker == 0) {
            note_failed(of, 0, &found);
        }
    } else if (worker == 0 || open_again(of, &own)) {
        const nphdi_source *source = own.open ? &own : of->check->source;
        while (!is_stopped(of, worker, &of->chunk_watch, &of->next_chunk, of->chunk_count) &&
               (number = atomic_fetch_add(&of->next_chunk, 1)) < of->chunk_count) {
            if (check_chunk(of, source, number, bytes, &found) != NPHD_OK) {
                note_failed(of, number, &found);
            }
        }
    }
    nphdi_free(of->check->allocator, bytes, CHUNK_BYTES, 1);
    nphdi_source_close(&own);
}

static void tell_damage(work *of)
{
    nphdi_file_check *check = of->check;

    for (uint64_t number = 0; number < of->chunk_count; number++) {
        for (uint32_t bit = 0; of->chunks[number].bad_blocks >> bit != 0; bit++) {
            nphd_error found = NPHD_ERROR_INIT;
            if ((of->chunks[number].bad_blocks >> bit & 1) != 0) {
                check->damaged++;
                (void)nphdi_source_fail_block(check->source, number * CHUNK_BLOCKS + bit,
                                              of->covered, &found);
                check->damage(check->damage_context, found.text);
            }
        }
    }
}

/* ---- what needs that all has been read ---- */

static void run_parts(void *context, uint32_t worker)
{
    work *of = context;
    const nphdi_mapped *mapped = of->check->mapped;
    nphd_error found = NPHD_ERROR_INIT;
    uint64_t number = 0;

    while (!is_stopped(of, worker, &of->part_watch, &of->next_part, mapped->planes.parts) &&
           (number = atomic_fetch_add(&of->next_part, 1)) < mapped->planes.parts) {
        if (nphdi_mapped_check_part(mapped, number, &found) != NPHD_OK) {
            note_broken(of, number, &found);
        }
    }
}

/* Is there any use in looking further? */
static bool is_sound(const work *of)
{
    return of->check->structure.status == NPHD_OK && !atomic_load(&of->stopped);
}

/* Notes what a check of the rest says. */
static void note_rest(work *of, nphd_status status, const nphd_error *found)
{
    if (status == NPHD_CANCELLED) {
        note_failed(of, 0, found);
    } else if (status != NPHD_OK) {
        note_broken(of, 0, found);
    }
}

static void check_rest(work *of)
{
    nphdi_file_check *check = of->check;
    const nphdi_watch counts = nphdi_watch_stretch(check->watch, CHUNKS, COUNTS, ALL);
    const nphdi_watch tables = nphdi_watch_stretch(check->watch, PLANES, ALL, ALL);
    nphd_error found = NPHD_ERROR_INIT;
    uint64_t live = 0;

    for (uint64_t number = 0; number < of->chunk_count; number++) {
        const uint64_t cut = of->chunks[number].cut;
        if (cut != NPHDI_NOTHING_CUT &&
            nphdi_mapped_check_cut(check->mapped, cut, &live, &found) != NPHD_OK) {
            note_broken(of, number, &found);
        }
    }
    if (is_sound(of)) {
        note_rest(of, nphdi_mapped_check_counts(check->mapped, live + of->live, &counts, &found),
                  &found);
    }
    if (is_sound(of) && check->mapped->planes.parts > 0) {
        nphdi_threads_run(check->threads, run_parts, of);
    }
    if (is_sound(of)) {
        note_rest(of, nphdi_mapped_check_mih(check->mapped, &tables, &found), &found);
    }
}

nphd_status nphdi_file_check_run(nphdi_file_check *check, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_trailer_section *sums = nphdi_trailer_find(check->trailer, NPHDI_SECTION_CHECKSUMS);
    work of;

    memset(&of, 0, sizeof(of));
    check->structure = (nphd_error)NPHD_ERROR_INIT;
    of.failed = (nphd_error)NPHD_ERROR_INIT;
    of.check = check;
    of.kernels = nphdi_kernels_get();
    of.covered = sums->offset;
    of.checksum_bytes = sums->bytes;
    of.chunk_count = (of.covered + CHUNK_BYTES - 1) / CHUNK_BYTES;
    of.chunk_watch = nphdi_watch_stretch(check->watch, 0, CHUNKS, ALL);
    of.part_watch = nphdi_watch_stretch(check->watch, COUNTS, PLANES, ALL);
    of.failed_at = UINT64_MAX;
    of.broken_at = UINT64_MAX;
    TRY(nphdi_source_checksums(check->source, check->trailer, check->allocator, &of.checksums,
                               err));
    TRY(nphdi_alloc(check->allocator, of.chunk_count, sizeof(*of.chunks), &of.chunks, err));
    nphdi_threads_run(of.chunk_count < check->threads ? (uint32_t)of.chunk_count : check->threads,
                      run_chunks, &of);
    check->blocks = nphdi_trailer_blocks(of.covered);
    tell_damage(&of);
    if (of.failed_at == UINT64_MAX && check->mapped != NULL) {
        check_rest(&of);
    }
    if (of.failed_at != UINT64_MAX) {
        nphdi_error_copy(err, &of.failed);
        status = of.failed.status;
    }
done:
    nphdi_free(check->allocator, of.chunks, of.chunk_count, sizeof(*of.chunks));
    nphdi_free(check->allocator, of.checksums, of.checksum_bytes, 1);
    return status;
}
