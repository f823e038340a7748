#include "plugin/cbox/cbox-walk.hpp"
#include <algorithm>

namespace replica {

namespace {

uint64_t beginning(const uint8_t *blob) {
    uint64_t value;
    memcpy(&value, blob, sizeof(value));
    return value;
}

} // namespace

bool CboxBlobNames::add(struct mailbox *box, struct mail_index_view *view) {
    uint32_t count = mail_index_view_get_messages_count(view);
    size_t before = names_.size();
    for (uint32_t seq = 1; seq <= count; seq++)
        if (CboxRecord record; cbox_record_read(view, cbox_mailbox(box)->record_ext_id, seq, &record))
            names_.push_back(beginning(record.blob));
    return names_.size() - before == count;
}

void CboxBlobNames::sort() { std::ranges::sort(names_); }

bool CboxBlobNames::has(const Guid &blob) const {
    return std::ranges::binary_search(names_, beginning(blob.bytes.data()));
}

int cbox_each_mailbox(struct mailbox_list *list, struct mail_storage *errors,
                      const std::function<int(struct mailbox *)> &each) {
    auto *iter = mailbox_list_iter_init(list, "*",
                                        static_cast<enum mailbox_list_iter_flags>(MAILBOX_LIST_ITER_RAW_LIST |
                                                                                  MAILBOX_LIST_ITER_NO_AUTO_BOXES |
                                                                                  MAILBOX_LIST_ITER_SKIP_ALIASES));
    int ret = 0;
    while (const struct mailbox_info *info = ret < 0 ? nullptr : mailbox_list_iter_next(iter)) {
        if ((info->flags & (MAILBOX_NOSELECT | MAILBOX_NONEXISTENT)) != 0) continue;
        struct mailbox *box = mailbox_alloc(list, info->vname, MAILBOX_FLAG_IGNORE_ACLS);
        if (cbox_is(box->storage)) ret = each(box);
        mailbox_free(&box);
    }
    if (mailbox_list_iter_deinit(&iter) < 0 && ret == 0) {
        mail_storage_copy_list_error(errors, list);
        ret = -1;
    }
    return ret;
}

int cbox_each_name(CboxStorage *storage, struct event *event, const std::string &path, int iter_flags,
                   const std::function<void(const char *)> &each, const char **error_r) {
    struct fs_iter *iter =
        fs_iter_init_with_event(storage->fs, event, path.c_str(), static_cast<enum fs_iter_flags>(iter_flags));
    while (const char *name = fs_iter_next(iter))
        each(name);
    return fs_iter_deinit(&iter, error_r);
}

} // namespace replica
