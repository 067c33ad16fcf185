/* NPHD_API marks the names that the shared library exports; everything else is hidden. */
#ifndef NPHD_EXPORT_H
#define NPHD_EXPORT_H

#if defined(__GNUC__) || defined(__clang__)
#define NPHD_API __attribute__((visibility("default")))
#else
#define NPHD_API
#endif

#endif
