/* What a subscriber looks at in the ring itself: between the core and `eventbus._fast`. It follows eventbus.h.
 *
 * Each eb_beside of a batch that has a view has its data there, in place. It is good until its reader says that it asks for
 * what comes after it; and while somebody exports it then, its bytes stay what they are: the cursor waits, or they are copied. */

/* The reader hands out what comes before the sequence `next`; EB_CLOSED where it may not any more: another thread has left. */
int eb_views_lend(eb_subscription *sub, uint64_t next);
/* And it asks for more, after that. */
int eb_views_asked(eb_subscription *sub, uint64_t next);
void eb_view_hold(eb_view *view);     /* its memory */
void eb_view_release(eb_view *view);  /* nobody needs that any more */
int eb_view_export(eb_view *view);    /* EB_OK, or EB_CLOSED once it is no good any more */
void eb_view_exported(eb_view *view); /* the end of one export; by whoever holds it */
/* Bytes of the ring that the owner of the slot has read, from the first on that it still looks at. */
int64_t eb_viewed_by(const eb_bus *bus, uint32_t slot);
