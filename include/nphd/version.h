/* The version of the library: the one compiled against, and the one linked with. */
#ifndef NPHD_VERSION_H
#define NPHD_VERSION_H

#include <nphd/export.h>

#define NPHD_VERSION_MAJOR 0
#define NPHD_VERSION_MINOR 1
#define NPHD_VERSION_PATCH 0
#define NPHD_VERSION_TEXT "0.1.0"

#ifdef __cplusplus
extern "C" {
#endif

/** The version of the linked library, such as "0.1.0". Static text. Threads: any. */
NPHD_API const char *nphd_version(void);

#ifdef __cplusplus
}
#endif

#endif
