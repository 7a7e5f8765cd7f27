/* Raw data that tell themselves apart, and who looks at them in the ring. */
#ifndef EVENTBUS_VIEWING_H
#define EVENTBUS_VIEWING_H

#include "scene.h"
#include "views.h"

#define ROOM (64u * 1024u)
#define DATA 5000u
#define PLACE EB_RECORD_BYTES(4 + DATA) /* bytes of a record of so much data, with the path "/abc" */

#define FULL ((ROOM - 8) / PLACE)

static inline char byte_of(uint64_t seed, size_t i)
{
    return (char)(seed * 31 + i * 7 + i / 251);
}

static inline int put_data(eb_bus *bus, uint64_t seed)
{
    char data[DATA];
    for (size_t i = 0; i < DATA; i++)
        data[i] = byte_of(seed, i);
    return eb_send_raw(&(eb_route){.bus = bus, .topic = 0}, "/abc", 4, data, DATA);
}

static inline void put_all(eb_bus *bus, uint64_t first, uint64_t last)
{
    for (uint64_t seed = first; seed <= last; seed++)
        EQUAL("data is sent", put_data(bus, seed), EB_OK);
}

static inline bool is_data(const char *data, uint64_t seed)
{
    for (size_t i = 0; i < DATA; i++)
        if (data[i] != byte_of(seed, i)) return false;
    return true;
}

static inline eb_subscription *join_views(eb_bus *bus, int64_t start)
{
    return join_by(
        bus, &(eb_terms){.system = "a.*", .kind = "**", .name = "viewer", .start = start, .gated = 1, .views = 1});
}

static inline uint64_t cursor(eb_bus *bus, const eb_subscription *sub)
{
    return atomic_load(&slot_of(bus, sub)->cursor);
}

/* Whether its slot holds a gate. */
static inline bool is_gated(scene *it, const eb_subscription *sub)
{
    return atomic_load(&slot_of(it->bus, sub)->owner) & EB_SLOT_GATED;
}

/* The view of event number `index` of the batch, held and exported, as by a memoryview. */
static inline eb_view *look(eb_subscription *sub, uint32_t index)
{
    eb_view *view = eb_batch_of(sub)->beside[index].view;
    CHECK("it has a view", view);
    EQUAL("which is lent", eb_views_lend(sub, eb_batch_of(sub)->sequence[index] + 1), EB_OK);
    eb_view_hold(view);
    EQUAL("which can be exported", eb_view_export(view), EB_OK);
    return view;
}

static inline void look_away(eb_view *view)
{
    eb_view_exported(view);
    eb_view_release(view);
}

static inline const char *data_of(eb_subscription *sub, uint32_t index)
{
    const eb_beside *beside = &eb_batch_of(sub)->beside[index];
    return beside->view ? beside->data : eb_batch_of(sub)->buffer + beside->offset + beside->path_length;
}

/* Whether they can be made here: under valgrind they cannot. */
static inline bool has_windows(void)
{
    scene it = scene_small();
    eb_window *window = eb_window_make(&it.bus->ring);
    if (window) eb_window_release(window);
    scene_end(&it);
    return window != NULL;
}

#endif
