/* Bytes and lines of a file or of standard input, through one buffer of fixed size. */
#include "input_reader.h"

#include "message.h"
#include "signals.h"
#include "text.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MARK_BYTES ((size_t)3)

/* A record that is kept, and the line behind it. */
#define BUFFER_BYTES (2 * CLI_LINE_BYTES)

bool cli_reader_open(cli_reader *reader, const char *path)
{
    struct stat facts;

    memset(reader, 0, sizeof(*reader));
    if (strcmp(path, "-") == 0) {
        reader->name = "<stdin>";
        reader->file = STDIN_FILENO;
    } else {
        reader->name = path;
        reader->file = open(path, O_RDONLY | O_CLOEXEC);
    }
    if (reader->file < 0 || fstat(reader->file, &facts) != 0) {
        cli_complain_at(reader->name, 0, "%s", strerror(errno));
        return false;
    }
    if (S_ISREG(facts.st_mode) && facts.st_size > 0) {
        reader->file_bytes = (uint64_t)facts.st_size;
    }
    reader->buffer = malloc(BUFFER_BYTES);
    if (reader->buffer == NULL) {
        cli_out_of_memory();
        return false;
    }
    return true;
}

void cli_reader_close(cli_reader *reader)
{
    if (reader->name != NULL && reader->file > STDIN_FILENO) {
        close(reader->file);
    }
    free(reader->buffer);
    memset(reader, 0, sizeof(*reader));
}

/* Would a read wait? What cannot be asked, such as a file, never does. */
static bool reader_would_wait(const cli_reader *reader)
{
    struct pollfd one = {.fd = reader->file, .events = POLLIN};

    return poll(&one, 1, 0) == 0;
}

/* Moves what is left to the front and reads once behind it. False when there is no more, or no
 * room for more. */
static bool reader_fill(cli_reader *reader)
{
    const size_t first = reader->keeping ? reader->kept : reader->begin;
    ssize_t got = 0;

    if (reader->at_end) {
        return false;
    }
    if (first > 0) {
        memmove(reader->buffer, reader->buffer + first, reader->end - first);
        reader->end -= first;
        reader->begin -= first;
        reader->kept -= reader->keeping ? first : 0;
    }
    if (reader->end == BUFFER_BYTES) {
        return false;
    }
    if (reader->idle != NULL && reader_would_wait(reader) && !reader->idle(reader->idle_context)) {
        reader->at_end = true;
        return false;
    }
    do {
        got = read(reader->file, reader->buffer + reader->end, BUFFER_BYTES - reader->end);
    } while (got < 0 && errno == EINTR && !cli_interrupted());
    if (cli_interrupted()) {
        errno = EINTR;
        got = -1;
    }
    if (got <= 0) {
        reader->at_end = true;
        reader->os_error = got < 0 ? errno : 0;
        return false;
    }
    reader->end += (size_t)got;
    return true;
}

static void reader_consume(cli_reader *reader, size_t bytes)
{
    reader->begin += bytes;
    reader->consumed += bytes;
}

size_t cli_reader_peek(cli_reader *reader, size_t wanted, const char **out)
{
    while (reader->end - reader->begin < wanted && reader_fill(reader)) {
    }
    *out = reader->buffer + reader->begin;
    return reader->end - reader->begin < wanted ? reader->end - reader->begin : wanted;
}

size_t cli_reader_read(cli_reader *reader, void *out, size_t wanted)
{
    size_t done = 0;

    while (done < wanted) {
        const char *bytes = NULL;
        const size_t part = wanted - done < CLI_LINE_BYTES ? wanted - done : CLI_LINE_BYTES;
        const size_t got = cli_reader_peek(reader, part, &bytes);

        if (got == 0) {
            break;
        }
        memcpy((char *)out + done, bytes, got);
        reader_consume(reader, got);
        done += got;
    }
    return done;
}

void cli_reader_skip_marks(cli_reader *reader)
{
    const char *bytes = NULL;
    size_t left = 0;

    while (cli_reader_peek(reader, MARK_BYTES, &bytes) == MARK_BYTES) {
        left = MARK_BYTES;
        cli_text_skip_marks(&bytes, &left);
        if (left > 0) {
            break;
        }
        reader_consume(reader, MARK_BYTES);
    }
}

/* Passes over the rest of a line that does not fit into the buffer. */
static cli_line reader_skip_line(cli_reader *reader)
{
    for (;;) {
        const char *found =
            memchr(reader->buffer + reader->begin, '\n', reader->end - reader->begin);

        if (found != NULL) {
            reader_consume(reader, (size_t)(found - (reader->buffer + reader->begin)) + 1);
            return CLI_LINE_TOO_LONG;
        }
        reader_consume(reader, reader->end - reader->begin);
        if (!reader_fill(reader)) {
            return reader->os_error != 0 ? CLI_LINE_FAILED : CLI_LINE_TOO_LONG;
        }
    }
}

cli_line cli_reader_line(cli_reader *reader, const char **out, size_t *out_length)
{
    size_t looked = 0; /* so that a line arriving in small pieces is looked at once */
    size_t there = 0;
    bool whole = false;

    *out = NULL;
    *out_length = 0;
    for (;;) {
        const char *begin = reader->buffer + reader->begin;
        const char *found = NULL;

        there = reader->end - reader->begin;
        found = memchr(begin + looked, '\n', there - looked);
        if (found != NULL) {
            there = (size_t)(found - begin) + 1;
            whole = true;
        }
        looked = there;
        if (whole || there >= CLI_LINE_BYTES || !reader_fill(reader)) {
            break;
        }
    }
    if (reader->os_error != 0 && !whole) {
        return CLI_LINE_FAILED;
    }
    if (there == 0) {
        return CLI_LINE_END;
    }
    reader->line++;
    if (there > CLI_LINE_BYTES || (there == CLI_LINE_BYTES && !whole && !reader->at_end)) {
        return reader->keeping ? CLI_LINE_TOO_LONG : reader_skip_line(reader);
    }
    *out = reader->buffer + reader->begin;
    *out_length = there;
    reader_consume(reader, there);
    return CLI_LINE_READ;
}

void cli_reader_keep(cli_reader *reader, size_t behind)
{
    assert(behind <= reader->begin);
    reader->keeping = true;
    reader->kept = reader->begin - behind;
    reader->kept_line = reader->line - (behind > 0 ? 1 : 0);
}

void cli_reader_keep_no_more(cli_reader *reader)
{
    reader->keeping = false;
}

void cli_reader_back(cli_reader *reader)
{
    assert(reader->keeping);
    reader->consumed -= reader->begin - reader->kept;
    reader->begin = reader->kept;
    reader->line = reader->kept_line;
    reader->keeping = false;
}

size_t cli_reader_kept(const cli_reader *reader, const char **out)
{
    assert(reader->keeping);
    *out = reader->buffer + reader->kept;
    return reader->begin - reader->kept;
}
