/* What a subscription looks at in place, and what its cursor has to wait for. A view is
 *
 *   in hand   from the batch that has it on, until its reader asks for more;
 *   kept      from then on, while somebody exports it: an array that was made of it;
 *   gone      once nobody does, or its bytes were copied for those who do.
 *
 * The cursor stands at the first one that is in hand or kept. What is kept may take a quarter of the ring; beyond that the
 * oldest of it is copied. Where there is no memory for that, the cursor waits.
 *
 * What is looked at was committed before it was read, and is overwritten only after the cursor was seen past it, which is
 * stored after whoever looked has said that it does no more. [commit] [cursor] */
#include "views.h"

#include <stdlib.h>

eb_views *eb_views_new(eb_subscription *sub)
{
    eb_views *views = calloc(1, sizeof *views);
    if (!views) return NULL;
    views->sub = sub;
    views->generation = eb_generation();
    atomic_store(&views->holders, 1);
    pthread_mutex_init(&views->lock, NULL);
    return views;
}

void eb_views_let_go(eb_views *views)
{
    if (!views || atomic_fetch_sub(&views->holders, 1) != 1) return;
    pthread_mutex_destroy(&views->lock);
    free(views);
}

void eb_view_hold(eb_view *view)
{
    atomic_fetch_add(&view->holders, 1);
}

void eb_view_release(eb_view *view)
{
    if (atomic_fetch_sub(&view->holders, 1) != 1) return;
    eb_window_release(view->window);
    eb_views_let_go(view->of);
    free(view);
}

const char *eb_view_data(const eb_view *view)
{
    return eb_window_at(view->window, view->offset);
}

int eb_view_export(eb_view *view)
{
    uint32_t seen = atomic_load(&view->exports);
    do {
        if (seen & EB_VIEW_GONE) return EB_CLOSED;
    } while (!atomic_compare_exchange_weak(&view->exports, &seen, seen + 1));
    return EB_OK;
}

/* --- with the lock --- */

static bool is_kept(const eb_views *views, const eb_view *view)
{
    return view->sequence < views->asked;
}

/* Whether nobody looks at it, nor ever will. */
static bool is_over(eb_view *view)
{
    uint32_t nobody = 0;
    return atomic_compare_exchange_strong(&view->exports, &nobody, EB_VIEW_GONE);
}

static void strike(eb_views *views, eb_view **at)
{
    eb_view *view = *at;
    *at = view->next;
    if (views->last == view)
        views->last = at == &views->first ? NULL : (eb_view *)((char *)at - offsetof(eb_view, next));
    eb_view_release(view);
}

static void retire(eb_views *views)
{
    if (views->window) eb_window_release(views->window);
    views->window = NULL;
}

/* Struck then: it needs the ring no more. False without memory for it. */
static bool copy(eb_views *views, eb_view **at)
{
    eb_view *view = *at;
    if (!eb_window_copy(view->window, view->offset, view->bytes)) return false;
    if (view->window == views->window) retire(views);
    strike(views, at);
    return true;
}

/* Those that were kept and are over go; where what is still in hand begins, or `position`. */
static uint64_t sweep(eb_views *views, uint64_t position)
{
    eb_view **at = &views->first;
    while (*at && is_kept(views, *at)) {
        if (is_over(*at)) strike(views, at);
        else at = &(*at)->next;
    }
    return *at ? (*at)->position : position;
}

static eb_view *add(eb_subscription *sub, eb_views *views, uint64_t position)
{
    if (!views->window) views->window = eb_window_make(&sub->bus->ring);
    eb_view *view = views->window ? calloc(1, sizeof *view) : NULL;
    if (!view) return NULL;
    view->of = views;
    view->window = views->window;
    view->position = position;
    atomic_fetch_add(&views->holders, 1);
    eb_window_hold(view->window);
    atomic_store(&view->holders, 1);
    if (views->last) views->last->next = view;
    else views->first = view;
    views->last = view;
    return view;
}

