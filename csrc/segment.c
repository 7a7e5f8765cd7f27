/* Map both segments and check that they are what they say. */
#include "internal.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define CAPACITY_LIMIT (1ull << 40)

static uint64_t page_bytes(void)
{
    return (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t round_up(uint64_t bytes)
{
    uint64_t page = page_bytes();
    return (bytes + page - 1) / page * page;
}

/* The finalizer of splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014). */
static uint64_t mix(uint64_t state, uint64_t word)
{
    state = (state ^ word) + 0x9e3779b97f4a7c15ull;
    state = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9ull;
    state = (state ^ (state >> 27)) * 0x94d049bb133111ebull;
    return state ^ (state >> 31);
}

static uint64_t build_word(void)
{
    const uint64_t sizes[] = {sizeof(eb_ring_header),
                              sizeof(eb_roster_header),
                              sizeof(eb_slot_t),
                              sizeof(void *),
                              page_bytes(),
                              EB_TOPICS,
                              EB_HEAP_BYTES,
                              EB_HEADER_BYTES,
                              EB_SUBSCRIBERS_LIMIT,
                              EB_NAME_LIMIT,
                              EB_PATH_LIMIT,
                              EB_PATTERN_LIMIT,
                              EB_LABEL_LIMIT,
                              EB_GROUPS,
                              EB_CLAIMS,
                              EB_PARKING_BLOCK,
                              EB_INLINE,
                              sizeof(eb_group),
                              sizeof(eb_scheduled),
                              offsetof(eb_slot_t, name)};
    uint64_t word = 1;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        word = mix(word, sizes[i]);
    return word;
}

static uint64_t signature_check(const eb_signature *signature, uint64_t magic)
{
    uint64_t word = mix(magic, (uint64_t)signature->version << 32 | signature->max_subscribers);
    word = mix(word, signature->build);
    word = mix(mix(word, signature->identity[0]), signature->identity[1]);
    return mix(mix(word, signature->capacity), signature->header_bytes);
}

/* A quarter of the ring: as much as the largest event takes. */
static uint64_t parking_bytes(uint64_t capacity)
{
    return round_up(capacity / 4);
}

int64_t eb_ring_bytes(uint64_t capacity)
{
    if (capacity == 0 || capacity > CAPACITY_LIMIT) return EB_TOO_LARGE;
    capacity = round_up(capacity);
    return (int64_t)(round_up(sizeof(eb_ring_header)) + capacity + parking_bytes(capacity));
}

int64_t eb_roster_bytes(uint32_t max_subscribers)
{
    if (max_subscribers == 0 || max_subscribers > EB_SUBSCRIBERS_LIMIT) return EB_TOO_LARGE;
    return (int64_t)round_up(sizeof(eb_roster_header) + (uint64_t)max_subscribers * sizeof(eb_slot_t));
}

static void sign(eb_signature *signature, const eb_signature *like, uint64_t magic)
{
    signature->version = EB_FORMAT;
    signature->max_subscribers = like->max_subscribers;
    signature->build = build_word();
    signature->identity[0] = like->identity[0];
    signature->identity[1] = like->identity[1];
    signature->capacity = like->capacity;
    signature->header_bytes = round_up(sizeof(eb_ring_header));
    signature->check = signature_check(signature, magic);
    EB_TEST_POINT(format_written);
    atomic_store_explicit(&signature->magic, magic, memory_order_release);
}

static void *map_shared(int fd, uint64_t bytes, int protection)
{
    void *memory = mmap(NULL, bytes, protection, MAP_SHARED, fd, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

/* Both segments are fresh, so all zero: what is written here is what differs from zero. The roster's magic comes last
 * and vouches for both. */
int eb_format(int ring_fd, int roster_fd, uint64_t capacity, uint32_t max_subscribers, uint64_t identity_0,
              uint64_t identity_1)
{
    eb_signature like = {
        .max_subscribers = max_subscribers, .identity = {identity_0, identity_1}, .capacity = round_up(capacity)};
    uint64_t bytes = round_up(sizeof(eb_ring_header)) + page_bytes();
    eb_ring_header *ring = map_shared(ring_fd, bytes, PROT_READ | PROT_WRITE);
    if (!ring) return EB_SYSTEM;
    EB_TEST_POINT(format_ring_sized);
    eb_u64 *first = (eb_u64 *)((char *)ring + round_up(sizeof(eb_ring_header)));
    atomic_store(first, 1);
    EB_TEST_POINT(format_locked);
    sign(&ring->signature, &like, EB_RING_MAGIC);
    munmap(ring, bytes);
    EB_TEST_POINT(format_ring_signed);
    eb_roster_header *roster = map_shared(roster_fd, sizeof *roster, PROT_READ | PROT_WRITE);
    if (!roster) return EB_SYSTEM;
    sign(&roster->signature, &like, EB_ROSTER_MAGIC);
    munmap(roster, sizeof *roster);
    EB_TEST_POINT(format_roster_signed);
    return EB_OK;
}

static int check_signature(const eb_signature *signature, uint64_t magic)
{
    if (atomic_load_explicit(&signature->magic, memory_order_acquire) != magic)
        return eb_mismatch("it does not begin with the mark of an eventbus segment");
    if (signature->version != EB_FORMAT) return eb_mismatch("it was made by a version with another format");
    if (signature->check != signature_check(signature, magic)) return eb_damaged("its header does not add up");
    if (signature->build != build_word()) return eb_mismatch("it was made by a build with other sizes or limits");
    if (signature->header_bytes != round_up(sizeof(eb_ring_header)) || signature->capacity == 0 ||
        signature->capacity > CAPACITY_LIMIT || signature->capacity % page_bytes() != 0)
        return eb_damaged("its header names an impossible capacity");
    if (signature->max_subscribers == 0 || signature->max_subscribers > EB_SUBSCRIBERS_LIMIT)
        return eb_damaged("its header names an impossible number of subscriber slots");
    return EB_OK;
}

/* The magic is looked at apart from the rest: without it the creator never finished, which is no damage. Anything else
 * that is not right may be another version's bus with living users, whose locks we would not know. */
int eb_signed(int roster_fd)
{
    eb_signature signature = {.version = 0};
    ssize_t got = pread(roster_fd, &signature, sizeof signature, 0);
    if (got < 0) return EB_SYSTEM;
    if (atomic_load(&signature.magic) == 0) return 0;
    if (got < (ssize_t)sizeof signature) return eb_damaged("it is shorter than its own header");
    int status = check_signature(&signature, EB_ROSTER_MAGIC);
    return status == EB_OK ? 1 : status;
}

/* What the doorbells of the bus are named after; 0 of one that is not whole. */
uint64_t eb_roster_identity(int fd)
{
    eb_signature signature = {.version = 0};
    bool whole = pread(fd, &signature, sizeof signature, 0) == sizeof signature &&
                 check_signature(&signature, EB_ROSTER_MAGIC) == EB_OK;
    return whole ? signature.identity[0] : 0;
}

int eb_persists(int roster_fd)
{
    eb_u32 persist = 0;
    ssize_t got = pread(roster_fd, &persist, sizeof persist, offsetof(eb_roster_header, persist));
    return got < 0 ? EB_SYSTEM : got == sizeof persist && atomic_load(&persist) == 1;
}

static int map_checked(int fd, uint64_t magic, eb_signature *signature, uint64_t smallest, uint64_t *size)
{
    struct stat status;
    if (fstat(fd, &status) != 0) return EB_SYSTEM;
    *size = (uint64_t)status.st_size;
    if (*size < sizeof *signature) return eb_damaged("it is shorter than its own signature");
    const eb_signature *seen = map_shared(fd, sizeof *seen, PROT_READ);
    if (!seen) return EB_SYSTEM;
    memcpy(signature, seen, sizeof *seen);
    munmap((void *)seen, sizeof *seen);
    int checked = check_signature(signature, magic);
    if (checked != EB_OK) return checked;
    return *size < smallest ? eb_damaged("it is shorter than its own header") : EB_OK;
}

int eb_roster_map(eb_roster *roster, int fd)
{
    eb_signature signature;
    uint64_t size = 0;
    int status = map_checked(fd, EB_ROSTER_MAGIC, &signature, sizeof(eb_roster_header), &size);
    if (status != EB_OK) return status;
    uint64_t bytes = (uint64_t)eb_roster_bytes(signature.max_subscribers);
    if (size < bytes) return eb_damaged("its roster is shorter than its header says");
    roster->header = map_shared(fd, bytes, PROT_READ | PROT_WRITE);
    if (!roster->header) return EB_SYSTEM;
    roster->mapped_bytes = bytes;
    roster->max_subscribers = signature.max_subscribers;
    return EB_OK;
}

void eb_roster_unmap(eb_roster *roster)
{
    if (roster->header) munmap(roster->header, roster->mapped_bytes);
    roster->header = NULL;
}

/* One reservation for header, twice the data and the parking, then the mappings put in its place: whatever fails, one
 * munmap. */
int eb_ring_map(eb_ring *ring, int fd, bool writable)
{
    eb_signature signature;
    uint64_t size = 0;
    int status = map_checked(fd, EB_RING_MAGIC, &signature, sizeof(eb_ring_header), &size);
    if (status != EB_OK) return status;
    uint64_t header = signature.header_bytes, capacity = signature.capacity, parking = parking_bytes(capacity);
    if (size < header + capacity + parking) return eb_damaged("its ring is shorter than its header says");
    int protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
    uint64_t bytes = header + 2 * capacity + parking;
    if (bytes != (size_t)bytes) { /* more than words of 32 bits can address */
        errno = ENOMEM;
        return EB_SYSTEM;
    }
    char *base = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) return EB_SYSTEM;
    if (mmap(base, header + capacity, protection, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED ||
        mmap(base + header + capacity, capacity, protection, MAP_SHARED | MAP_FIXED, fd, (off_t)header) == MAP_FAILED ||
        mmap(base + header + 2 * capacity, parking, protection, MAP_SHARED | MAP_FIXED, fd,
             (off_t)(header + capacity)) == MAP_FAILED) {
        int error = errno;
        munmap(base, bytes);
        errno = error;
        return EB_SYSTEM;
    }
    ring->header = (eb_ring_header *)base;
    ring->data = base + header;
    ring->capacity = capacity;
    ring->parking_bytes = parking;
    ring->mask = (capacity & (capacity - 1)) == 0 ? capacity - 1 : 0;
    ring->mapped_bytes = bytes;
    return EB_OK;
}

void eb_ring_unmap(eb_ring *ring)
{
    if (ring->header) munmap(ring->header, ring->mapped_bytes);
    ring->header = NULL;
}
