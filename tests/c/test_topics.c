/* The topic table: interned once, full, damaged; names that travel in the record. */
#include "scene.h"

static int add(eb_bus *bus, const char *system, const char *kind)
{
    char names[512];
    size_t first = strlen(system), second = strlen(kind);
    memcpy(names, system, first);
    memcpy(names + first, kind, second);
    return eb_topic(bus, names, first, second, EB_POLL);
}

static void a_topic_is_a_pair_of_names(void)
{
    scene it = scene_small();
    char names[512];
    uint32_t lengths[2];
    EQUAL("the first is number zero", add(it.bus, "ab", "c"), 0);
    EQUAL("the same letters split elsewhere are another", add(it.peer, "a", "bc"), 1);
    EQUAL("the same pair is the same topic, whoever asks", add(it.peer, "ab", "c"), 0);
    EQUAL("its names can be read", eb_topic_names(it.peer, 1, names, lengths), EB_OK);
    CHECK("as they were given", lengths[0] == 1 && lengths[1] == 2 && memcmp(names, "abc", 3) == 0);
    EQUAL("a topic that is not there has none", eb_topic_names(it.peer, 2, names, lengths), EB_DAMAGED);
    EQUAL("nor a count", eb_topic_count(it.peer, EB_TOPICS), EB_NOTHING);
    EQUAL("a name has a limit", eb_topic(it.bus, names, EB_NAME_LIMIT + 1, 1, EB_POLL), EB_TOO_LARGE);
    EQUAL("both have", eb_topic(it.bus, names, 1, EB_NAME_LIMIT + 1, EB_POLL), EB_TOO_LARGE);
    scene_end(&it);
}

static void the_table_ends_with_its_entries(void)
{
    scene it = scene_small();
    char kind[16];
    for (int i = 0; i < EB_TOPICS; i++) {
        snprintf(kind, sizeof kind, "k%d", i);
        EQUAL("there is room", add(it.bus, "s", kind), i);
    }
    EQUAL("one more has none", add(it.bus, "s", "one.more"), EB_TABLE_FULL);
    EQUAL("those that are there are found", add(it.peer, "s", "k4095"), EB_TOPICS - 1);
    EQUAL("the last can be sent", put(it.peer, EB_TOPICS - 1, 1), EB_OK);
    EQUAL("and is counted", eb_topic_count(it.bus, EB_TOPICS - 1), 1);
    EQUAL("a number past the last cannot", put(it.peer, EB_TOPICS, 1), EB_DAMAGED);
    scene_end(&it);
}

static void the_heap_ends_to_the_byte(void)
{
    scene it = scene_small();
    char names[512];
    int used = 0, topic = 0;
    memset(names, 'x', sizeof names);
    for (; EB_HEAP_BYTES - used >= 510; used += 510) {
        int tag = snprintf(names, 8, "%07d", topic);
        names[tag] = 'x';
        EQUAL("there is room for the longest names", eb_topic(it.bus, names, 255, 255, EB_POLL), topic++);
    }
    size_t rest = EB_HEAP_BYTES - (size_t)used;
    EQUAL("one byte more than there is has none", eb_topic(it.bus, names, rest, 1, EB_POLL), EB_TABLE_FULL);
    EQUAL("what fits exactly has", eb_topic(it.bus, names, rest - 1, 1, EB_POLL), topic);
    EQUAL("nothing has after it", eb_topic(it.bus, "yz", 1, 1, EB_POLL), EB_TABLE_FULL);
    EQUAL("the last is found", eb_topic(it.peer, names, rest - 1, 1, EB_POLL), topic);
    scene_end(&it);
}

static void damaged_entries_are_refused(void)
{
    scene it = scene_small();
    char names[512];
    uint32_t lengths[2];
    make_topics(it.bus, 3);
    eb_topic_entry *entry = &it.bus->ring.header->topics[2];
    const uint32_t offsets[] = {EB_HEAP_BYTES, EB_HEAP_BYTES - 2, 0xFFFFFFFF};
    for (int i = 0; i < 3; i++) {
        entry->name_offset = offsets[i];
        EQUAL("names outside of the heap are not read", eb_topic_names(it.bus, 2, names, lengths), EB_DAMAGED);
        EQUAL("not looked through", add(it.bus, "new", "one"), EB_DAMAGED);
        EQUAL("and not added to", eb_ring_topic_add(&it.bus->ring, "xy", 1, 1), EB_DAMAGED);
        EQUAL("those before it are found", add(it.bus, "a", "k1"), 1);
    }
    entry->name_offset = EB_HEAP_BYTES - 3;
    EQUAL("at its very end they are", eb_topic_names(it.bus, 2, names, lengths), EB_OK);
    atomic_store(&it.bus->ring.header->topic_count, 0xFFFFFFFF);
    EQUAL("a count past the table is the table's", add(it.bus, "a", "never"), EB_TABLE_FULL);
    scene_end(&it);
}

