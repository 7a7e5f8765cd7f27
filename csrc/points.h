/* The test points: by name, in the order of the flows that pass them. */
#ifndef EVENTBUS_POINTS_H
#define EVENTBUS_POINTS_H

/* Named moments between two stores that others can see. A build with EB_TEST_POINTS calls the hook there, which may
 * stop or kill; a release has none of it. */
#define EB_TEST_POINT_LIST(POINT)                                                                                      \
    POINT(lock_taken)                                                                                                  \
    POINT(publish_locked)                                                                                              \
    POINT(repair_taken)                                                                                                \
    POINT(repair_mended)                                                                                               \
    POINT(bystander_group)                                                                                             \
    POINT(bystander_gate)                                                                                              \
    POINT(bystander_moved)                                                                                             \
    POINT(parked_copied)                                                                                               \
    POINT(parked_moved)                                                                                                \
    POINT(parked_gate)                                                                                                 \
    POINT(publish_gated)                                                                                               \
    POINT(oldest_moved)                                                                                                \
    POINT(publish_claimed)                                                                                             \
    POINT(note_named)                                                                                                  \
    POINT(note_written)                                                                                                \
    POINT(note_numbered)                                                                                               \
    POINT(publish_header)                                                                                              \
    POINT(publish_copied)                                                                                              \
    POINT(publish_committed)                                                                                           \
    POINT(event_counted)                                                                                               \
    POINT(publish_counted)                                                                                             \
    POINT(lock_woken)                                                                                                  \
    POINT(lock_released)                                                                                               \
    POINT(publish_unlocked)                                                                                            \
    POINT(wake_lowered)                                                                                                \
    POINT(semaphore_raised)                                                                                            \
    POINT(bell_rung)                                                                                                   \
    POINT(wake_posted)                                                                                                 \
    POINT(semaphore_taken)                                                                                             \
    POINT(event_flagged)                                                                                               \
    POINT(event_lowered)                                                                                               \
    POINT(event_raised)                                                                                                \
    POINT(topic_written)                                                                                               \
    POINT(topic_shown)                                                                                                 \
    POINT(shutdown_stored)                                                                                             \
    POINT(turn_counted)                                                                                                \
    POINT(turn_taken)                                                                                                  \
    POINT(turn_left)                                                                                                   \
    POINT(space_wanted)                                                                                                \
    POINT(shutdown_unlocked)                                                                                           \
    POINT(schedule_copied)                                                                                             \
    POINT(schedule_written)                                                                                            \
    POINT(schedule_used)                                                                                               \
    POINT(schedule_numbered)                                                                                           \
    POINT(schedule_look)                                                                                               \
    POINT(schedule_stored)                                                                                             \
    POINT(schedule_unlocked)                                                                                           \
    POINT(schedule_intended)                                                                                           \
    POINT(schedule_committed)                                                                                          \
    POINT(schedule_freed)                                                                                              \
    POINT(schedule_settled)                                                                                            \
    POINT(schedule_overdue)                                                                                            \
    POINT(schedule_put_off)                                                                                            \
    POINT(schedule_told)                                                                                               \
    POINT(roster_locked)                                                                                               \
    POINT(roster_unlocked)                                                                                             \
    POINT(reap_found)                                                                                                  \
    POINT(slot_vacated)                                                                                                \
    POINT(slot_freed)                                                                                                  \
    POINT(reap_freed)                                                                                                  \
    POINT(slot_left)                                                                                                   \
    POINT(slot_locked)                                                                                                 \
    POINT(slot_claimed)                                                                                                \
    POINT(slot_counted)                                                                                                \
    POINT(slot_cursor)                                                                                                 \
    POINT(slot_open)                                                                                                   \
    POINT(slot_settled)                                                                                                \
    POINT(slot_placed)                                                                                                 \
    POINT(topic_decided)                                                                                               \
    POINT(receive_read)                                                                                                \
    POINT(receive_copied)                                                                                              \
    POINT(receive_counted)                                                                                             \
    POINT(receive_advanced)                                                                                            \
    POINT(doorbell_stored)                                                                                             \
    POINT(waiter_raised)                                                                                               \
    POINT(waiter_woken)                                                                                                \
    POINT(group_written)                                                                                               \
    POINT(group_slot)                                                                                                  \
    POINT(group_gated)                                                                                                 \
    POINT(group_cursor)                                                                                                \
    POINT(group_placed)                                                                                                \
    POINT(group_opened)                                                                                                \
    POINT(group_changed)                                                                                               \
    POINT(group_removed)                                                                                               \
    POINT(gate_withdrawn)                                                                                              \
    POINT(members_woken)                                                                                               \
    POINT(page_emptied)                                                                                                \
    POINT(page_dropped)                                                                                                \
    POINT(group_locked)                                                                                                \
    POINT(group_taken_over)                                                                                            \
    POINT(group_mended)                                                                                                \
    POINT(group_unlocked)                                                                                              \
    POINT(bury_stamped)                                                                                                \
    POINT(asleep_cleared)                                                                                              \
    POINT(page_unlisted)                                                                                               \
    POINT(page_given_back)                                                                                             \
    POINT(cursor_skipped)                                                                                              \
    POINT(page_taken)                                                                                                  \
    POINT(page_listed)                                                                                                 \
    POINT(claim_written)                                                                                               \
    POINT(claim_used)                                                                                                  \
    POINT(claim_held)                                                                                                  \
    POINT(claim_cursor)                                                                                                \
    POINT(claim_gated)                                                                                                 \
    POINT(claim_adopted)                                                                                               \
    POINT(claim_deliveries)                                                                                            \
    POINT(claim_counted)                                                                                               \
    POINT(claim_copied)                                                                                                \
    POINT(claim_handed_out)                                                                                            \
    POINT(claim_finished)                                                                                              \
    POINT(room_made)                                                                                                   \
    POINT(claim_due)                                                                                                   \
    POINT(claim_returned)                                                                                              \
    POINT(dead_counted)                                                                                                \
    POINT(waiter_passed)                                                                                               \
    POINT(asleep_set)                                                                                                  \
    POINT(watch_set)                                                                                                   \
    POINT(watch_cleared)                                                                                               \
    POINT(keeper_set)                                                                                                  \
    POINT(keeper_cleared)                                                                                              \
    POINT(door_entered)                                                                                                \
    POINT(door_left)                                                                                                   \
    POINT(attached)                                                                                                    \
    POINT(mute_stored)                                                                                                 \
    POINT(bell_bound)                                                                                                  \
    POINT(bell_taken_down)                                                                                             \
    POINT(publisher_entered)                                                                                           \
    POINT(detached)                                                                                                    \
    POINT(publisher_left)                                                                                              \
    POINT(looked_up_again)                                                                                             \
    POINT(sending_stopped)                                                                                             \
    POINT(bells_unlinked)                                                                                              \
    POINT(ring_unlinked)                                                                                               \
    POINT(roster_unlinked)                                                                                             \
    POINT(child_attached)                                                                                              \
    POINT(persist_stored)                                                                                              \
    POINT(format_ring_sized)                                                                                           \
    POINT(format_locked)                                                                                               \
    POINT(format_written)                                                                                              \
    POINT(format_ring_signed)                                                                                          \
    POINT(format_roster_signed)                                                                                        \
    POINT(alone_counted)                                                                                               \
    POINT(alone_returned)                                                                                              \
    POINT(alone_forgotten)                                                                                             \
    POINT(alone_group)                                                                                                 \
    POINT(alone_locked)                                                                                                \
    POINT(alone_slot)                                                                                                  \
    POINT(alone_waiters)                                                                                               \
    POINT(alone_used)                                                                                                  \
    POINT(alone_gated)                                                                                                 \
    POINT(alone_reopened)

#ifdef EB_TEST_POINTS
#define EB_POINT_NAME(name) EB_POINT_##name,
enum { EB_TEST_POINT_LIST(EB_POINT_NAME) EB_POINT_COUNT };
#undef EB_POINT_NAME
void eb_test_point(int point);
extern void (*eb_test_hook)(int point); /* for tests in C: set before any thread runs, NULL for none */
#define EB_TEST_POINT(name) eb_test_point(EB_POINT_##name)
#else
#define EB_TEST_POINT(name) ((void)0)
#endif

#endif