/* --- by whoever has the turn --- */

/* The last `length` bytes of the record's body, which the cursor protects; NULL where they are to be copied: for want of
 * memory, or of somebody who looks. */
eb_view *eb_views_add(eb_subscription *sub, const eb_record *record, uint64_t position, uint64_t length)
{
    eb_views *views = sub->views;
    if (!views) return NULL;
    pthread_mutex_lock(&views->lock);
    eb_view *view = add(sub, views, position);
    if (view) {
        view->sequence = record->sequence;
        view->bytes = length;
        view->offset = position % sub->bus->ring.capacity + EB_HEADER_BYTES + record->stored - length;
    }
    EB_TEST_POINT(view_added);
    pthread_mutex_unlock(&views->lock);
    return view;
}

/* How far the cursor may go of whoever reads next at `position`. */
uint64_t eb_views_floor(eb_subscription *sub, uint64_t position)
{
    eb_views *views = sub->views;
    if (!views) return position;
    pthread_mutex_lock(&views->lock);
    uint64_t end = sweep(views, position), most = sub->bus->ring.capacity / 4;
    while (views->first && is_kept(views, views->first) && end - views->first->position > most)
        if (!copy(views, &views->first)) break;
    uint64_t floor = views->first ? views->first->position : position;
    pthread_mutex_unlock(&views->lock);
    return floor;
}

/* --- by anybody --- */

/* The end of one export. Whether the cursor may move on for it, of whom: it is held then. */
eb_subscription *eb_views_exported(eb_view *view)
{
    eb_views *views = view->of;
    pthread_mutex_lock(&views->lock);
    eb_subscription *sub = view->sequence < views->asked ? views->sub : NULL;
    if (sub) atomic_fetch_add(&sub->holders, 1); /* its owner may be giving it up in another thread */
    if (!views->sub) sweep(views, 0);            /* what was kept for want of memory */
    pthread_mutex_unlock(&views->lock);
    return sub;
}

/* Whether somebody has it, who may look at it in any event. */
static bool is_had(const eb_views *views, eb_view *view)
{
    return view->sequence < views->lent && atomic_load(&view->exports) != 0;
}

/* Before a fork: a child may look at what its parent's cursor protects for the parent alone, so both get a copy. What was
 * handed out to nobody no child gets. */
void eb_views_part(eb_subscription *sub)
{
    eb_views *views = sub->views;
    if (!views || views->generation != eb_generation()) return;
    pthread_mutex_lock(&views->lock);
    for (eb_view **at = &views->first; *at;)
        if (!is_had(views, *at) || !copy(views, at)) at = &(*at)->next;
    pthread_mutex_unlock(&views->lock);
}

int eb_views_lend(eb_subscription *sub, uint64_t next)
{
    eb_views *views = sub->views;
    if (!views || views->generation != eb_generation()) return EB_OK;
    pthread_mutex_lock(&views->lock);
    bool there = views->sub != NULL;
    if (there) views->lent = next;
    pthread_mutex_unlock(&views->lock);
    EB_TEST_POINT(view_lent);
    return there ? EB_OK : EB_CLOSED;
}

/* Before the slot is given back: what somebody has becomes a copy, and the rest is handed out to nobody. False where there is
 * no memory for it: then what protects it has to stay. */
bool eb_views_end(eb_subscription *sub)
{
    eb_views *views = sub->views;
    if (!views) return true;
    pthread_mutex_lock(&views->lock);
    views->sub = NULL;
    for (eb_view **at = &views->first; *at;) {
        if (!is_had(views, *at)) {
            atomic_fetch_or(&(*at)->exports, EB_VIEW_GONE);
            strike(views, at);
        } else if (!copy(views, at)) {
            at = &(*at)->next;
        }
    }
    bool over = views->first == NULL;
    views->asked = UINT64_MAX;
    retire(views);
    pthread_mutex_unlock(&views->lock);
    EB_TEST_POINT(views_ended);
    return over;
}
