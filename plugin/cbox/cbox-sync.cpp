#include "plugin/cbox/cbox-driver.hpp"

namespace replica {

// Requests to expunge, written by something that knows no cbox (an older index, a foreign tool): they go through the
// same sequence as a client's. A refusal leaves them where they are, for the next sync.
static void expunge_requested(struct mailbox *box, const std::vector<uint32_t> &uids) {
    auto *t = mailbox_transaction_begin(box, static_cast<enum mailbox_transaction_flags>(0), "requested expunges");
    struct mail *mail = mail_alloc(t, static_cast<enum mail_fetch_field>(0), nullptr);
    for (uint32_t uid : uids)
        if (mail_set_uid(mail, uid)) mail_expunge(mail);
    mail_free(&mail);
    if (mailbox_transaction_commit(&t) < 0)
        e_info(box->event, "Requested expunges are refused for now: %s", mailbox_get_last_internal_error(box, nullptr));
}

static std::vector<uint32_t> drain(struct mail_index_sync_ctx *sync, struct mail_index_view *view) {
    std::vector<uint32_t> requested;
    struct mail_index_sync_rec rec;
    while (mail_index_sync_next(sync, &rec)) {
        uint32_t seq1, seq2, uid;
        if (rec.type != MAIL_INDEX_SYNC_TYPE_EXPUNGE ||
            !mail_index_lookup_seq_range(view, rec.uid1, rec.uid2, &seq1, &seq2))
            continue;
        for (uint32_t seq = seq1; seq <= seq2; seq++) {
            mail_index_lookup_uid(view, seq, &uid);
            requested.push_back(uid);
        }
    }
    return requested;
}

static void mark_recent(struct mailbox *box, struct mail_index_view *view) {
    const struct mail_index_header *hdr = mail_index_get_header(view);
    uint32_t seq1, seq2;
    if (mail_index_lookup_seq_range(view, hdr->first_recent_uid, hdr->next_uid, &seq1, &seq2))
        mailbox_recent_flags_set_seqs(box, view, seq1, seq2);
}

// What Dovecot repaired may differ from what the log has: the mark says so.
static int unset_fscked(struct mailbox *box, struct mail_index_view *view, struct mail_index_transaction *trans) {
    if ((mail_index_get_header(view)->flags & MAIL_INDEX_HDR_FLAG_FSCKD) == 0) return 0;
    mail_index_unset_fscked(trans);
    return cbox_set_unlogged(box, view, trans);
}

// 1: done, 0: requests to expunge are pending, in requested_r; -1: error.
static int sync_once(struct mailbox *box, std::vector<uint32_t> *requested_r) {
    int flags = int(index_storage_get_sync_flags(box)) | int(MAIL_INDEX_SYNC_FLAG_AVOID_FLAG_UPDATES);
    bool fscked = (mail_index_get_header(box->view)->flags & MAIL_INDEX_HDR_FLAG_FSCKD) != 0;
    if (!fscked) flags |= MAIL_INDEX_SYNC_FLAG_REQUIRE_CHANGES;
    struct mail_index_sync_ctx *sync;
    struct mail_index_view *view;
    struct mail_index_transaction *trans;
    int ret =
        index_storage_expunged_sync_begin(box, &sync, &view, &trans, static_cast<enum mail_index_sync_flags>(flags));
    if (ret <= 0) return ret < 0 ? -1 : 1;
    mark_recent(box, view);
    *requested_r = drain(sync, view);
    if (!requested_r->empty() || unset_fscked(box, view, trans) < 0) {
        mail_index_sync_rollback(&sync);
        ret = requested_r->empty() ? -1 : 0;
    } else if (mail_index_sync_commit(&sync) < 0) {
        mailbox_set_index_error(box);
        ret = -1;
    }
    index_storage_expunging_deinit(box);
    return ret;
}

static int sync(struct mailbox *box) {
    std::vector<uint32_t> requested;
    int ret = sync_once(box, &requested);
    if (ret != 0) return ret;
    expunge_requested(box, requested);
    return sync_once(box, &requested) < 0 ? -1 : 0;
}

struct mailbox_sync_context *cbox_sync_init(struct mailbox *box, enum mailbox_sync_flags flags) {
    int ret = 0;
    if ((flags & MAILBOX_SYNC_FLAG_FORCE_RESYNC) != 0) ret = cbox_rebuild(box);
    if (ret == 0 && index_mailbox_want_full_sync(box, flags)) ret = sync(box);
    if (box->storage->rebuild_list_index && mail_storage_list_index_rebuild_and_set_uncorrupted(box->storage) < 0)
        ret = -1;
    return index_mailbox_sync_init(box, flags, ret < 0);
}

} // namespace replica
