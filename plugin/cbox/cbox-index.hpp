// How the applier treats an index: bounded waits, no fsync of its own, both only while it is at work.
#pragma once
#include "plugin/cbox/cbox-private.hpp"

namespace replica {

// While it lives: lock waits end after a second, and commits do not fsync (a flush moves the stored position later).
class IndexManners {
public:
    IndexManners(struct mail_index *index, bool fsync);
    ~IndexManners();
    IndexManners(const IndexManners &) = delete;
    IndexManners &operator=(const IndexManners &) = delete;

private:
    struct mail_index *index_;
    unsigned lock_secs_;
    enum fsync_mode fsync_mode_;
    enum mail_index_fsync_mask fsync_mask_;
};

// Waits up to lock_ms until nobody holds the index's lock, without taking it. Dovecot itself waits in whole seconds and
// logs a timeout as an error, which a replica that only tries again later does not deserve.
bool index_lock_is_free(struct mail_index *index, unsigned lock_ms);

// The lock of every commit, had within about lock_ms. applied: it is held; retry: not had, text_r says why.
Verdict index_lock(struct mailbox *box, bool expunging, unsigned lock_ms, CboxLock *lock_r, std::string *text_r);

// One transaction whose log records say that it came from elsewhere.
struct mail_index_transaction *index_begin_applied(struct mail_index_view *view);

void index_add_keywords(struct mail_index_transaction *trans, uint32_t seq, const std::vector<std::string> &names);

} // namespace replica
