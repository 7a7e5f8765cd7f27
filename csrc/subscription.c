/* A subscription as a whole: join, leave, and receive, alone or as a member of a group. */
#include "sending.h"
#include "views.h"

#include <stdlib.h>

#define BUSY_NS (20 * EB_MILLISECOND)
#define MEASURED_NS                                                                                                    \
    20000ull /* between batches whose delays are measured: a look at the clock costs as much as an event */

/* --- join --- */

/* The number of the group that it may be a member of, or why there is none. Its terms are looked at once more: since the
 * caller did, it may have been removed, and another one made of its name. */
static int admit(const eb_roster *roster, const eb_terms *terms)
{
    int group = eb_group_named(roster, terms->group);
    if (group < 0) return group;
    if (!eb_group_hears(&roster->header->groups[group], terms->system, terms->kind)) return EB_CONFLICT;
    for (int i = 0; (i = eb_roster_member(roster, (uint32_t)group, (uint32_t)i)) >= 0; i++)
        if (terms->exclusive || atomic_load(&roster->header->slots[i].exclusive)) return EB_EXCLUDED;
    return group;
}

/* Under the roster lock. */
static int join(eb_subscription *sub, const eb_terms *terms)
{
    eb_roster *roster = &sub->bus->roster;
    int group = terms->group ? admit(roster, terms) : -1;
    if (terms->group && group < 0) return group;
    int slot = eb_slot_claim(roster, &sub->file);
    if (slot < 0) return slot;
    sub->index = (uint32_t)slot;
    sub->slot = &roster->header->slots[slot];
    atomic_store(&sub->slot->sends, sub->bus->token != 0);
    eb_slot_open(roster, sub->index, terms, group, sub->bus->pid, atomic_load(&sub->bus->ring.header->committed));
    sub->owner = atomic_load(&sub->slot->owner);
    int status = eb_settle(sub, terms->start);
    if (status != EB_OK) eb_slot_free(roster, sub->index);
    if (group >= 0) {
        sub->group = &roster->header->groups[group];
        sub->opening = atomic_load(&sub->group->open);
        sub->token = eb_token(roster, sub->index);
    }
    return status;
}

/* Once: joining goes on where a signal interrupted it. */
static int prepare(eb_subscription *sub)
{
    if (eb_reserve(sub, 0) != EB_OK) return EB_SYSTEM;
    return sub->file.fd >= 0 ? EB_OK : eb_bus_adopt(sub->bus, sub);
}

eb_subscription *eb_subscription_new(eb_bus *bus)
{
    eb_subscription *sub = calloc(1, sizeof *sub);
    if (!sub) return NULL;
    eb_bus_hold(bus);
    sub->bus = bus;
    sub->leave = eb_unsubscribe;
    sub->generation = eb_generation();
    sub->file.fd = -1;
    sub->most = 1; /* of one that lies down before it has received */
    atomic_store(&sub->holders, 1);
    pthread_mutex_init(&sub->turn, NULL);
    pthread_mutex_init(&sub->at_hand, NULL);
    return sub;
}

/* Why it is of no use to this process, as far as that can be told without a system call. */
static int usable(const eb_subscription *sub)
{
    if (sub->generation == eb_generation()) return EB_OK;
    return eb_bus_usable(sub->bus) == EB_FORKED ? EB_FORKED : EB_INHERITED;
}

