#include <sys/stat.h>
#include "plugin/cbox/cbox-driver.hpp"

namespace replica {

CboxExtIds cbox_ext_register(struct mail_index *index) {
    return {
        .record = mail_index_ext_register(index, "cbox", 0, sizeof(CboxRecord), alignof(CboxRecord)),
        .header = mail_index_ext_register(index, "cbox-hdr", sizeof(CboxHeader), 0, 0),
        .mark = mail_index_ext_register(index, "cbox-mark", sizeof(CboxMark), 0, 0),
    };
}

Guid cbox_mailbox_guid(struct mailbox *box) { return Guid::from(cbox_mailbox(box)->guid); }

bool cbox_record_read(struct mail_index_view *view, uint32_t record_ext_id, uint32_t seq, CboxRecord *record_r) {
    const void *data;
    bool expunged;
    mail_index_lookup_ext(view, seq, record_ext_id, &data, &expunged);
    if (data == nullptr) return false;
    memcpy(record_r, data, sizeof(*record_r));
    return !guid_128_is_empty(record_r->blob);
}

void cbox_record_write(struct mail_index_transaction *trans, uint32_t record_ext_id, uint32_t seq,
                       const CboxRecord &record) {
    mail_index_update_ext(trans, seq, record_ext_id, &record, nullptr);
}

CboxRecord cbox_record_of(const Append &append) {
    CboxRecord record{};
    memcpy(record.guid, append.guid.bytes.data(), sizeof(record.guid));
    memcpy(record.blob, append.blob.bytes.data(), sizeof(record.blob));
    record.physical_size = append.physical_size;
    record.virtual_size = append.virtual_size;
    record.received = append.received;
    record.saved = append.saved;
    record.flags = append.pop3_uidl.empty() ? 0u : uint32_t(cbox_record_pop3_uidl);
    record.pop3_order = append.pop3_order;
    return record;
}

bool cbox_header_read(struct mailbox *box, CboxHeader *header_r) {
    struct mail_index_view *view = mail_index_view_open(box->index);
    const void *data;
    size_t size;
    mail_index_get_header_ext(view, cbox_mailbox(box)->header_ext_id, &data, &size);
    *header_r = {};
    if (size > 0) memcpy(header_r, data, std::min(size, sizeof(*header_r)));
    mail_index_view_close(&view);
    return !guid_128_is_empty(header_r->mailbox_guid);
}

unsigned cbox_uidvalidity_next(struct mailbox_list *list) {
    const char *dir = mailbox_list_get_root_forced(list, MAILBOX_LIST_PATH_TYPE_CONTROL);
    return mailbox_uidvalidity_next(list, t_strconcat(dir, "/dovecot-uidvalidity", nullptr));
}

template <class T>
static void update_header(struct mail_index_transaction *trans, size_t offset, const T &value, bool prepend) {
    mail_index_update_header(trans, offset, &value, sizeof(value), prepend);
}

// With LAYOUT=index a mailbox's directory is named by its GUID, so that outlives a lost index.
static bool guid_of_directory(struct mailbox *box, uint8_t guid_r[16]) {
    const char *name = strrchr(mailbox_get_path(box), '/');
    return name != nullptr && guid_128_from_string(name + 1, guid_r) == 0;
}

static void guid_write(struct mailbox *box, struct mail_index_transaction *trans, const struct mailbox_update *update) {
    auto *cbox = cbox_mailbox(box);
    CboxHeader old, header;
    (void)cbox_header_read(box, &old);
    header = old;
    if (update != nullptr && !guid_128_is_empty(update->mailbox_guid))
        memcpy(header.mailbox_guid, update->mailbox_guid, sizeof(header.mailbox_guid));
    else if (guid_128_is_empty(header.mailbox_guid) && !guid_of_directory(box, header.mailbox_guid))
        guid_128_generate(header.mailbox_guid);
    // Not being made, and yet without a header.
    if (guid_128_is_empty(old.mailbox_guid) && !box->creating) {
        header.flags |= cbox_header_lost;
        header.lost_at = static_cast<uint32_t>(ioloop_time);
    }
    if (memcmp(&old, &header, sizeof(old)) != 0)
        mail_index_update_header_ext(trans, cbox->header_ext_id, 0, &header, sizeof(header));
    memcpy(cbox->guid, header.mailbox_guid, sizeof(cbox->guid));
}

void cbox_header_write(struct mailbox *box, struct mail_index_view *view, struct mail_index_transaction *trans,
                       const struct mailbox_update *update) {
    const struct mail_index_header *hdr = mail_index_get_header(view);
    uint32_t uid_validity = hdr->uid_validity;
    if (update != nullptr && update->uid_validity != 0)
        uid_validity = update->uid_validity;
    else if (uid_validity == 0)
        uid_validity = cbox_uidvalidity_next(box->list);
    if (uid_validity != hdr->uid_validity)
        update_header(trans, offsetof(struct mail_index_header, uid_validity), uid_validity, true);
    if (update != nullptr && hdr->next_uid < update->min_next_uid)
        update_header(trans, offsetof(struct mail_index_header, next_uid), update->min_next_uid, true);
    if (update != nullptr && hdr->first_recent_uid < update->min_first_recent_uid)
        update_header(trans, offsetof(struct mail_index_header, first_recent_uid), update->min_first_recent_uid, false);
    if (box->inbox_user && box->creating) index_pop3_uidl_set_max_uid(box, trans, 0);
    guid_write(box, trans, update);
}

// Under the lock: another process may be creating it at the same time.
static int create_indexes(struct mailbox *box, const struct mailbox_update *update) {
    CboxLock lock;
    if (cbox_lock(box, false, &lock) < 0) return -1;
    int ret = 0;
    if (mail_index_get_header(lock.view)->uid_validity == 0) {
        struct mail_index_view *view = mail_index_view_open(box->index);
        auto *trans = mail_index_transaction_begin(view, MAIL_INDEX_TRANSACTION_FLAG_EXTERNAL);
        cbox_header_write(box, view, trans, update);
        if (const Number &number = cbox_mailbox(box)->first_mark; box->creating && !number.none()) {
            cbox_mark_write(trans, cbox_mailbox(box)->mark_ext_id, {number, false});
            trans->flags =
                static_cast<enum mail_index_transaction_flags>(trans->flags | MAIL_INDEX_TRANSACTION_FLAG_FSYNC);
        }
        if (mail_index_transaction_commit(&trans) < 0) {
            mailbox_set_index_error(box);
            ret = -1;
        }
        mail_index_view_close(&view);
    }
    if (cbox_unlock(box, &lock, ret == 0, {}) < 0 || ret < 0) return -1;
    // From the first mail on, each has a MODSEQ of its own. Before any min_highest_modseq, and not inside a sync.
    mail_index_modseq_enable(box->index);
    if (update == nullptr || update->min_highest_modseq <= cbox_modseq_now(box->index)) return 0;

    struct mail_index_view *view = mail_index_view_open(box->index);
    auto *trans = mail_index_transaction_begin(view, MAIL_INDEX_TRANSACTION_FLAG_EXTERNAL);
    mail_index_update_highest_modseq(trans, update->min_highest_modseq);
    ret = mail_index_transaction_commit(&trans);
    mail_index_view_close(&view);
    if (ret < 0) mailbox_set_index_error(box);
    return ret;
}

static int guid_load(struct mailbox *box) {
    CboxHeader header;
    if (!cbox_header_read(box, &header)) {
        mail_index_refresh(box->index);
        if (!cbox_header_read(box, &header)) return -1;
    }
    memcpy(cbox_mailbox(box)->guid, header.mailbox_guid, sizeof(header.mailbox_guid));
    // If the index is ever reset behind our back, the GUID stays, and that mails are missing is known.
    header.flags |= cbox_header_lost;
    header.lost_at = 0;
    mail_index_set_ext_init_data(box->index, cbox_mailbox(box)->header_ext_id, &header, sizeof(header));
    return 0;
}

// Without a header: opened between its creator's mkdir and index (not with LAYOUT=index), or an index that was lost.
// Then the mailbox is empty and has no mark, and only its bodies are still there.
static int remake_indexes(struct mailbox *box) {
    e_error(box->event, "cbox: the index has no header: it was lost, or is just being made");
    return create_indexes(box, nullptr) < 0 || guid_load(box) < 0 ? -1 : 0;
}

static int check_existence(struct mailbox *box) {
    const char *path = mailbox_get_path(box);
    struct stat st;
    if (stat(path, &st) == 0) return 0;
    if (errno == ENOENT || errno == ENAMETOOLONG)
        mail_storage_set_error(box->storage, MAIL_ERROR_NOTFOUND, T_MAIL_ERR_MAILBOX_NOT_FOUND(box->vname));
    else if (errno == EACCES)
        mailbox_set_critical(box, "%s", mail_error_eacces_msg("stat", path));
    else
        mailbox_set_critical(box, "stat(%s) failed: %m", path);
    return -1;
}

static int mailbox_open_index(struct mailbox *box) {
    if (check_existence(box) < 0 || index_storage_mailbox_alloc_index(box) < 0) return -1;
    auto ids = cbox_ext_register(box->index);
    auto *cbox = cbox_mailbox(box);
    cbox->record_ext_id = ids.record;
    cbox->header_ext_id = ids.header;
    cbox->mark_ext_id = ids.mark;
    if (box->index->open_count == 0) {
        const char *log = t_strconcat(mailbox_get_index_path(box), "/", box->index_prefix, ".log", nullptr);
        if (cbox_log_mend(log, box->storage->set->parsed_lock_method, box->event) < 0) {
            mail_storage_set_internal_error(box->storage);
            return -1;
        }
    }
    if (index_storage_mailbox_open(box, false) < 0) return -1;
    mail_index_set_fsync_mode(box->index, box->storage->set->parsed_fsync_mode,
                              static_cast<enum mail_index_fsync_mask>(int(MAIL_INDEX_FSYNC_MASK_APPENDS) |
                                                                      int(MAIL_INDEX_FSYNC_MASK_EXPUNGES)));
    if (box->creating) return 0; // create goes on
    if (guid_load(box) < 0 && remake_indexes(box) < 0) return -1;
    mail_index_modseq_enable(box->index);
    return 0;
}

static int list_error(struct mailbox *box) {
    mail_storage_copy_list_error(box->storage, box->list);
    return -1;
}

// Where nobody answers for it, a list that has a mark is unlogged before it changes: no log will know of the change.
static int list_changes(struct mailbox *box) {
    struct mail_index *index;
    Mark mark;
    if (cbox_storage(box->storage)->callout != nullptr || !mailbox_list_index_get_index(box->list, &index)) return 0;
    if (cbox_list_mark_get(box->list, &mark) < 0) return list_error(box);
    if (mark.number.none() || mark.unlogged) return 0;
    if (cbox_unlogged_file_create(box->storage) < 0) return -1;
    return cbox_list_unlogged_set(box->list) < 0 ? list_error(box) : 0;
}

static int mailbox_create_box(struct mailbox *box, const struct mailbox_update *update, bool directory) {
    if (list_changes(box) < 0) return -1;
    int ret = index_storage_mailbox_create(box, directory);
    if (ret <= 0) return ret;
    if (mailbox_open(box) < 0) return -1;
    if (mail_index_get_header(box->view)->uid_validity != 0 && !box->storage->rebuilding_list_index) {
        mail_storage_set_error(box->storage, MAIL_ERROR_EXISTS, "Mailbox already exists");
        return -1;
    }
    if (create_indexes(box, update) < 0) return -1;
    if (guid_load(box) == 0) return 0;
    mailbox_set_critical(box, "cbox: a new mailbox has no header");
    return -1;
}

static int mailbox_update_box(struct mailbox *box, const struct mailbox_update *update) {
    if (!box->opened && mailbox_open(box) < 0) return -1;
    if (cbox_commit_header(box, update) < 0) return -1;
    return index_storage_mailbox_update_common(box, update);
}

static int mailbox_delete_box(struct mailbox *box) {
    return list_changes(box) < 0 ? -1 : index_storage_mailbox_delete(box);
}

static int mailbox_rename_box(struct mailbox *from, struct mailbox *to) {
    return list_changes(from) < 0 ? -1 : index_storage_mailbox_rename(from, to);
}

static int set_subscribed(struct mailbox *box, bool subscribed) {
    return list_changes(box) < 0 ? -1 : index_storage_set_subscribed(box, subscribed);
}

static int get_metadata(struct mailbox *box, enum mailbox_metadata_items items, struct mailbox_metadata *metadata_r) {
    if (index_mailbox_get_metadata(box, items, metadata_r) < 0) return -1;
    if ((items & MAILBOX_METADATA_GUID) != 0)
        memcpy(metadata_r->guid, cbox_mailbox(box)->guid, sizeof(metadata_r->guid));
    return 0;
}

static void notify_changes(struct mailbox *box) {
    const char *dir;
    if (box->notify_callback == nullptr)
        mailbox_watch_remove_all(box);
    else if (mailbox_get_path_to(box, MAILBOX_LIST_PATH_TYPE_INDEX, &dir) > 0)
        mailbox_watch_add(box, t_strconcat(dir, "/" MAIL_INDEX_PREFIX ".log", nullptr));
}

static const struct mailbox_vfuncs mailbox_vfuncs = {
    .is_readonly = index_storage_is_readonly,
    .enable = index_storage_mailbox_enable,
    .exists = index_storage_mailbox_exists,
    .open = mailbox_open_index,
    .close = index_storage_mailbox_close,
    .free = index_storage_mailbox_free,
    .create_box = mailbox_create_box,
    .update_box = mailbox_update_box,
    .delete_box = mailbox_delete_box,
    .rename_box = mailbox_rename_box,
    .get_status = index_storage_get_status,
    .get_metadata = get_metadata,
    .set_subscribed = set_subscribed,
    .attribute_set = cbox_attribute_set,
    .attribute_get = index_storage_attribute_get,
    .attribute_iter_init = index_storage_attribute_iter_init,
    .attribute_iter_next = index_storage_attribute_iter_next,
    .attribute_iter_deinit = index_storage_attribute_iter_deinit,
    .list_index_has_changed = index_storage_list_index_has_changed,
    .list_index_update_sync = index_storage_list_index_update_sync,
    .sync_init = cbox_sync_init,
    .sync_next = index_mailbox_sync_next,
    .sync_deinit = index_mailbox_sync_deinit,
    .notify_changes = notify_changes,
    .transaction_begin = cbox_transaction_begin,
    .transaction_commit = cbox_transaction_commit,
    .transaction_rollback = cbox_transaction_rollback,
    .mail_alloc = cbox_mail_alloc,
    .search_init = index_storage_search_init,
    .search_deinit = index_storage_search_deinit,
    .search_next_nonblock = index_storage_search_next_nonblock,
    .search_next_update_seq = index_storage_search_next_update_seq,
    .search_next_match_mail = index_storage_search_next_match_mail,
    .save_alloc = cbox_save_alloc,
    .save_begin = cbox_save_begin,
    .save_continue = cbox_save_continue,
    .save_finish = cbox_save_finish,
    .save_cancel = cbox_save_cancel,
    .copy = cbox_copy,
    .transaction_save_commit_pre = cbox_save_commit_pre,
    .transaction_save_commit_post = cbox_save_commit_post,
    .transaction_save_rollback = cbox_save_rollback,
    .is_inconsistent = index_storage_is_inconsistent,
};

struct mailbox *cbox_mailbox_alloc(struct mail_storage *storage, struct mailbox_list *list, const char *vname,
                                   enum mailbox_flags flags) {
    pool_t pool = pool_alloconly_create("cbox mailbox", 1024 * 3);
    auto *cbox = p_new(pool, CboxMailbox, 1);
    struct mailbox *box = &cbox->box;
    box->v = mailbox_vfuncs;
    box->pool = pool;
    box->storage = storage;
    box->list = list;
    box->mail_vfuncs = &cbox_mail_vfuncs;
    // The index is the mailbox: it is never done without, nor kept in memory.
    flags = static_cast<enum mailbox_flags>(flags & ~MAILBOX_FLAG_NO_INDEX_FILES);
    index_storage_mailbox_alloc(box, vname, flags, MAIL_INDEX_PREFIX);
    auto *ibox =
        static_cast<struct index_mailbox_context *>(static_cast<void *>(MODULE_CONTEXT(box, index_storage_module)));
    ibox->index_flags = static_cast<enum mail_index_open_flags>(ibox->index_flags | MAIL_INDEX_OPEN_FLAG_KEEP_BACKUPS |
                                                                MAIL_INDEX_OPEN_FLAG_NEVER_IN_MEMORY);
    return box;
}

} // namespace replica
