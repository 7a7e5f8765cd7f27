/* Readers say what they have done with, and the cursor moves on. By any thread, also beside one that receives. */
#include "claims.h"
#include "sending.h"
#include "views.h"

/* Where a thread is at the subscription, and may sleep, that one looks. */
static void settle(eb_subscription *sub)
{
    if (sub->views->of_member) {
        if (eb_views_settle(sub)) eb_member_make_room(sub);
        return;
    }
    if (pthread_mutex_trylock(&sub->turn) != 0) {
        eb_rouse_self(sub);
        return;
    }
    if (sub->present) eb_single_settle(sub); /* damage is said to who receives */
    pthread_mutex_unlock(&sub->turn);
}

int eb_views_asked(eb_subscription *sub, uint64_t next)
{
    eb_views *views = sub->views;
    if (!views || views->of_member || views->generation != eb_generation()) return EB_OK; /* else events are done */
    pthread_mutex_lock(&views->lock);
    if (next > views->asked) views->asked = next;
    bool any = views->first && views->first->sequence < views->asked;
    pthread_mutex_unlock(&views->lock);
    EB_TEST_POINT(view_asked);
    if (any) settle(sub);
    return EB_OK;
}

/* In a child it is the parent's, and was copied for both. */
void eb_view_exported(eb_view *view)
{
    eb_views *views = view->of;
    if (atomic_fetch_sub(&view->exports, 1) != 1 || views->generation != eb_generation()) return;
    EB_TEST_POINT(export_ended);
    eb_subscription *sub = eb_views_exported(view);
    if (!sub) return;
    settle(sub);
    eb_bus_let_go_of(sub);
}
