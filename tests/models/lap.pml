/* Overwriting and lap detection: csrc/ring.c (eb_ring_room, eb_ring_write, eb_ring_commit, eb_ring_oldest) and
 * csrc/single.c (take, go_on_after_lap), for a subscriber that no gate protects.
 *
 * The publisher is whoever has the publish lock; killed at any step, the next one, which repairs, goes on where `committed` says.
 * Records have two or three words: the sequence, the length, and a body word in every second one. Stores are not
 * visible at once: they wait in a buffer, which empties by itself. Stores with release leave it in their order; a relaxed
 * one may overtake those before it, but none of those with release behind it overtakes it. Loads with acquire happen in
 * their order. That is weaker than x86 and about what ARM may do; it is C11 but for stores that one reader sees and
 * another one does not yet. A subscriber sees committed positions in order.
 *
 * CHECK batch -DEVENTS=6 -DBATCH=2: the same of batches, each of which overwrites all that was there
 * CHECK lap -DEVENTS=5 -DBATCH=1 -DDEATHS=1: what is kept is one whole record, in order; kept and lost are together all that were sent; no lap is taken for damage
 *
 * MUTANT oldest_relaxed batch: the oldest position is stored relaxed
 * MUTANT words_relaxed lap: the words of a record are stored relaxed
 * MUTANT no_look_after_the_copy lap: no look at the oldest position after the copy
 * MUTANT oldest_after_words lap: the oldest position moves after the record was overwritten
 * MUTANT no_room_for_the_next_sequence lap: room for the record only, not for the sequence word behind it
 * MUTANT oldest_read_once lap: the oldest position and its sequence are read without looking again
 * MUTANT commit_before_sequence lap: a record is shown before the next sequence is written
 */
#include "step.h"

#define CAPACITY 7
#define BUFFER 3
#define SIZE(sequence) (2 + ((sequence) & 1))
#define AT(position) ((position) % CAPACITY)
#define BODY(sequence) (100 + (sequence))
#define COMMITTED CAPACITY
#define OLDEST (CAPACITY + 1)

byte seen[CAPACITY + 2]; /* what readers see: the words of the ring, then `committed` and `oldest` */
byte mine[CAPACITY + 2]; /* what publishers see */
byte place[BUFFER], value[BUFFER];
bool relaxed[BUFFER];
byte waiting; /* stores in the buffer */
bool begun, over;

inline push(to, what, how)
{
    waiting < BUFFER;
    mine[to] = what;
    place[waiting] = to;
    value[waiting] = what;
    relaxed[waiting] = how;
    waiting++
}

#ifdef MUTANT_words_relaxed
#define WORD_ORDER true
#else
#define WORD_ORDER false
#endif
#ifdef MUTANT_oldest_relaxed
#define OLDEST_ORDER true
#else
#define OLDEST_ORDER false
#endif

/* The one at `which` becomes visible. */
inline leave_buffer(which)
{
    seen[place[which]] = value[which];
    waiting--;
    for (i : which .. BUFFER - 2) {
        place[i] = place[i + 1];
        value[i] = value[i + 1];
        relaxed[i] = relaxed[i + 1]
    }
    place[waiting] = 0;
    value[waiting] = 0;
    relaxed[waiting] = false;
    i = 0
}

active proctype memory()
{
    byte i;
    atomic { seen[0] = 1; mine[0] = 1; begun = true } /* the sequence of the first record */
end:
    do
    :: atomic { waiting > 0 -> leave_buffer(0) }
    :: atomic { waiting > 1 && relaxed[1] && place[1] != place[0] -> leave_buffer(1) }
    :: atomic { waiting > 2 && relaxed[2] && place[2] != place[0] && place[2] != place[1] -> leave_buffer(2) }
    od
}

