// Marks: the number of the last change that an index contains, kept in a header extension of the index itself.
#include "plugin/cbox/cbox-private.hpp"

namespace replica {

Mark cbox_mark_read(struct mail_index_view *view, uint32_t mark_ext_id) {
    const void *data;
    size_t size;
    mail_index_get_header_ext(view, mark_ext_id, &data, &size);
    CboxMark stored{};
    if (size >= sizeof(stored)) memcpy(&stored, data, sizeof(stored));
    return {{stored.epoch, stored.sequence}, (stored.flags & cbox_mark_unlogged) != 0};
}

void cbox_mark_write(struct mail_index_transaction *trans, uint32_t mark_ext_id, const Mark &mark) {
    const CboxMark stored{mark.number.epoch, mark.number.sequence, mark.unlogged ? cbox_mark_unlogged : 0, 0};
    mail_index_update_header_ext(trans, mark_ext_id, 0, &stored, sizeof(stored));
}

namespace {

Mark read_fresh(struct mail_index *index, uint32_t mark_ext_id) {
    struct mail_index_view *view = mail_index_view_open(index);
    Mark mark = cbox_mark_read(view, mark_ext_id);
    mail_index_view_close(&view);
    return mark;
}

// Nothing but the mark, in a transaction of its own.
int write_alone(struct mail_index *index, uint32_t mark_ext_id, const Mark &mark, bool durable) {
    struct mail_index_view *view = mail_index_view_open(index);
    unsigned flags = MAIL_INDEX_TRANSACTION_FLAG_EXTERNAL | (durable ? MAIL_INDEX_TRANSACTION_FLAG_FSYNC : 0);
    struct mail_index_transaction *trans =
        mail_index_transaction_begin(view, static_cast<mail_index_transaction_flags>(flags));
    cbox_mark_write(trans, mark_ext_id, mark);
    int ret = mail_index_transaction_commit(&trans);
    mail_index_view_close(&view);
    return ret;
}

// The list's index, open and fresh. -1: error set on the list.
int list_index(struct mailbox_list *list, struct mail_index **index_r, uint32_t *mark_ext_id_r) {
    if (!mailbox_list_index_get_index(list, index_r)) {
        mailbox_list_set_critical(list, "cbox: this mailbox list has no index, so it cannot have a mark");
        return -1;
    }
    if (mailbox_list_index_index_open(list) < 0) return -1;
    *mark_ext_id_r = cbox_ext_register(*index_r).mark;
    if (mail_index_refresh(*index_r) < 0) {
        mailbox_list_index_set_index_error(list);
        return -1;
    }
    return 0;
}

int list_write(struct mailbox_list *list, struct mail_index *index, uint32_t mark_ext_id, const Mark &mark) {
    if (write_alone(index, mark_ext_id, mark, true) == 0) return 0;
    mailbox_list_index_set_index_error(list);
    return -1;
}

} // namespace

int cbox_mark_get(struct mailbox *box, Mark *mark_r) {
    if (mail_index_refresh(box->index) < 0) {
        mailbox_set_index_error(box);
        return -1;
    }
    *mark_r = read_fresh(box->index, cbox_mailbox(box)->mark_ext_id);
    return 0;
}

int cbox_refuse_if_lost(struct mailbox *box) {
    CboxHeader header;
    (void)cbox_header_read(box, &header);
    if ((header.flags & cbox_header_lost) == 0) return 0;
    mail_storage_set_error(box->storage, MAIL_ERROR_NOTPOSSIBLE,
                           "it lost its index: promote a replica of the account, or take what its bodies still tell: "
                           "doveadm force-resync");
    return -1;
}

int cbox_mark_set(struct mailbox *box, const Number &number, bool durable) {
    if (cbox_refuse_if_lost(box) < 0) return -1;
    if (write_alone(box->index, cbox_mailbox(box)->mark_ext_id, {number, false}, durable) == 0) return 0;
    mailbox_set_index_error(box);
    return -1;
}

void cbox_first_mark_set(struct mailbox *box, const Number &number) { cbox_mailbox(box)->first_mark = number; }

int cbox_list_mark_get(struct mailbox_list *list, Mark *mark_r) {
    struct mail_index *index;
    uint32_t ext_id;
    if (list_index(list, &index, &ext_id) < 0) return -1;
    *mark_r = read_fresh(index, ext_id);
    return 0;
}

int cbox_list_mark_set(struct mailbox_list *list, const Number &number) {
    struct mail_index *index;
    uint32_t ext_id;
    if (list_index(list, &index, &ext_id) < 0) return -1;
    return list_write(list, index, ext_id, {number, false});
}

int cbox_list_unlogged_set(struct mailbox_list *list) {
    struct mail_index *index;
    uint32_t ext_id;
    if (list_index(list, &index, &ext_id) < 0) return -1;
    Mark mark = read_fresh(index, ext_id);
    if (mark.number.none() || mark.unlogged) return 0;
    mark.unlogged = true;
    return list_write(list, index, ext_id, mark);
}

} // namespace replica
