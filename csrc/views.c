/* What a subscription looks at in place, and what its cursor has to wait for. A view is
 *
 *   in hand   from the batch that has it on, until its reader asks for more; of a member of a group, until its event is done;
 *   kept      from then on, while somebody exports it: an array that was made of it;
 *   gone      once nobody does, or its bytes were copied for those who do.
 *
 * The cursor stands at the first one that is in hand or kept. What is kept may take a quarter of the ring; beyond that the
 * oldest of it is copied. Where there is no memory for that, the cursor waits.
 *
 * What is looked at was committed before it was read, and is overwritten only after the cursor was seen past it, which is
 * stored after whoever looked has said that it does no more. [commit] [cursor] Of a member it is the cursor of its own gate;
 * and nothing is kept by one that sleeps, whom nobody would wake for it: then it becomes a copy. */
#include "views.h"

#include <stdlib.h>

eb_views *eb_views_new(eb_subscription *sub, bool of_member)
{
    eb_views *views = calloc(1, sizeof *views);
    if (!views) return NULL;
    views->sub = sub;
    views->of_member = of_member;
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
    if (view->window) eb_window_release(view->window);
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
    if (view->of->generation != eb_generation() && !view->copied) return EB_CLOSED;
    do {
        if (seen & EB_VIEW_GONE) return EB_CLOSED;
    } while (!atomic_compare_exchange_weak(&view->exports, &seen, seen + 1));
    return EB_OK;
}

/* --- with the lock --- */

static bool is_kept(const eb_views *views, const eb_view *view)
{
    return view->done || view->sequence < views->asked;
}

/* Whether somebody has it, who may look at it in any event. */
static bool is_had(const eb_views *views, eb_view *view)
{
    return view->sequence < views->lent && atomic_load(&view->exports) != 0;
}

/* Whether nobody looks at it, nor ever will. */
static bool is_over(eb_view *view)
{
    uint32_t nobody = 0;
    return atomic_compare_exchange_strong(&view->exports, &nobody, EB_VIEW_GONE);
}

/* Nobody has taken it: whoever makes something of the batch may try to yet, and is to find that it is gone. */
static void bury(eb_views *views, eb_view *view)
{
    atomic_fetch_or(&view->exports, EB_VIEW_GONE);
    eb_window_release(view->window);
    view->window = NULL;
    view->next = views->graves;
    views->graves = view;
}

static void strike(eb_views *views, eb_view **at)
{
    eb_view *view = *at;
    *at = view->next;
    if (views->last == view)
        views->last = at == &views->first ? NULL : (eb_view *)((char *)at - offsetof(eb_view, next));
    if (atomic_load(&view->holders) > 1) eb_view_release(view);
    else bury(views, view);
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
    view->copied = true;
    if (view->window == views->window) retire(views);
    eb_window_trim(view->window, view->offset, view->bytes);
    strike(views, at);
    return true;
}

/* Those that were kept and are over go; where what is still in hand begins, or `position`. What a member has done with may
 * stand behind what it has in hand. */
static uint64_t sweep(eb_views *views, uint64_t position)
{
    eb_view **at = &views->first, *in_hand = NULL;
    while (*at && (views->of_member || !in_hand)) {
        if (!is_kept(views, *at) && !in_hand) in_hand = *at;
        if (is_kept(views, *at) && is_over(*at)) strike(views, at);
        else at = &(*at)->next;
    }
    return in_hand ? in_hand->position : position;
}

/* What is kept before `end` and takes more than it may is copied. */
static void crowd(eb_views *views, uint64_t end)
{
    uint64_t most = views->sub->bus->ring.capacity / 4;
    while (views->first && is_kept(views, views->first) && end - views->first->position > most)
        if (!copy(views, &views->first)) break;
}

/* To its place in the order of their records, most often the last: older events come again to members alone. */
static void insert(eb_views *views, eb_view *view)
{
    bool last = views->last && (int64_t)(view->position - views->last->position) > 0;
    eb_view **at = last ? &views->last->next : &views->first;
    while (*at && (int64_t)(view->position - (*at)->position) > 0)
        at = &(*at)->next;
    view->next = *at;
    *at = view;
    if (!view->next) views->last = view;
}

