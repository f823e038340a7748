// Which blobs an account's indexes name. Any doubt about that ends the sweep: a mailbox that cannot be opened, one that
// lost its index, one that the list does not know of.
#include <dirent.h>
#include <algorithm>
#include "plugin/cbox/cbox-sweep.hpp"

namespace replica {

namespace {

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
    blobs_ = {};
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
    blobs_.sort();
    return ret;
}

int CboxReferences::read_list(struct mailbox_list *list) {
    int ret = cbox_each_mailbox(list, storage_, [&](auto *box) { return read_mailbox(box); });
    return ret < 0 ? -1 : look_for_unlisted(list);
}

int CboxReferences::read_mailbox(struct mailbox *box) {
    CboxLock lock;
    if (mailbox_open(box) < 0 || cbox_lock(box, false, &lock) < 0)
        return refuse(storage_, quoted(box) + "cannot be read: " + mailbox_get_last_internal_error(box, nullptr));
    struct mail_index_view *view = mail_index_view_open(box->index); // stays as it is now
    (void)cbox_unlock(box, &lock, false, {});
    int ret = check(box, view);
    mail_index_view_close(&view);
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
    if (!blobs_.add(box, view))
        return refuse(storage_, quoted(box) + "has a mail without a body's name: `doveadm force-resync` it first");
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
