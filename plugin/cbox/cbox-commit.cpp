// The one commit sequence. Every transaction that changes what a client can see goes: clear? before any lock; lock;
// settle what no longer applies; call out once; mark; one external commit, which makes an expunge the real removal;
// unlock; done.
#include "plugin/cbox/cbox-sweep.hpp"

namespace replica {

// --- the lock ---

// Quota's cached sizes. index_storage_expunged_sync_begin takes this lock only for pending requests: we never have
// those.
static void vsize_lock(struct mailbox *box) {
    auto *ibox =
        static_cast<struct index_mailbox_context *>(static_cast<void *>(MODULE_CONTEXT(box, index_storage_module)));
    if (ibox->vsize_update != nullptr) return;
    ibox->vsize_update = index_mailbox_vsize_update_init(box);
    if (!index_mailbox_vsize_want_updates(ibox->vsize_update) ||
        !index_mailbox_vsize_update_wait_lock(ibox->vsize_update))
        index_mailbox_vsize_update_deinit(&ibox->vsize_update);
}

int cbox_lock(struct mailbox *box, bool expunging, CboxLock *lock_r) {
    struct mail_index_transaction *sync_trans;
    if (expunging) vsize_lock(box);
    int ret = index_storage_expunged_sync_begin(box, &lock_r->sync, &lock_r->view, &sync_trans,
                                                static_cast<enum mail_index_sync_flags>(0));
    if (ret > 0) return 0;
    index_storage_expunging_deinit(box);
    *lock_r = {};
    return -1;
}

static void notify_expunges(struct mailbox *box, struct mail_index_view *view, const std::vector<uint32_t> &uids) {
    if (uids.empty()) return;
    box->tmp_sync_view = view;
    for (uint32_t uid : uids)
        mailbox_sync_notify(box, uid, MAILBOX_SYNC_TYPE_EXPUNGE);
    mailbox_sync_notify(box, 0, static_cast<enum mailbox_sync_type>(0));
    box->tmp_sync_view = nullptr;
}

int cbox_unlock(struct mailbox *box, CboxLock *lock, bool commit, const std::vector<uint32_t> &expunged_uids) {
    int ret = 0;
    if (!commit) {
        mail_index_sync_rollback(&lock->sync);
    } else {
        // Log rotation wants all drained; but a request to expunge that is drained and not acted upon is lost.
        struct mail_index_sync_rec rec;
        if (!mail_index_sync_has_expunges(lock->sync))
            while (mail_index_sync_next(lock->sync, &rec)) {
            }
        struct mail_index_view *view = lock->view;
        mail_index_view_ref(view);
        if (mail_index_sync_commit(&lock->sync) < 0) {
            mailbox_set_index_error(box);
            ret = -1;
        } else {
            notify_expunges(box, view, expunged_uids);
        }
        mail_index_view_close(&view);
    }
    *lock = {};
    index_storage_expunging_deinit(box);
    return ret;
}

// --- the call-out ---

static const CboxStorage *storage_of(struct mailbox *box) { return cbox_storage(box->storage); }

static int ask_clear(struct mailbox *box) {
    const auto *storage = storage_of(box);
    if (cbox_mailbox(box)->deleting || storage->callout == nullptr || storage->callout->clear == nullptr) return 0;
    return storage->callout->clear(storage->callout_context, box);
}

static CalloutAnswer ask_commit(CboxRun &run, Number *number_r) {
    const auto *storage = storage_of(run.box);
    if (storage->callout == nullptr || storage->callout->commit == nullptr) return CalloutAnswer::not_replicated;
    return storage->callout->commit(storage->callout_context, run, number_r);
}

// Past the log: said beside the mark, in the same transaction, and in the control dir.
int cbox_set_unlogged(struct mailbox *box, struct mail_index_view *view, struct mail_index_transaction *trans) {
    auto *cbox = cbox_mailbox(box);
    Mark mark = cbox_mark_read(view, cbox->mark_ext_id);
    if (mark.number.none() || mark.unlogged) return 0;
    if (cbox_unlogged_file_create(box->storage) < 0) return -1;
    cbox_mark_write(trans, cbox->mark_ext_id, {mark.number, true});
    return 0;
}

static void set_number(CboxRun &run, const Number &number) {
    auto modseq = cbox_modseq_predict(run);
    if (modseq.spread) cbox_modseq_unite(run, modseq.predicted);
    bool unlogged = run.kind != ChangeKind::snapshot && run.mark.unlogged;
    cbox_mark_write(run.trans, cbox_mailbox(run.box)->mark_ext_id, {number, unlogged});
    run.numbered = true;
}

// Everything is final and nothing written. -1: refused, the error is set.
static int call_out(CboxRun &run, Number *number_r) {
    if (cbox_mailbox(run.box)->deleting) return 0; // one change of the list says it all
    switch (ask_commit(run, number_r)) {
    case CalloutAnswer::numbered:
        set_number(run, *number_r);
        return 0;
    case CalloutAnswer::not_replicated:
        return cbox_set_unlogged(run.box, run.view, run.trans);
    case CalloutAnswer::in_doubt:
        run.in_doubt = true;
        return -1;
    case CalloutAnswer::refused:
        return -1;
    }
    i_unreached();
}

static void tell_done(CboxRun &run, bool ok) {
    const auto *storage = storage_of(run.box);
    if (run.numbered && storage->callout != nullptr && storage->callout->done != nullptr)
        storage->callout->done(storage->callout_context, run.box, ok);
}

static void run_init(CboxRun &run, struct mailbox *box, const CboxLock &lock) {
    run.box = box;
    run.lock = lock;
    run.view = lock.view;
    run.mark = cbox_mark_read(lock.view, cbox_mailbox(box)->mark_ext_id);
    run.kind = ChangeKind::mailbox;
    run.describe = cbox_describe;
}

const SnapshotId &cbox_snapshot_id(CboxPending &pending) { return static_cast<CboxRun &>(pending).snapshot; }

void cbox_deleting_set(struct mailbox *box, bool deleting) { cbox_mailbox(box)->deleting = deleting; }

// --- mailbox transactions ---

struct mailbox_transaction_context *cbox_transaction_begin(struct mailbox *box, enum mailbox_transaction_flags flags,
                                                           const char *reason) {
    auto *ct = i_new(CboxTransaction, 1);
    index_transaction_init(&ct->t, box, flags, reason);
    return &ct->t;
}

void cbox_transaction_rollback(struct mailbox_transaction_context *t) {
    delete cbox_transaction(t)->attributes;
    index_transaction_rollback(t);
}

static int refuse(struct mailbox_transaction_context *t, struct mail_transaction_commit_changes *changes_r) {
    struct mail_storage *storage = t->box->storage;
    i_zero(changes_r);
    mail_storage_last_error_push(storage);
    cbox_transaction_rollback(t);
    mail_storage_last_error_pop(storage);
    return -1;
}

static bool has_appends(const struct mail_index_transaction *trans) {
    return array_is_created(&trans->appends) && array_count(&trans->appends) > 0;
}

static void assign_uids(CboxRun &run) {
    auto *trans = run.trans;
    mail_index_append_finish_uids(trans, mail_index_get_header(run.view)->next_uid, &run.saved_uids);
    uint32_t last = 0;
    for (const auto &saved : cbox_save(run.transaction->t.save_ctx)->saved)
        if (!saved.pop3_uidl.empty()) last = std::max(last, mail_index_transaction_lookup(trans, saved.seq)->uid);
    if (last != 0) index_pop3_uidl_set_max_uid(run.box, trans, last);
}

// Under the lock, so that whoever condemns and then passes through it either sees the reference or has kept it out.
static int names_condemned(CboxRun &run) {
    struct mail_storage *storage = run.box->storage;
    CboxCondemned condemned;
    if (condemned.open(storage) < 0) return -1;
    for (const auto &saved : cbox_save(run.transaction->t.save_ctx)->saved) {
        if (!condemned.has(saved.blob)) continue;
        mail_storage_set_error(storage, MAIL_ERROR_TEMP,
                               "[UNAVAILABLE] The body of a mail is about to be deleted, try again.");
        return -1;
    }
    return 0;
}

// Under the lock, up to where the change counts. -1: it is not to be.
static int prepare(CboxRun &run) {
    Number number;
    if (has_appends(run.trans)) {
        if (names_condemned(run) < 0) return -1;
        assign_uids(run);
    }
    cbox_settle(run);
    if (!cbox_has_changes(run.trans)) return 0;
    if (call_out(run, &number) < 0) return -1;
    if (cbox_attributes_commit(&run.transaction->t) < 0) return -1;
    run.trans->flags =
        static_cast<enum mail_index_transaction_flags>(run.trans->flags | MAIL_INDEX_TRANSACTION_FLAG_EXTERNAL);
    return 0;
}

static int commit_run(CboxRun &run, struct mailbox_transaction_context *t,
                      struct mail_transaction_commit_changes *changes_r) {
    struct mailbox *box = run.box;
    if (prepare(run) < 0) {
        (void)cbox_unlock(box, &run.lock, false, {});
        (void)refuse(t, changes_r);
        tell_done(run, false);
        return -1;
    }
    delete cbox_transaction(t)->attributes;
    int ret = index_transaction_commit(t, changes_r); // t is gone
    // A save's commit_post has unlocked already.
    if (run.lock.sync != nullptr && cbox_unlock(box, &run.lock, ret == 0, run.expunged_uids) < 0) ret = -1;
    tell_done(run, ret == 0);
    return ret;
}

int cbox_transaction_commit(struct mailbox_transaction_context *t, struct mail_transaction_commit_changes *changes_r) {
    struct mailbox *box = t->box;
    auto *ct = cbox_transaction(t);
    if (!cbox_has_changes(t->itrans)) {
        delete ct->attributes;
        return index_transaction_commit(t, changes_r);
    }
    CboxRun run{};
    CboxLock lock;
    if (ask_clear(box) < 0 || cbox_lock(box, array_is_created(&t->itrans->expunges), &lock) < 0)
        return refuse(t, changes_r);
    run_init(run, box, lock);
    run.trans = t->itrans;
    run.transaction = ct;
    ct->run = &run;
    i_array_init(&run.saved_uids, 8);
    int ret = commit_run(run, t, changes_r);
    array_free(&run.saved_uids);
    return ret;
}

// --- what Dovecot calls inside index_transaction_commit, where there were saves ---

int cbox_save_commit_pre(struct mail_save_context *ctx) {
    struct mailbox_transaction_context *t = ctx->transaction;
    auto *run = cbox_transaction(t)->run;
    i_assert(cbox_save(ctx)->finished);
    if (run == nullptr) return 0; // all saves failed
    array_append_array(&t->changes->saved_uids, &run->saved_uids);
    t->changes->uid_validity = mail_index_get_header(run->view)->uid_validity;
    return 0;
}

void cbox_save_commit_post(struct mail_save_context *ctx, struct mail_index_transaction_commit_result *result) {
    auto *run = cbox_transaction(ctx->transaction)->run;
    if (run != nullptr) {
        mail_index_sync_set_commit_result(run->lock.sync, result);
        (void)cbox_unlock(run->box, &run->lock, true, run->expunged_uids);
    }
    // Also if the commit failed: the log may name the blobs.
    cbox_save_free(cbox_save(ctx), false);
}

void cbox_save_rollback(struct mail_save_context *ctx) {
    auto *save = cbox_save(ctx);
    auto *run = cbox_transaction(ctx->transaction)->run;
    if (!save->finished) cbox_save_cancel(ctx);
    cbox_save_free(save, run == nullptr || (!run->in_doubt && !run->numbered));
}

// --- header updates and snapshots: index transactions of their own ---

static int commit_own(CboxRun &run, Number *number_r) {
    int ret = call_out(run, number_r);
    if (ret == 0 && run.kind == ChangeKind::snapshot && !run.numbered) {
        mail_storage_set_error(run.box->storage, MAIL_ERROR_NOTPOSSIBLE, "Account is not replicated");
        ret = -1;
    }
    if (ret < 0) {
        mail_index_transaction_rollback(&run.trans);
    } else if (mail_index_transaction_commit(&run.trans) < 0) {
        mailbox_set_index_error(run.box);
        ret = -1;
    }
    return ret;
}

static HeaderUpdate header_update_of(struct mail_index_view *view, const struct mailbox_update *update) {
    const struct mail_index_header *hdr = mail_index_get_header(view);
    HeaderUpdate header;
    if (update->uid_validity != hdr->uid_validity) header.uid_validity = update->uid_validity;
    if (update->min_next_uid > hdr->next_uid) header.min_next_uid = update->min_next_uid;
    if (update->min_highest_modseq > mail_index_modseq_get_highest(view))
        header.min_highest_modseq = update->min_highest_modseq;
    return header;
}

static bool changes_guid(struct mailbox *box, const struct mailbox_update *update) {
    return !guid_128_is_empty(update->mailbox_guid) &&
           memcmp(update->mailbox_guid, cbox_mailbox(box)->guid, sizeof(update->mailbox_guid)) != 0;
}

static int commit_header_locked(CboxRun &run, const struct mailbox_update *update) {
    struct mailbox *box = run.box;
    if (changes_guid(box, update) && !run.mark.number.none()) {
        mail_storage_set_error(box->storage, MAIL_ERROR_NOTPOSSIBLE, "GUID of a replicated mailbox cannot change");
        return -1;
    }
    struct mail_index_view *view = mail_index_view_open(box->index);
    run.header = header_update_of(view, update);
    run.trans = mail_index_transaction_begin(view, MAIL_INDEX_TRANSACTION_FLAG_EXTERNAL);
    cbox_header_write(box, view, run.trans, update);
    if (run.header.min_highest_modseq != 0) mail_index_update_highest_modseq(run.trans, run.header.min_highest_modseq);
    int ret = 0;
    if (run.header == HeaderUpdate{}) { // a GUID or \Recent, which no replica shares
        if ((ret = mail_index_transaction_commit(&run.trans)) < 0) mailbox_set_index_error(box);
    } else {
        Number number;
        ret = commit_own(run, &number);
    }
    mail_index_view_close(&view);
    return ret;
}

int cbox_commit_header(struct mailbox *box, const struct mailbox_update *update) {
    (void)mail_index_refresh(box->index);
    if (update->uid_validity == 0 && update->min_next_uid == 0 && update->min_highest_modseq == 0 &&
        update->min_first_recent_uid == 0 && !changes_guid(box, update))
        return 0;
    CboxRun run{};
    CboxLock lock;
    if (ask_clear(box) < 0 || cbox_lock(box, false, &lock) < 0) return -1;
    run_init(run, box, lock);
    int ret = commit_header_locked(run, update);
    if (cbox_unlock(box, &run.lock, ret == 0, {}) < 0) ret = -1;
    tell_done(run, ret == 0);
    return ret;
}

// What was committed past the log is in no log: a power loss must not take it from under a SNAPSHOT's number.
static int flush_unlogged(struct mailbox *box) {
    struct mail_index_view *view = mail_index_view_open(box->index);
    Mark mark = cbox_mark_read(view, cbox_mailbox(box)->mark_ext_id);
    mail_index_view_close(&view);
    if (!mark.number.none() && !mark.unlogged) return 0;
    // The log through the descriptor that holds the lock: closing another one would drop an fcntl lock.
    std::string dir = mailbox_get_index_path(box), index = dir + "/" + box->index_prefix;
    int ret = fdatasync(box->index->log->head->fd);
    for (const auto &path : {index, index + ".log.2", dir})
        if (ret == 0) ret = fdatasync_path(path.c_str()) < 0 && errno != ENOENT ? -1 : 0;
    if (ret == 0) return 0;
    mailbox_set_critical(box, "fdatasync(%s) failed: %m", index.c_str());
    return -1;
}

// No clear?: the agent has asked for this snapshot, and would wait for it.
int cbox_commit_snapshot(struct mailbox *box, const SnapshotId &id, const CboxFrozen &frozen, Number *number_r) {
    CboxRun run{};
    CboxLock lock;
    // Most of it before the lock, so that writers wait for the rest only.
    if (flush_unlogged(box) < 0 || cbox_lock(box, false, &lock) < 0) return -1;
    if (cbox_refuse_if_lost(box) < 0 || flush_unlogged(box) < 0) {
        (void)cbox_unlock(box, &lock, false, {});
        return -1;
    }
    run_init(run, box, lock);
    run.kind = ChangeKind::snapshot;
    run.snapshot = id;
    // The mark is all that the commit changes: this view shows the state at its number.
    struct mail_index_view *view = mail_index_view_open(box->index);
    run.trans = mail_index_transaction_begin(view, MAIL_INDEX_TRANSACTION_FLAG_EXTERNAL);
    int ret = commit_own(run, number_r);
    if (ret == 0) ret = frozen.at(frozen.context, box, view, *number_r);
    mail_index_view_close(&view);
    bool committed = ret == 0;
    if (cbox_unlock(box, &run.lock, committed, {}) < 0) ret = -1;
    tell_done(run, committed);
    return ret;
}

} // namespace replica
