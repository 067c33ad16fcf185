/* Between the halves of the I/O table over POSIX calls: the functions that take names, which are
 * those of nphd_io. Their context is NULL or one of nphdi_posix_root(). */
#ifndef NPHDI_IO_POSIX_H
#define NPHDI_IO_POSIX_H

#include <nphd/io.h>

int nphdi_posix_open(void *context, const char *path, int how, nphd_file *out_file);
int nphdi_posix_rename(void *context, const char *from, const char *to);
int nphdi_posix_remove(void *context, const char *path);
int nphdi_posix_remove_directory(void *context, const char *path);
int nphdi_posix_make_directory_like(void *context, const char *path, const char *like);
int nphdi_posix_sync_directory(void *context, const char *path);
int nphdi_posix_make_directory(void *context, const char *path);
int nphdi_posix_list(void *context, const char *path,
                     int (*visit)(void *visit_context, const char *name), void *visit_context);
int nphdi_posix_lock(void *context, const char *path, nphd_file *out_file);
int nphdi_posix_copy(void *context, const char *from, const char *to);
int nphdi_posix_root(void *context, const char *path, const char *name, void **out_context);
void nphdi_posix_unroot(void *rooted_context);
int nphdi_posix_look(void *context, const char *path, nphd_file_facts *out);
int nphdi_posix_resolve(void *context, const char *path, char *out, size_t room);
int nphdi_posix_create_like(void *context, const char *path, const char *like, nphd_file *out_file);
int nphdi_posix_hold(void *context, const char *path, nphd_file *out_file);

#endif
