/* What is sent together, its bytes where they are: between the core and `eventbus._fast`. It follows eventbus.h. */

/* Of an event to send, what stands before its body, and that: neither is NULL, also where it is empty. */
typedef struct {
    const char *head;
    const char *body;
} eb_part;

/* As eb_send_batch. */
int eb_send_parts(eb_bus *bus, const eb_outgoing *events, const eb_part *parts, int count, int64_t deadline);

/* As eb_send and eb_send_raw, for who has others wait meanwhile, so without a wait or a system call of any length. What they return
 * when it is sent is EB_OK, or EB_OWED: then eb_send_owed is called with the same route, which wakes. With all else nothing was
 * sent: the other ones do it, or say why not. */
enum { EB_OWED = 1 };
int eb_send_at_once(const void *route, const char *json);
int eb_send_raw_at_once(const void *route, const char *path, size_t path_length, const char *data, size_t length);
void eb_send_owed(const void *route);