/* One that was begun before a fork is its parent's, also when it is the child that goes on. */
int eb_subscribe(eb_subscription *sub, const eb_terms *terms, int64_t deadline)
{
    eb_bus *bus = sub->bus;
    if (sub->present) return EB_OK; /* whoever was to hear of it was interrupted */
    sub->gated = terms->gated != 0;
    sub->local = terms->local != 0;
    sub->manual = terms->manual != 0;
    sub->one_by_one = terms->one_by_one != 0;
    sub->pace.spin_ns = terms->spin_ns;
    int status = usable(sub);
    if (status == EB_OK) status = eb_bus_check(bus);
    if (status == EB_OK) status = prepare(sub);
    if (status == EB_OK && terms->views && (sub->gated || terms->group) && !sub->views)
        sub->views = eb_views_new(sub, terms->group != NULL);
    if (status == EB_OK) status = eb_bus_lock_roster(bus, deadline);
    if (status != EB_OK) return status;
    status = eb_bus_usable(bus); /* it may have been left while we waited */
    if (status == EB_OK) status = join(sub, terms);
    sub->present = status == EB_OK;
    if (sub->present) atomic_store(&sub->drains, sub->gated || sub->group != NULL);
    eb_bus_unlock_roster(bus);
    if (status == EB_OK) eb_event_post(&bus->roster.header->changed);
    return status;
}

int eb_subscribed(void *sub, int failed)
{
    return failed ? eb_unsubscribe(sub) : EB_OK;
}

int eb_subscription_check(eb_subscription *sub)
{
    int status = usable(sub);
    if (status == EB_OK && sub->present) status = eb_bus_check(sub->bus);
    if (status != EB_OK || !sub->present) return status;
    return eb_file_ours(&sub->file) ? EB_OK : EB_ROBBED;
}

/* --- leave --- */

/* What a group that is no more had is nobody's. EB_NOTHING when there was nothing. */
static int give_back(eb_subscription *sub, uint64_t due)
{
    if (!sub->group || !sub->present || !eb_return_all(sub, due) || eb_group_gone(sub)) return EB_NOTHING;
    eb_relay_wake(sub, false);
    return EB_OK;
}

/* Of a member, what it was told is passed on: another one may take it. */
static void stop_dozing(eb_subscription *sub)
{
    if (!atomic_load(&sub->dozes)) return;
    eb_rise(sub);
    if (sub->group && !eb_group_gone(sub)) eb_relay_pass_on(sub);
}

static void close_apart(eb_subscription *sub)
{
    eb_guard_enter();
    eb_apart *apart = sub->apart;
    sub->apart = NULL;
    eb_guard_leave();
    eb_apart_close(apart, true);
}

/* Of a member also while it holds a gate of its own. */
static bool has_slot(const eb_subscription *sub)
{
    return EB_SAME_OWNER(atomic_load_explicit(&sub->slot->owner, memory_order_relaxed), sub->owner);
}

/* The slot is free before its byte is: nobody takes it in between, and whoever dies in between leaves it free. Where there is
 * no memory to copy what somebody still looks at, it protects that until the process ends. */
static void leave(eb_subscription *sub)
{
    stop_dozing(sub);
    eb_vigil_end(sub);
    give_back(sub, 0);
    pthread_mutex_lock(&sub->at_hand); /* others tell of room */
    sub->present = false;
    pthread_mutex_unlock(&sub->at_hand);
    if (!eb_views_end(sub)) sub->file.fd = -1;
    else if (has_slot(sub)) eb_slot_free(&sub->bus->roster, sub->index);
}

/* Whoever is inside comes out first: it was interrupted, and waits for nobody but other processes, for moments. */
int eb_unsubscribe(eb_subscription *sub)
{
    if (sub->generation != eb_generation()) {
        eb_file_close(&sub->file); /* ours is a copy, if there is one: the slot is not ours to give back */
        return EB_OK;
    }
    eb_interrupt(sub);
    pthread_mutex_lock(&sub->turn);
    bool was_there = sub->present;
    if (was_there) leave(sub);
    close_apart(sub);
    eb_bus_disown(sub->bus, sub);
    pthread_mutex_unlock(&sub->turn);
    if (!was_there) return EB_OK;
    EB_TEST_POINT(slot_left);
    eb_event_post(&sub->bus->roster.header->changed);
    eb_event_post(&sub->bus->roster.header->space);
    return EB_OK;
}

void eb_subscription_free(eb_subscription *sub)
{
    if (!sub) return;
    eb_unsubscribe(sub);
    eb_bus_let_go_of(sub);
}

