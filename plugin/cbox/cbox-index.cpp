#include <algorithm>
#include <ctime>
#include "plugin/cbox/cbox-index.hpp"

namespace replica {

namespace {

bool lock_is_held(struct mail_index *index) {
    struct mail_transaction_log_file *head = index->log->head;
    struct file_lock *lock = nullptr;
    // Only a lock that is held says "held": whatever else is wrong, the real attempt will tell.
    if (mail_index_lock_fd(index, head->filepath, head->fd, F_WRLCK, 0, &lock) == 0) return true;
    if (lock != nullptr) file_unlock(&lock);
    return false;
}

uint64_t now_ms() {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<uint64_t>(now.tv_sec) * 1000 + static_cast<uint64_t>(now.tv_nsec) / 1000000;
}

} // namespace

IndexManners::IndexManners(struct mail_index *index, bool fsync)
    : index_(index), lock_secs_(index->set.max_lock_timeout_secs), fsync_mode_(index->set.fsync_mode),
      fsync_mask_(index->set.fsync_mask) {
    index->set.max_lock_timeout_secs = 1;
    if (!fsync) mail_index_set_fsync_mode(index, FSYNC_MODE_NEVER, static_cast<mail_index_fsync_mask>(0));
}

IndexManners::~IndexManners() {
    index_->set.max_lock_timeout_secs = lock_secs_;
    mail_index_set_fsync_mode(index_, fsync_mode_, fsync_mask_);
}

bool index_lock_is_free(struct mail_index *index, unsigned lock_ms) {
    if (index->set.lock_method == FILE_LOCK_METHOD_DOTLOCK) return true; // cannot be looked at
    const uint64_t until = now_ms() + lock_ms;
    for (long pause_ms = 1; lock_is_held(index); pause_ms = std::min(pause_ms * 2, 20L)) {
        if (now_ms() >= until) return false;
        const struct timespec pause = {0, pause_ms * 1000000};
        nanosleep(&pause, nullptr);
    }
    return true;
}

Verdict index_lock(struct mailbox *box, bool expunging, unsigned lock_ms, CboxLock *lock_r, std::string *text_r) {
    if (!index_lock_is_free(box->index, lock_ms)) {
        *text_r = "the mailbox's index is locked by another process";
        return Verdict::retry;
    }
    if (cbox_lock(box, expunging, lock_r) < 0) {
        *text_r = mailbox_get_last_internal_error(box, nullptr);
        return Verdict::retry;
    }
    return Verdict::applied;
}

struct mail_index_transaction *index_begin_applied(struct mail_index_view *view) {
    return mail_index_transaction_begin(view,
                                        static_cast<mail_index_transaction_flags>(MAIL_INDEX_TRANSACTION_FLAG_EXTERNAL |
                                                                                  MAIL_INDEX_TRANSACTION_FLAG_SYNC));
}

void index_add_keywords(struct mail_index_transaction *trans, uint32_t seq, const std::vector<std::string> &names) {
    if (names.empty()) return;
    std::vector<const char *> list;
    for (const std::string &name : names)
        list.push_back(name.c_str());
    list.push_back(nullptr);
    struct mail_keywords *keywords = mail_index_keywords_create(trans->view->index, list.data());
    mail_index_update_keywords(trans, seq, MODIFY_ADD, keywords);
    mail_index_keywords_unref(&keywords);
}

} // namespace replica
