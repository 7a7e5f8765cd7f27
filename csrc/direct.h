/* What is sent together, its bytes where they are: between the core and `eventbus._fast`. It follows eventbus.h. */

/* Of an event to send, what stands before its body, and that: neither is NULL, also where it is empty. */
typedef struct {
    const char *head;
    const char *body;
} eb_part;

/* As eb_send_batch. */
int eb_send_parts(eb_bus *bus, const eb_outgoing *events, const eb_part *parts, int count, int64_t deadline);
