// force-resync: a new index from the old one, since that is the only map of UIDs; rows without a record of ours are
// left out, and then looked for among the bodies. Marks and headers stay. The MODSEQs are new, so a mark says
// `unlogged`, and replicas get a snapshot.
#include "plugin/cbox/cbox-driver.hpp"

namespace replica {

// False: some were left out.
static bool copy_mails(struct index_rebuild_context *ctx) {
    bool all = true;
    uint32_t record_ext_id = cbox_mailbox(ctx->box)->record_ext_id;
    uint32_t count = mail_index_view_get_messages_count(ctx->view);
    for (uint32_t seq = 1; seq <= count; seq++) {
        CboxRecord record;
        uint32_t uid, new_seq;
        mail_index_lookup_uid(ctx->view, seq, &uid);
        if (!cbox_record_read(ctx->view, record_ext_id, seq, &record)) {
            e_error(ctx->box->event, "force-resync: UID %u has no record, it is left out", uid);
            all = false;
            continue;
        }
        mail_index_append(ctx->trans, uid, &new_seq);
        index_rebuild_index_metadata(ctx, new_seq, uid);
        cbox_record_write(ctx->trans, record_ext_id, new_seq, record);
    }
    return all;
}

static int copy_headers(struct index_rebuild_context *ctx, bool all) {
    auto *cbox = cbox_mailbox(ctx->box);
    CboxHeader header;
    if (!cbox_header_read(ctx->box, &header)) {
        header = {};
        memcpy(header.mailbox_guid, cbox->guid, sizeof(header.mailbox_guid));
        all = false;
    }
    if (!all) header.flags |= cbox_header_lost;
    mail_index_update_header_ext(ctx->trans, cbox->header_ext_id, 0, &header, sizeof(header));
    // A reset forgets the mark; one that says `unlogged` already is written again as it was.
    Mark mark = cbox_mark_read(ctx->view, cbox->mark_ext_id);
    if (!mark.number.none()) cbox_mark_write(ctx->trans, cbox->mark_ext_id, mark);
    return cbox_set_unlogged(ctx->box, ctx->view, ctx->trans);
}

static bool is_whole(struct mailbox *box, struct mail_index_view *view) {
    CboxHeader header;
    CboxRecord record;
    if (!cbox_header_read(box, &header)) return false;
    uint32_t count = mail_index_view_get_messages_count(view);
    for (uint32_t seq = 1; seq <= count; seq++)
        if (!cbox_record_read(view, cbox_mailbox(box)->record_ext_id, seq, &record)) return false;
    return true;
}

static int rebuild_from_itself(struct mailbox *box) {
    CboxLock lock;
    if (cbox_lock(box, false, &lock) < 0) return -1;
    if (is_whole(box, lock.view)) {
        (void)cbox_unlock(box, &lock, false, {});
        return 0;
    }
    e_warning(box->event, "cbox: rebuilding the index from itself");
    struct mail_index_view *view = mail_index_view_open(box->index);
    auto *trans = mail_index_transaction_begin(view, MAIL_INDEX_TRANSACTION_FLAG_EXTERNAL);
    auto *ctx = index_index_rebuild_init(box, view, trans);
    bool all = copy_mails(ctx);
    int ret = copy_headers(ctx, all);
    index_index_rebuild_deinit(&ctx, cbox_uidvalidity_next);
    if (ret < 0) {
        mail_index_transaction_rollback(&trans);
    } else {
        mail_index_unset_fscked(trans);
        if ((ret = mail_index_transaction_commit(&trans)) < 0) mailbox_set_index_error(box);
    }
    mail_index_view_close(&view);
    // As a lock that was never a sync: the new log has nothing to sync.
    (void)cbox_unlock(box, &lock, false, {});
    return ret;
}

int cbox_rebuild(struct mailbox *box) {
    CboxHeader header;
    if (rebuild_from_itself(box) < 0) return -1;
    (void)cbox_header_read(box, &header);
    return (header.flags & cbox_header_lost) == 0 ? 0 : cbox_recover(box);
}

} // namespace replica
