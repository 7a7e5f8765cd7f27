/* The words of a record in the ring, which layout.h tells the life of. */
#ifndef EVENTBUS_RECORD_H
#define EVENTBUS_RECORD_H

#include "eventbus.h"

enum { EB_WORD_SEQUENCE = 0, EB_WORD_TIME = 1, EB_WORD_TOPIC = 2, EB_WORD_SENDER = 3, EB_HEADER_WORDS = 4 };
/* EB_WORD_TOPIC: body_length | topic << 32 | system_length of an inline topic << 56
 * EB_WORD_SENDER: sender | extension_length << 24 | path_length of raw data << 38 | five bits of nothing |
 *                 kind_length of an inline topic << 56 */
#define EB_SENDER_BITS 24 /* Linux has no pid past 22 bits */
#define EB_EXTENSION_BITS 14
#define EB_PATH_BITS 13
#define EB_HEADER_BYTES (EB_HEADER_WORDS * 8)

#define EB_RECORD_BYTES(body) ((uint64_t)EB_HEADER_BYTES + (((uint64_t)(body) + 7) & ~(uint64_t)7))

#endif
