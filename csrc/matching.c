/* Whether a system or a kind is meant by the text of a pattern, as eventbus/patterns.py reads it. Texts come from memory
 * that others may scribble over: where one is no pattern, or takes too long, it is said to mean every name. */
#include "internal.h"

#define SEGMENTS (EB_NAME_LIMIT / 2 + 1) /* of a pattern, at most */
#define STEPS 4096                       /* of matching one segment, whose alternations stand for 64 names at most */

typedef struct {
    const char *at;
    const char *end;
} text;

/* Up to the next `separator` outside of brackets; what comes after it stays in `rest`. */
static text cut(text *rest, char separator)
{
    text part = {rest->at, rest->at};
    int depth = 0;
    for (; part.end != rest->end && (depth > 0 || *part.end != separator); part.end++)
        depth += (*part.end == '(') - (*part.end == ')');
    rest->at = part.end == rest->end ? part.end : part.end + 1;
    return part;
}

static bool is(text part, const char *word)
{
    size_t length = strlen(word);
    return (size_t)(part.end - part.at) == length && memcmp(part.at, word, length) == 0;
}

static bool segment_means(text segment, text name, int *steps)
{
    for (; segment.at != segment.end && *segment.at != '('; segment.at++, name.at++)
        if (name.at == name.end || *name.at != *segment.at) return false;
    if (segment.at == segment.end) return name.at == name.end;
    const char *close = memchr(segment.at, ')', (size_t)(segment.end - segment.at));
    if (!close || --*steps <= 0) return true;
    text choices = {segment.at + 1, close};
    do {
        text choice = cut(&choices, '|');
        size_t length = (size_t)(choice.end - choice.at);
        bool begins = (size_t)(name.end - name.at) >= length && memcmp(name.at, choice.at, length) == 0;
        text after = {name.at + length, name.end}, behind = {close + 1, segment.end};
        if (begins && segment_means(behind, after, steps)) return true;
    } while (choices.at != choices.end);
    return false;
}

/* The places in a pattern that the segments of a name so far can have led to. A final "*" with something before it may
 * stand for nothing, as "**" may. */
typedef struct {
    text segments[SEGMENTS];
    size_t count;
    bool places[SEGMENTS + 1];
} machine;

static void skip_what_may_be_nothing(machine *of)
{
    for (size_t i = 0; i < of->count; i++) {
        bool last = i > 0 && i + 1 == of->count && is(of->segments[i], "*");
        if (of->places[i] && (last || is(of->segments[i], "**"))) of->places[i + 1] = true;
    }
}

static void step(machine *of, text name, int *steps)
{
    for (size_t i = of->count + 1; i-- > 0;) {
        bool many = i < of->count && is(of->segments[i], "**");
        bool came = i > 0 && of->places[i - 1] && !is(of->segments[i - 1], "**");
        if (came) came = is(of->segments[i - 1], "*") || segment_means(of->segments[i - 1], name, steps);
        of->places[i] = (of->places[i] && many) || came;
    }
    skip_what_may_be_nothing(of);
}

/* Whether the name begins as the pattern does, up to the last '.' before its first sign: what most names do not. */
static bool may_mean(text pattern, text name)
{
    size_t length = 0;
    const char *at = pattern.at;
    for (; at != pattern.end && *at != '*' && *at != '('; at++)
        if (*at == '.') length = (size_t)(at - pattern.at);
    if (at == pattern.end) length = (size_t)(at - pattern.at);
    size_t named = (size_t)(name.end - name.at);
    return named >= length && memcmp(name.at, pattern.at, length) == 0 &&
           (length == 0 || named == length || name.at[length] == '.');
}

static bool pattern_means(text pattern, text name)
{
    if (!may_mean(pattern, name)) return false;
    machine of; /* what of it is used is set: a few of its many segments */
    int steps = STEPS;
    of.count = 0;
    memset(of.places, 0, sizeof of.places);
    of.places[0] = true;
    do {
        if (of.count == SEGMENTS) return true;
        of.segments[of.count++] = cut(&pattern, '.');
    } while (pattern.at != pattern.end);
    skip_what_may_be_nothing(&of);
    do
        step(&of, cut(&name, '.'), &steps);
    while (name.at != name.end);
    return of.places[of.count];
}

/* Of one pattern, or of several with a '|' between each two. */
bool eb_means(const char *patterns, const char *name, size_t length)
{
    text rest = {patterns, patterns + strlen(patterns)};
    do
        if (pattern_means(cut(&rest, '|'), (text){name, name + length})) return true;
    while (rest.at != rest.end);
    return false;
}
