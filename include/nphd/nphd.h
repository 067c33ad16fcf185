/* libnphd: nearest-neighbour search over binary vectors of mixed length. Includes all headers. */
#ifndef NPHD_NPHD_H
#define NPHD_NPHD_H

#include <nphd/allocator.h>
#include <nphd/export.h>
#include <nphd/index.h>
#include <nphd/index_file.h>
#include <nphd/index_radius.h>
#include <nphd/index_search.h>
#include <nphd/io.h>
#include <nphd/iscc.h>
#include <nphd/join.h>
#include <nphd/log.h>
#include <nphd/sharded.h>
#include <nphd/status.h>
#include <nphd/vector.h>
#include <nphd/version.h>

#endif