active proctype publisher()
{
    byte i, sequence, position, oldest, stop;
    begun;
next_owner:
    do
    :: mine[AT(mine[COMMITTED])] <= EVENTS ->
        position = mine[COMMITTED];
        sequence = mine[AT(position)];
        stop = position;
        for (i : 0 .. BATCH - 1) {
            stop = stop + SIZE(sequence + i)
        }
        /* eb_ring_room: what the records and the next sequence word will overwrite */
        oldest = mine[OLDEST];
        do
#ifdef MUTANT_no_room_for_the_next_sequence
        :: stop - oldest > CAPACITY -> oldest = oldest + SIZE(mine[AT(oldest)])
#else
        :: stop + 1 - oldest > CAPACITY -> oldest = oldest + SIZE(mine[AT(oldest)])
#endif
        :: else -> break
        od;
#ifndef MUTANT_oldest_after_words
        STEP(publish_claimed, push(OLDEST, oldest, OLDEST_ORDER)); /* [lap] */
#endif
        i = 0;
        do
        :: i < BATCH ->
            STEP(_, push(AT(position), sequence, WORD_ORDER));
            STEP(publish_header, push(AT(position + 1), SIZE(sequence), WORD_ORDER));
            if
            :: SIZE(sequence) == 3 -> STEP(_, push(AT(position + 2), BODY(sequence), WORD_ORDER)) /* [lap] */
            :: else
            fi;
            position = position + SIZE(sequence);
            sequence++;
            i++
        :: else -> break
        od;
        i = 0;
#ifdef MUTANT_oldest_after_words
        STEP(publish_claimed, push(OLDEST, oldest, OLDEST_ORDER));
#endif
#ifdef MUTANT_commit_before_sequence
        STEP(publish_committed, push(COMMITTED, stop, false));
        STEP(publish_copied, push(AT(stop), sequence, WORD_ORDER))
#else
        STEP(publish_copied, push(AT(stop), sequence, WORD_ORDER)); /* [commit] */
        STEP(publish_committed, push(COMMITTED, stop, false)) /* [commit] */
#endif
    :: else -> break
    od;
    goto done;
#if DEATHS > 0
dead: /* its stores are on their way all the same; the next owner sees them all by way of the lock */
    i = 0;
    position = 0;
    sequence = 0;
    oldest = 0;
    stop = 0;
    goto next_owner;
#endif
done:
    over = true
}

#define LOAD(to, from) atomic { to = seen[from] }

/* go_on_after_lap with eb_ring_oldest. */
inline go_on()
{
    do
    :: LOAD(at, OLDEST); /* [lap] */
        LOAD(word, AT(at)); /* [lap] */
#ifdef MUTANT_oldest_read_once
        break;
#endif
        LOAD(oldest, OLDEST);
        if
        :: oldest > at -> skip
        :: else -> break
        fi
    od;
    assert(word >= sequence); /* else damage */
    lost = lost + word - sequence;
    position = at;
    sequence = word
}

active proctype subscriber()
{
    byte position, sequence = 1, committed, oldest, at, word, size, body;
    byte kept, lost;
    bool last;
    do
    :: last = over && !waiting;
        LOAD(committed, COMMITTED); /* [commit] */
        do
        :: position >= committed -> break
        :: else ->
            LOAD(oldest, OLDEST); /* [lap] */
            if
            :: oldest > position -> go_on()
            :: else ->
                assert(committed - position <= CAPACITY);
                LOAD(word, AT(position)); /* [lap] */
                LOAD(size, AT(position + 1));
                body = 0;
                if
                :: size == 3 && position + size <= committed -> LOAD(body, AT(position + 2)) /* [lap] */
                :: else
                fi;
                /* receive_read */
#ifndef MUTANT_no_look_after_the_copy
                LOAD(oldest, OLDEST); /* [lap] */
#endif
                if
                :: oldest > position -> go_on()
                :: else ->
                    assert(word == sequence);
                    assert(size == SIZE(sequence) && position + size <= committed);
                    assert(size == 2 || body == BODY(sequence));
                    kept++;
                    sequence++;
                    position = position + size
                fi
            fi
        od;
        oldest = 0;
        at = 0;
        word = 0;
        size = 0;
        body = 0;
        if
        :: last -> break
        :: else
        fi
    od;
    assert(kept + lost == EVENTS)
}
