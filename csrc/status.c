/* What a status means, and what this thread's last damage was about. */
#include "internal.h"

static _Thread_local const char *detail = "";

int eb_damaged(const char *what)
{
    detail = what;
    return EB_DAMAGED;
}

int eb_mismatch(const char *what)
{
    detail = what;
    return EB_VERSION;
}

const char *eb_detail(void)
{
    return detail;
}

const char *eb_strerror(int status)
{
    switch (status) {
    case EB_NOTHING: return "the time is up";
    case EB_INTERRUPTED: return "interrupted";
    case EB_FULL: return "the ring is full";
    case EB_BUSY: return "another process kept a lock until the deadline";
    case EB_CLOSED: return "closed";
    case EB_DAMAGED: return "the shared memory is damaged";
    case EB_VERSION: return "the shared memory is of another version or build";
    case EB_UNDECIDED: return "a topic without a verdict";
    case EB_LARGE: return "the next record needs a larger buffer";
    case EB_TOO_LARGE: return "the event is larger than the ring takes";
    case EB_NO_SLOT: return "every subscriber slot is taken";
    case EB_TABLE_FULL: return "the topic table is full";
    case EB_SYSTEM: return "the operating system refused";
    case EB_CONFLICT: return "a group of this name has other terms";
    case EB_EXHAUSTED: return "delivered as often as allowed";
    case EB_INHERITED: return "the subscription belongs to another process";
    case EB_FORKED: return "the bus belongs to another process";
    case EB_ROBBED: return "its descriptors were closed underneath";
    case EB_ORPHAN: return "forked without a descriptor of its own";
    case EB_REMOVED: return "its name was removed";
    case EB_AHEAD: return "the sequence to start at comes after the next one";
    case EB_EXCLUDED: return "another member excludes this one, or is excluded by it";
    default: return status >= 0 ? "success" : "an unknown status";
    }
}
