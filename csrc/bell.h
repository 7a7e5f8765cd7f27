/* Doorbells: bell.c, apart.c, porch.c, rouse.c, vigil.c, doze.c. */
#ifndef EVENTBUS_BELL_H
#define EVENTBUS_BELL_H

#include "internal.h"

/* That of a process and a bus; or of one subscription. */
struct eb_bell {
    eb_file file; /* a socket, at which it is rung; where there can be none, a pipe */
    uint64_t id;  /* of the socket's file; 0: nobody can ring it from outside */
    uint64_t bus; /* the identity of the bus, which its file is named after, too */
    _Atomic int holders;
};

/* What one subscription has for a loop that watches it by itself. */
struct eb_apart {
    eb_bell *bell;
    int watch; /* an epoll instance of the bell and the timer */
    int timer;
};

/* Of one who wakes many: the bells that answered, and those to be rung once the last flag is lowered. */
enum { EB_RUNG = 32 };
typedef struct {
    uint64_t id[EB_RUNG];
    bool answers[EB_RUNG], owed[EB_RUNG];
    uint32_t count;
} eb_rung;

/* bell.c */
int eb_ringer_make(eb_file *file);
int eb_bell_make(const eb_file *roster, uint64_t bus, bool silent, const eb_file *ringer, eb_bell **made);
bool eb_bell_whole(const eb_bell *bell);
bool eb_bell_ring(const eb_file *from, uint64_t bus, uint64_t id);
void eb_bell_chime(const eb_bell *bell);
void eb_bell_drain(const eb_bell *bell);
void eb_bell_take_down(eb_bell *bell);
void eb_bell_number_taken(eb_bell *bell, int fd);
void eb_bell_forget(eb_bell *bell);
void eb_bell_bury(uint64_t bus, uint64_t id);
void eb_bells_clear(uint64_t bus, bool living);

/* porch.c */
void eb_porch_open(eb_bus *bus);
bool eb_porch_has_ringer(eb_bus *bus);
void eb_porch_leave(eb_bus *bus);
void eb_porch_forget(eb_bus *bus);
void eb_porch_number_taken(eb_bus *bus, int fd);

/* rouse.c */
void eb_rouse(eb_bus *bus, uint32_t slot, eb_rung *rung);
void eb_ring_owed(eb_bus *bus, eb_rung *rung);
void eb_rouse_one(eb_bus *bus, const eb_group *group);
void eb_rouse_all(eb_bus *bus, const eb_group *group);
void eb_rouse_self(eb_subscription *sub);

void eb_roused_by(eb_subscription *sub, uint64_t bell);

/* apart.c */
int eb_apart_make(eb_subscription *sub);
void eb_apart_tell(const eb_apart *apart);
void eb_apart_until(const eb_apart *apart, int64_t until, bool anew);
void eb_apart_close(eb_apart *apart, bool ours);
void eb_apart_number_taken(eb_apart *apart, int fd);

/* vigil.c */
int eb_vigil_keep(eb_subscription *sub, eb_u32 *semaphore);
void eb_vigil_rest(const eb_subscription *sub);
void eb_vigil_end(eb_subscription *sub);

/* doze.c */
int eb_doze(eb_subscription *sub, const eb_bell *bell, int64_t *until);
void eb_rise(eb_subscription *sub);

#endif