static void a_record_of_a_topic_that_is_not_there_is_refused(void)
{
    scene it = scene_small();
    make_topics(it.bus, 1);
    eb_terms terms = {.system = "", .kind = "", .name = "", .start = EB_LATEST};
    int status;
    eb_subscription *sub = subscribe(it.bus, &terms, EB_POLL, &status);
    EQUAL("it can be sent", put(it.peer, 9, 1), EB_OK);
    EQUAL("nobody can be asked about it", eb_receive(sub, 1, EB_POLL), EB_DAMAGED);
    eb_walk walk = {.count = 0};
    EQUAL("nor counted", eb_backlog(sub, &walk), EB_DAMAGED);
    leave(sub);
    scene_end(&it);
}

static void a_topic_number_that_the_table_cannot_have_is_not_sent(void)
{
    scene it = scene_small();
    const uint32_t numbers[] = {EB_TOPICS, EB_OWN_TOPICS, EB_INLINE - 1, UINT32_MAX};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        const eb_outgoing event = {.topic = numbers[i], .body_length = 3};
        EQUAL("in a batch", eb_send_batch(it.bus, &event, 1, "[1]", 3, EB_POLL), EB_DAMAGED);
    }
    EQUAL("nothing was sent", sent(it.bus), 0);
    scene_end(&it);
}

static int put_inline(eb_bus *bus, const char *names, uint32_t system, uint32_t kind, const char *json)
{
    char text[600];
    int length = snprintf(text, sizeof text, "%s%s", names, json);
    const eb_outgoing event = {.topic = EB_INLINE,
                               .system_length = system,
                               .kind_length = kind,
                               .body_length = (uint32_t)length - system - kind};
    return eb_send_batch(bus, &event, 1, text, (size_t)length, EB_POLL);
}

static int put_inline_raw(eb_bus *bus, const char *names, uint32_t system, uint32_t kind, const char *path,
                          const char *data)
{
    char text[600];
    int length = snprintf(text, sizeof text, "%s%s%s", names, path, data);
    const eb_outgoing event = {.topic = EB_INLINE,
                               .system_length = system,
                               .kind_length = kind,
                               .path_length = (uint32_t)strlen(path),
                               .body_length = (uint32_t)strlen(data)};
    return eb_send_batch(bus, &event, 1, text, (size_t)length, EB_POLL);
}

static void expect_beside(const eb_batch *batch, uint32_t at, uint32_t index, const char *bytes)
{
    const eb_beside *beside = &batch->beside[at];
    uint64_t length = (uint64_t)beside->system_length + beside->kind_length + beside->path_length + beside->data_length;
    EQUAL("it belongs to its event", beside->index, index);
    EQUAL("it has its length", length, strlen(bytes));
    CHECK("and its bytes", memcmp(batch->buffer + beside->offset, bytes, length) == 0);
}

