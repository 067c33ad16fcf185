/* Raw rows: vectors of one length, one after another, with nothing between them. */
#include "input.h"

static bool raw_open(cli_input *input)
{
    return cli_input_note_key(input, false);
}

static void raw_close(cli_input *input)
{
    (void)input;
}

static cli_next raw_next(cli_input *input, cli_record *out)
{
    size_t got = 0;

    out->bytes = input->row_bytes;
    input->line++;
    got = cli_reader_read(&input->reader, out->vector, out->bytes);
    if (got == out->bytes) {
        return CLI_NEXT_RECORD;
    }
    if (got == 0 && input->reader.os_error == 0) {
        return CLI_NEXT_END;
    }
    cli_input_fail(input, "the last row is cut short: bytes %zu of %zu", got, out->bytes);
    return CLI_NEXT_FAILED;
}

const cli_decoder cli_decoder_raw = {raw_open, raw_next, raw_close};
