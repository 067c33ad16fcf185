/* Where an index takes its memory from. One allocator per handle; NULL means malloc and mmap. */
#ifndef NPHD_ALLOCATOR_H
#define NPHD_ALLOCATOR_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * A table of functions that provide memory.
 *
 * The growing arrays of an index begin as blocks. Beyond 64 KiB they live in reserved address
 * ranges with room for what can come next, in which they grow beside readers on other threads; they
 * move to a larger one, while nobody reads, at each 64-fold. `reserve` hands out such a range
 * without memory behind it, `commit` puts memory behind its first bytes, `unreserve` gives it back
 * whole. A range that is refused is asked for again with half the size, down to what is needed.
 *
 * Threads  every function may be called from any thread, also from several at once.
 * Errors   a function that cannot deliver returns NULL (or non-zero for `commit`); the call that
 *          needed the memory then fails with NPHD_OUT_OF_MEMORY.
 */
typedef struct nphd_allocator {
    size_t struct_size;
    void *context;                                              /* passed to every function */
    void *(*allocate)(void *context, size_t bytes);             /* aligned for any C type */
    void (*release)(void *context, void *memory, size_t bytes); /* `bytes` as allocated */
    void *(*reserve)(void *context, size_t bytes);              /* page-aligned, no memory yet */
    /** Make the first new_bytes usable and zero beyond old_bytes; 0 on success. */
    int (*commit)(void *context, void *range, size_t old_bytes, size_t new_bytes);
    void (*unreserve)(void *context, void *range, size_t bytes); /* `bytes` as reserved */
} nphd_allocator;

#ifdef __cplusplus
}
#endif

#endif