void eb_interrupt(eb_subscription *sub)
{
    atomic_store(&sub->interrupted, true);
    if (!sub->slot || usable(sub) != EB_OK) return;
    eb_rouse_self(sub);
    if (sub->group) eb_relay_wake(sub, true);
}

/* --- what whoever has the turn may do --- */

static int begin(eb_subscription *sub)
{
    int status = usable(sub);
    if (status != EB_OK) return status;
    pthread_mutex_lock(&sub->turn);
    if (sub->present) return EB_OK;
    pthread_mutex_unlock(&sub->turn);
    return EB_CLOSED;
}

/* Somebody who closed our descriptor gave our slot to the reapers: that is no damage. */
static int end(eb_subscription *sub, int status)
{
    if (status == EB_DAMAGED && !eb_file_ours(&sub->file)) status = EB_ROBBED;
    pthread_mutex_unlock(&sub->turn);
    return status;
}

/* Its figures, of a slot that is still ours. A batch is measured whose last event was sent long enough after that of the one
 * before, or earlier, as those are that a bridge brings. */
static void tell(eb_subscription *sub, uint32_t count, bool dozed)
{
    if (!has_slot(sub)) return;
    eb_figures *figures = &sub->slot->figures;
    atomic_store_explicit(&figures->skipped, sub->skipped, memory_order_relaxed);
    if (dozed) eb_figures_add(&figures->wakes, 1);
    if (count == 0) return;
    const uint64_t *times = sub->batch.time;
    eb_handed handed = {.times = times, .count = count, .bytes = eb_batch_bytes(sub)};
    if (times[count - 1] - sub->measured >= MEASURED_NS) {
        sub->measured = times[count - 1];
        handed.now = eb_wall_clock();
    }
    eb_figures_take(figures, &handed);
}

static int receive(eb_subscription *sub, uint32_t most, int64_t deadline)
{
    eb_batch_head *head = &sub->batch.head;
    bool dozed = atomic_load(&sub->dozes) != 0;
    sub->most = most;
    eb_rise(sub);
    int status = sub->group ? eb_member_receive(sub, most, deadline) : eb_single_receive(sub, most, deadline);
    if (dozed && deadline != EB_BRIEF) eb_rouse_loop(sub); /* others wait in a loop still, and have to lie down anew */
    eb_see_kept(sub->bus, sub);
    tell(sub, status > 0 ? (uint32_t)status : 0, dozed);
    if (status == EB_NOTHING || status == EB_INTERRUPTED) eb_batch_trim(sub);
    if (status <= 0 && status != EB_EXHAUSTED) return status;
    head->status = status;
    head->number++;
    sub->topics[0] = sub->batch.topic[0];
    sub->topics[1] = sub->batch.topic[status > 0 ? status - 1 : 0];
    sub->to_pass_on = true;
    return status;
}

int eb_receive(eb_subscription *sub, int limit, int64_t deadline)
{
    uint32_t most = limit < 1 ? 1 : limit > EB_BATCH_LIMIT ? EB_BATCH_LIMIT : (uint32_t)limit;
    int status = begin(sub);
    return status == EB_OK ? end(sub, receive(sub, most, deadline)) : status;
}

int eb_rest(eb_subscription *sub)
{
    int status = begin(sub);
    if (status != EB_OK) return status;
    eb_rise(sub);
    return end(sub, eb_hold_gate(sub, false));
}

int eb_attend(eb_subscription *sub)
{
    int status = begin(sub);
    return status == EB_OK ? end(sub, eb_hold_gate(sub, true)) : status;
}

int eb_decide(eb_subscription *sub, uint32_t topic, int heard)
{
    int status = begin(sub);
    return status == EB_OK ? end(sub, eb_verdict_store(sub, topic, heard != 0)) : status;
}

static uint64_t due_after(int64_t delay_ns)
{
    return delay_ns > 0 ? (uint64_t)(eb_now() + delay_ns) : 0;
}

