// force-resync: a new index from the old one, since that is the only map of UIDs; rows without a record of ours are
// left out. Marks and headers stay. The MODSEQs are new, so a mark says `unlogged`, and replicas get a snapshot.
#include "plugin/cbox/cbox-driver.hpp"

namespace replica {

static void copy_mails(struct index_rebuild_context *ctx) {
    uint32_t record_ext_id = cbox_mailbox(ctx->box)->record_ext_id;
    uint32_t count = mail_index_view_get_messages_count(ctx->view);
    for (uint32_t seq = 1; seq <= count; seq++) {
        CboxRecord record;
        uint32_t uid, new_seq;
        mail_index_lookup_uid(ctx->view, seq, &uid);
        if (!cbox_record_read(ctx->view, record_ext_id, seq, &record)) {
            e_error(ctx->box->event, "force-resync: UID %u has no record, it is left out", uid);
            continue;
        }
        mail_index_append(ctx->trans, uid, &new_seq);
        index_rebuild_index_metadata(ctx, new_seq, uid);
        cbox_record_write(ctx->trans, record_ext_id, new_seq, record);
    }
}

static int copy_headers(struct index_rebuild_context *ctx) {
    auto *cbox = cbox_mailbox(ctx->box);
    CboxHeader header;
    if (!cbox_header_read(ctx->box, &header)) {
        header = {};
        memcpy(header.mailbox_guid, cbox->guid, sizeof(header.mailbox_guid));
    }
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

int cbox_rebuild(struct mailbox *box) {
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
    copy_mails(ctx);
    int ret = copy_headers(ctx);
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

} // namespace replica