static void names_that_travel_in_a_record_get_a_number_of_the_subscriptions_own(void)
{
    scene it = scene_small();
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    eb_batch *batch = eb_batch_of(sub);
    EQUAL("text", put_inline(it.peer, "sys.akind", 5, 4, "[41]"), EB_OK);
    EQUAL("data", put_inline_raw(it.peer, "bc", 1, 1, "/p", "raw"), EB_OK);
    EQUAL("a number", put(it.peer, 0, 42), EB_OK);
    EQUAL("text again", put_inline(it.peer, "sys.akind", 5, 4, "[43]"), EB_OK);
    EQUAL("others", put_inline(it.peer, "sys.akin", 4, 4, "[44]"), EB_OK);
    EQUAL("all are counted", atomic_load(&it.bus->ring.header->inline_count), 4);
    EQUAL("the first is asked about", eb_receive(sub, 8, EB_POLL), EB_UNDECIDED);
    CHECK("by its names", batch->undecided == EB_INLINE && batch->system_length == 5 && batch->kind_length == 4);
    CHECK("both", memcmp(batch->names, "sys.akind", 9) == 0);
    EQUAL("it gets a number", eb_decide(sub, EB_INLINE, 1), EB_TOPICS);
    EQUAL("heard, it is received", eb_receive(sub, 8, EB_POLL), 1);
    CHECK("its text in the array", batch->head.json_length == 4 && memcmp(batch->buffer, "[41]", 4) == 0);
    CHECK("by its number", batch->topic[0] == EB_TOPICS && batch->head.beside_count == 0);
    EQUAL("the next is asked about", eb_receive(sub, 8, EB_POLL), EB_UNDECIDED);
    EQUAL("it gets the next number", eb_decide(sub, EB_INLINE, 1), EB_TOPICS + 1);
    EQUAL("data come with text whose names are known", eb_receive(sub, 8, EB_POLL), 3);
    CHECK("both texts in the array", batch->head.json_count == 2 && memcmp(batch->buffer, "[42,\n43]", 8) == 0);
    CHECK("by number", batch->topic[0] == EB_TOPICS + 1 && batch->topic[1] == 0 && batch->topic[2] == EB_TOPICS);
    expect_beside(batch, 0, 0, "/praw");
    EQUAL("names cut elsewhere are others", eb_receive(sub, 8, EB_POLL), EB_UNDECIDED);
    EQUAL("with a number", eb_decide(sub, EB_INLINE, 0), EB_TOPICS + 2);
    EQUAL("unheard, it is skipped", eb_receive(sub, 8, EB_POLL), EB_NOTHING);
    EQUAL("once more", put_inline(it.peer, "sys.akin", 4, 4, "[45]"), EB_OK);
    EQUAL("for good", eb_receive(sub, 8, EB_POLL), EB_NOTHING);
    leave(sub);
    scene_end(&it);
}

static void with_all_numbers_given_names_are_asked_about_one_by_one(void)
{
    scene it = scene_small();
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    eb_batch *batch = eb_batch_of(sub);
    char names[16];
    for (int i = 0; i < EB_OWN_TOPICS; i++) {
        snprintf(names, sizeof names, "s%06dk", i);
        EQUAL("a number", eb_names_add(&sub->names, names, 7, 1, EB_HEARD), i);
    }
    EQUAL("that stays", eb_names_find(sub->names, "s000041k", 7, 1), 41);
    EQUAL("none is left", eb_names_add(&sub->names, "sk", 1, 1, EB_HEARD), EB_TABLE_FULL);
    for (int i = 0; i < 2; i++) {
        EQUAL("text", put_inline(it.peer, "sk", 1, 1, "[41]"), EB_OK);
        EQUAL("is asked about", eb_receive(sub, 8, EB_POLL), EB_UNDECIDED);
        EQUAL("for this once", eb_decide(sub, EB_INLINE, 1), EB_INLINE);
        EQUAL("and received", eb_receive(sub, 8, EB_POLL), 1);
        expect_beside(batch, 0, 0, "sk");
    }
    leave(sub);
    scene_end(&it);
}

static void the_longest_names_come_whole(void)
{
    scene it = scene_small();
    eb_subscription *sub = join(it.bus, EB_LATEST, false);
    char names[511];
    memset(names, 'n', 510);
    names[510] = 0;
    EQUAL("they are sent", put_inline(it.peer, names, 255, 255, "[1]"), EB_OK);
    EQUAL("asked about", eb_receive(sub, 1, EB_POLL), EB_UNDECIDED);
    CHECK("whole", eb_batch_of(sub)->system_length == 255 && memcmp(eb_batch_of(sub)->names, names, 510) == 0);
    EQUAL("numbered", eb_decide(sub, EB_INLINE, 1), EB_TOPICS);
    EQUAL("and received", next(sub), 1);
    EQUAL("by the number", eb_batch_of(sub)->topic[0], EB_TOPICS);
    leave(sub);
    scene_end(&it);
}

int main(void)
{
    RUN(a_topic_is_a_pair_of_names);
    RUN(the_table_ends_with_its_entries);
    RUN(the_heap_ends_to_the_byte);
    RUN(damaged_entries_are_refused);
    RUN(a_record_of_a_topic_that_is_not_there_is_refused);
    RUN(a_topic_number_that_the_table_cannot_have_is_not_sent);
    RUN(names_that_travel_in_a_record_get_a_number_of_the_subscriptions_own);
    RUN(with_all_numbers_given_names_are_asked_about_one_by_one);
    RUN(the_longest_names_come_whole);
    return checked();
}