static eb_view *add(eb_views *views, const eb_record *record, uint64_t position, uint64_t length)
{
    eb_subscription *sub = views->sub;
    if (!views->window) views->window = eb_window_make(&sub->bus->ring);
    eb_view *view = views->window ? calloc(1, sizeof *view) : NULL;
    if (!view) return NULL;
    *view = (eb_view){.of = views,
                      .window = views->window,
                      .position = position,
                      .sequence = record->sequence,
                      .offset = position % sub->bus->ring.capacity + EB_HEADER_BYTES + record->stored - length,
                      .bytes = length};
    if (views->of_member && !eb_own_gate_hold(views, position, position + record->bytes)) {
        free(view);
        return NULL;
    }
    atomic_fetch_add(&views->holders, 1);
    eb_window_hold(view->window);
    atomic_store(&view->holders, 1);
    insert(views, view);
    return view;
}

/* --- by whoever has the turn --- */

/* Nobody makes anything of the batch any more. */
void eb_views_forget(eb_subscription *sub)
{
    eb_views *views = sub->views;
    if (!views || views->generation != eb_generation()) return;
    pthread_mutex_lock(&views->lock);
    eb_view *view = views->graves;
    views->graves = NULL;
    pthread_mutex_unlock(&views->lock);
    while (view) {
        eb_view *next = view->next;
        eb_view_release(view);
        view = next;
    }
}

/* The last `length` bytes of the record's body, which the cursor protects, of a member from now on; NULL where they are to be
 * copied: for want of memory, or of somebody who looks. */
eb_view *eb_views_add(eb_subscription *sub, const eb_record *record, uint64_t position, uint64_t length)
{
    eb_views *views = sub->views;
    if (!views) return NULL;
    pthread_mutex_lock(&views->lock);
    eb_view *view = add(views, record, position, length);
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
    crowd(views, sweep(views, position));
    uint64_t floor = views->first ? views->first->position : position;
    pthread_mutex_unlock(&views->lock);
    return floor;
}

/* --- of a member, by whoever has `at_hand` or the turn --- */

/* NULL where it is not looked at. One that is kept may be of the same event, delivered before. */
static eb_view **find(eb_views *views, uint64_t sequence)
{
    eb_view **at = &views->first;
    while (*at && ((*at)->sequence != sequence || (*at)->done))
        at = &(*at)->next;
    return *at ? at : NULL;
}

/* It is in hand no more: it goes, or is kept, or copied for who has it. */
static void let_go(eb_views *views, eb_view **at, bool copies)
{
    (*at)->done = true;
    if (is_over(*at)) strike(views, at);
    else if (copies) copy(views, at);
}

static eb_views *lock_of_member(eb_subscription *sub)
{
    eb_views *views = sub->views;
    if (!views || !views->of_member || views->generation != eb_generation()) return NULL;
    pthread_mutex_lock(&views->lock);
    if (views->sub) return views;
    pthread_mutex_unlock(&views->lock);
    return NULL;
}

static void unlock(eb_views *views)
{
    eb_own_gate_settle(views);
    pthread_mutex_unlock(&views->lock);
}

/* As far as the group has read, what it keeps is in the way of others. */
static void tidy(eb_views *views)
{
    crowd(views, sweep(views, atomic_load(&views->sub->group->cursor)));
}

/* Its event is about to be acknowledged, or given back, or has left the ring before it was in hand. Who says so for each event
 * may do that while it sleeps. */
void eb_views_done(eb_subscription *sub, uint64_t sequence)
{
    eb_views *views = lock_of_member(sub);
    if (!views) return;
    eb_view **at = find(views, sequence);
    if (at) let_go(views, at, sub->manual && is_had(views, *at));
    tidy(views);
    unlock(views);
}

/* What was kept may be over, or take too much by now: the group went on. False once it has left. */
bool eb_views_settle(eb_subscription *sub)
{
    eb_views *views = lock_of_member(sub);
    if (!views) return false;
    tidy(views);
    unlock(views);
    return true;
}

/* Before it sleeps, what it keeps is copied; once its group has ended, all that anybody has. */
void eb_views_rest(eb_subscription *sub, bool ended)
{
    eb_views *views = lock_of_member(sub);
    if (!views) return;
    for (eb_view **at = &views->first; *at;) {
        eb_view *view = *at;
        if (ended || view->done) let_go(views, at, true);
        if (*at == view) at = &view->next;
    }
    unlock(views);
}

/* --- by anybody --- */

/* The end of one export. Whether the cursor may move on for it, of whom: it is held then. */
eb_subscription *eb_views_exported(eb_view *view)
{
    eb_views *views = view->of;
    pthread_mutex_lock(&views->lock);
    eb_subscription *sub = is_kept(views, view) ? views->sub : NULL;
    if (sub) atomic_fetch_add(&sub->holders, 1); /* its owner may be giving it up in another thread */
    if (!views->sub) sweep(views, 0);            /* what was kept for want of memory */
    pthread_mutex_unlock(&views->lock);
    return sub;
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
    eb_own_gate_settle(views);
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
