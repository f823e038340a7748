#include "plugin/cbox/cbox-driver.hpp"

namespace replica {

static bool keywords_change(const struct mail_index_transaction *trans) {
    if (!array_is_created(&trans->keyword_updates)) return false;
    const struct mail_index_transaction_keyword_update *update;
    array_foreach(&trans->keyword_updates, update) {
        if (array_is_created(&update->add_seq) && array_count(&update->add_seq) > 0) return true;
        if (array_is_created(&update->remove_seq) && array_count(&update->remove_seq) > 0) return true;
    }
    return false;
}

bool cbox_has_changes(const struct mail_index_transaction *trans) {
    return (array_is_created(&trans->appends) && array_count(&trans->appends) > 0) ||
           (array_is_created(&trans->updates) && array_count(&trans->updates) > 0) ||
           (array_is_created(&trans->expunges) && array_count(&trans->expunges) > 0) ||
           (array_is_created(&trans->modseq_updates) && array_count(&trans->modseq_updates) > 0) ||
           trans->min_highest_modseq != 0 || keywords_change(trans) || trans->attribute_updates != nullptr;
}

// Requests of mails that are gone, and doubles. In trans->expunges `uid` is still a sequence of trans->view.
static void settle_expunges(CboxRun &run) {
    auto *trans = run.trans;
    if (!array_is_created(&trans->expunges)) return;
    mail_index_transaction_sort_expunges(trans);
    uint32_t previous = 0;
    unsigned kept = 0, count;
    auto *expunges = array_get_modifiable(&trans->expunges, &count);
    for (unsigned i = 0; i < count; i++) {
        uint32_t uid, seq;
        mail_index_lookup_uid(trans->view, expunges[i].uid, &uid);
        if (expunges[i].uid == previous || !mail_index_lookup_seq(run.view, uid, &seq)) continue;
        previous = expunges[i].uid;
        expunges[kept++] = expunges[i];
        run.expunged_uids.push_back(uid);
    }
    array_delete(&trans->expunges, kept, count - kept);
    if (kept == 0) array_free(&trans->expunges);
}

// Updates of mails that are gone, and of mails that changed since the transaction's UNCHANGEDSINCE. Dovecot looks for
// the latter only if the view's highest MODSEQ rose, which an expunge by another session hides.
static void settle_updates(CboxRun &run) {
    auto *trans = run.trans;
    if (trans->min_flagupdate_seq == 0) return;
    uint32_t last = std::min(trans->max_flagupdate_seq, mail_index_view_get_messages_count(trans->view));
    for (uint32_t seq = trans->min_flagupdate_seq; seq <= last; seq++) {
        uint32_t uid, seq_now;
        mail_index_lookup_uid(trans->view, seq, &uid);
        bool gone = !mail_index_lookup_seq(run.view, uid, &seq_now);
        bool conflict =
            !gone && trans->max_modseq != 0 && mail_index_modseq_lookup(trans->view, seq) > trans->max_modseq;
        if (!gone && !conflict) continue;
        bool flags = mail_index_cancel_flag_updates(trans, seq),
             keywords = mail_index_cancel_keyword_updates(trans, seq);
        if (conflict && (flags || keywords)) seq_range_array_add_with_init(trans->conflict_seqs, 16, seq);
    }
    mail_index_transaction_set_log_updates(trans);
}

void cbox_settle(CboxRun &run) {
    settle_expunges(run);
    settle_updates(run);
    // Drops flag updates that change nothing. It would also sort appends by UID, which must wait until the cache has
    // written its records by sequence.
    bool nonsorted = run.trans->appends_nonsorted;
    run.trans->appends_nonsorted = false;
    mail_index_transaction_finish_so_far(run.trans);
    run.trans->appends_nonsorted = nonsorted;
}

} // namespace replica
