// Which blobs an account's indexes name. Any doubt about that ends the sweep: a mailbox that cannot be opened, one that
// lost its index, one that the list does not know of.
#include <dirent.h>
#include <algorithm>
#include "plugin/cbox/cbox-sweep.hpp"

namespace replica {

namespace {

constexpr auto iterate_existing = static_cast<enum mailbox_list_iter_flags>(
    MAILBOX_LIST_ITER_RAW_LIST | MAILBOX_LIST_ITER_NO_AUTO_BOXES | MAILBOX_LIST_ITER_SKIP_ALIASES);

uint64_t beginning(const uint8_t *blob) {
    uint64_t value;
    memcpy(&value, blob, sizeof(value));
    return value;
}

int refuse(struct mail_storage *storage, const std::string &why) {
    mail_storage_set_error(storage, MAIL_ERROR_NOTPOSSIBLE, ("not swept: " + why).c_str());
    return -1;
}

std::string quoted(struct mailbox *box) { return std::string("mailbox '") + mailbox_get_vname(box) + "' "; }

// How many mails an index in this directory has, which the list does not know of. -1: that cannot be said.
int64_t mails_in(struct event *event, const std::string &dir) {
    struct mail_index *index = mail_index_alloc(event, dir.c_str(), MAIL_INDEX_PREFIX);
    int ret = mail_index_open(index, static_cast<enum mail_index_open_flags>(MAIL_INDEX_OPEN_FLAG_READONLY |
                                                                             MAIL_INDEX_OPEN_FLAG_NEVER_IN_MEMORY));
    int64_t mails = ret;
    if (ret > 0) {
        struct mail_index_view *view = mail_index_view_open(index);
        mails = mail_index_view_get_messages_count(view);
        mail_index_view_close(&view);
        mail_index_close(index);
    }
    mail_index_free(&index);
    return mails;
}

} // namespace

bool cbox_holds_bodies(const struct mail_namespace *ns) {
    return ns->type == MAIL_NAMESPACE_TYPE_PRIVATE && ns->alias_for == nullptr && ns->storage != nullptr &&
           cbox_is(ns->storage);
}

// Under the list's lock, no mailbox comes, goes or changes its name. One that is made later cannot refer to what is
// condemned.
int CboxReferences::read(struct mail_storage *storage, bool replicated) {
    storage_ = storage;
    replicated_ = replicated;
    blobs_.clear();
    mailboxes_.clear();
    int ret = 0;
    for (struct mail_namespace *ns = storage->user->namespaces; ns != nullptr && ret == 0; ns = ns->next) {
        if (!cbox_holds_bodies(ns)) continue;
        if (mailbox_list_lock(ns->list) < 0) {
            mail_storage_copy_list_error(storage, ns->list);
            return -1;
        }
        ret = read_list(ns->list);
        mailbox_list_unlock(ns->list);
    }
    if (ret == 0 && mailboxes_.empty()) return refuse(storage, "the account has no mailbox here");
    std::ranges::sort(blobs_);
    return ret;
}

bool CboxReferences::has(const Guid &blob) const {
    return std::ranges::binary_search(blobs_, beginning(blob.bytes.data()));
}

int CboxReferences::read_list(struct mailbox_list *list) {
    auto *iter = mailbox_list_iter_init(list, "*", iterate_existing);
    int ret = 0;
    while (ret == 0) {
        const struct mailbox_info *info = mailbox_list_iter_next(iter);
        if (info == nullptr) break;
        if ((info->flags & (MAILBOX_NOSELECT | MAILBOX_NONEXISTENT)) == 0) ret = read_mailbox(list, info->vname);
    }
    if (mailbox_list_iter_deinit(&iter) < 0 && ret == 0) {
        mail_storage_copy_list_error(storage_, list);
        ret = -1;
    }
    return ret < 0 ? -1 : look_for_unlisted(list);
}

int CboxReferences::read_mailbox(struct mailbox_list *list, const char *vname) {
    struct mailbox *box = mailbox_alloc(list, vname, MAILBOX_FLAG_IGNORE_ACLS);
    int ret = 0;
    if (cbox_is(box->storage)) {
        CboxLock lock;
        ret = mailbox_open(box) < 0 || cbox_lock(box, false, &lock) < 0 ? -1 : 0;
        if (ret < 0) {
            const char *why = mailbox_get_last_internal_error(box, nullptr);
            ret = refuse(storage_, quoted(box) + "cannot be read: " + why);
        } else {
            struct mail_index_view *view = mail_index_view_open(box->index); // stays as it is now
            (void)cbox_unlock(box, &lock, false, {});
            ret = check(box, view);
            mail_index_view_close(&view);
        }
    }
    mailbox_free(&box);
    return ret;
}

int CboxReferences::check(struct mailbox *box, struct mail_index_view *view) {
    const auto *cbox = cbox_mailbox(box);
    CboxHeader header;
    if (!cbox_header_read(box, &header) || (header.flags & cbox_header_lost) != 0)
        return refuse(storage_, quoted(box) + "lost its index and may lack mails: `doveadm force-resync` it first");
    Mark mark = cbox_mark_read(view, cbox->mark_ext_id);
    if (mark.unlogged) return refuse(storage_, quoted(box) + "was changed past the log");
    if (replicated_ && mark.number.none()) return refuse(storage_, quoted(box) + "is not in the log yet");
    if (!mark.number.none() && cbox_storage(box->storage)->callout == nullptr)
        return refuse(storage_, quoted(box) + "has or had a replica, but the mail plugin replica is not loaded: add it "
                                              "to mail_plugins");
    mailboxes_.push_back(cbox_mailbox_guid(box));
    uint32_t count = mail_index_view_get_messages_count(view);
    for (uint32_t seq = 1; seq <= count; seq++) {
        CboxRecord record;
        if (!cbox_record_read(view, cbox->record_ext_id, seq, &record))
            return refuse(storage_, quoted(box) + "has a mail without a body's name: `doveadm force-resync` it first");
        blobs_.push_back(beginning(record.blob));
    }
    return 0;
}

// A list that was lost, or a mailbox whose maker died: directories of mailboxes by GUID that no name leads to.
int CboxReferences::look_for_unlisted(struct mailbox_list *list) const {
    if (strcmp(list->name, MAILBOX_LIST_NAME_INDEX) != 0) return 0;
    std::string root = mailbox_list_get_root_forced(list, MAILBOX_LIST_PATH_TYPE_MAILBOX);
    DIR *dir = opendir(root.c_str());
    if (dir == nullptr) return errno == ENOENT ? 0 : refuse(storage_, "opendir(" + root + ") failed");
    int ret = 0;
    for (const struct dirent *entry; ret == 0 && (entry = readdir(dir)) != nullptr;) {
        guid_128_t guid;
        if (guid_128_from_string(entry->d_name, guid) < 0) continue;
        if (std::ranges::find(mailboxes_, Guid::from(guid)) != mailboxes_.end()) continue;
        std::string path = root + "/" + entry->d_name;
        if (mails_in(storage_->event, path) != 0)
            ret = refuse(storage_, path + " holds mail that the mailbox list does not name: `doveadm force-resync` it "
                                          "first");
    }
    (void)closedir(dir);
    return ret;
}

} // namespace replica