int eb_return(eb_subscription *sub, int64_t delay_ns)
{
    int status = begin(sub);
    return status == EB_OK ? end(sub, give_back(sub, due_after(delay_ns))) : status;
}

/* --- what a member may do beside whoever has the turn --- */

/* What was done with it, unless its group is no more. */
static int settled(eb_subscription *sub, int status)
{
    if (status == EB_OK) eb_member_make_room(sub);
    if (eb_group_gone(sub)) return eb_group_end(sub->group);
    return status == EB_DAMAGED && !eb_file_ours(&sub->file) ? EB_ROBBED : status;
}

static int member(const eb_subscription *sub)
{
    int status = usable(sub);
    return status == EB_OK && !sub->group ? EB_NOTHING : status;
}

int eb_ack(eb_subscription *sub)
{
    int status = member(sub);
    return status == EB_OK ? settled(sub, eb_finish_first(sub)) : status;
}

int eb_ack_event(eb_subscription *sub, uint64_t sequence)
{
    int status = member(sub);
    return status == EB_OK ? settled(sub, eb_finish_event(sub, sequence)) : status;
}

int eb_reject_event(eb_subscription *sub, uint64_t sequence, int64_t delay_ns)
{
    int status = member(sub);
    if (status == EB_OK) status = eb_return_event(sub, sequence, due_after(delay_ns));
    if (status == EB_OK) eb_relay_wake(sub, false);
    return sub->group ? settled(sub, status) : status;
}

/* In one step for whoever may be interrupted: it is done, and counted, or neither. */
int eb_bury(eb_subscription *sub, uint64_t sequence)
{
    int status = eb_ack_event(sub, sequence);
    if (status != EB_OK) return status;
    atomic_fetch_add(&sub->group->dead, 1);
    EB_TEST_POINT(dead_counted);
    return EB_OK;
}

/* --- event loops --- */

/* Without waiting for a thread that receives, and may sleep. */
static int try_begin(eb_subscription *sub)
{
    int status = usable(sub);
    if (status != EB_OK) return status;
    if (pthread_mutex_trylock(&sub->turn) != 0) return EB_BUSY;
    if (sub->present) return EB_OK;
    pthread_mutex_unlock(&sub->turn);
    return EB_CLOSED;
}

static int arm_apart(eb_subscription *sub, int64_t *until)
{
    int status = eb_apart_make(sub);
    if (status != EB_OK) return status;
    eb_apart_until(sub->apart, eb_now() + EB_SLICE_NS, true);
    status = eb_doze(sub, sub->apart->bell, until);
    eb_apart_until(sub->apart, *until, false);
    if (status == EB_OK && atomic_load(&sub->called)) eb_apart_tell(sub->apart); /* set off meanwhile */
    return status;
}

/* Another thread receives, and tells nobody when it is done. */
static int look_soon(const eb_subscription *sub, int64_t *until)
{
    *until = eb_now() + BUSY_NS;
    eb_guard_enter();
    int status = sub->apart ? EB_OK : EB_BUSY;
    if (sub->apart) eb_apart_until(sub->apart, *until, false);
    eb_guard_leave();
    return status;
}

int eb_arm(eb_subscription *sub, int apart, int64_t *until)
{
    int status = try_begin(sub);
    if (status == EB_BUSY && apart) return look_soon(sub, until);
    if (status != EB_OK) return status;
    if (apart) return end(sub, arm_apart(sub, until));
    return end(sub, sub->bus->bell ? eb_doze(sub, sub->bus->bell, until) : EB_CLOSED);
}

void eb_disarm(eb_subscription *sub)
{
    if (try_begin(sub) != EB_OK) return; /* then whoever receives looks, or there is nothing left */
    stop_dozing(sub);
    eb_see_kept(sub->bus, sub);
    end(sub, EB_OK);
}

int eb_fileno(eb_subscription *sub)
{
    int status = try_begin(sub);
    if (status != EB_OK) return status;
    status = eb_apart_make(sub);
    return end(sub, status == EB_OK ? sub->apart->watch : status);
}
