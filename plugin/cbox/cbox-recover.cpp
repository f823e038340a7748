// A mailbox that lost its index gets its mails back from what their bodies say of themselves (docs/decisions/
// lost-indexes.md): all bodies of the account that no mailbox names, but for those of another lost mailbox. Nothing is
// locked while bodies are looked at; run twice, it finds nothing more.
#include <algorithm>
#include <tuple>
#include "plugin/cbox/cbox-sweep.hpp"

namespace replica {

namespace {

constexpr char recovered_keyword[] = "$Recovered"; // of a mail that was first saved to another mailbox
constexpr unsigned progress_seconds = 10;

struct Found {
    CboxRecord record;
    uint32_t uid; // 0: not known
    bool own;     // was saved to this mailbox
};

class Recovery {
public:
    explicit Recovery(struct mailbox *box) : box_(box), storage_(cbox_storage(box->storage)) {}
    int run() {
        const struct mail_namespace *ns = box_->list->ns;
        if (ns->type == MAIL_NAMESPACE_TYPE_SHARED) {
            mail_storage_set_error(box_->storage, MAIL_ERROR_NOTPOSSIBLE,
                                   "This mailbox lost its index: its owner's must be resynced");
            return -1;
        }
        uint64_t epoch;
        if ((standing_ = cbox_standing(box_->storage, &epoch)) < 0) return -1;
        (void)cbox_header_read(box_, &header_);
        e_warning(box_->event, "cbox: the index was lost, the bodies are looked at");
        return read_references() < 0 || look_at_bodies() < 0 || write() < 0 ? -1 : 0;
    }

private:
    int read_references();
    int read_mailbox(struct mailbox *box);

    int look_at_bodies();
    int look_at_folder(const std::string &folder);
    int look_at(const Guid &blob);
    std::vector<std::string> list(const std::string &path, enum fs_iter_flags flags, int *ret_r);
    void tell_progress(unsigned folders, size_t of);

    int write();
    int write_headers(struct mail_index_view *view, struct mail_index_transaction *trans);
    void append(struct mail_index_transaction *trans, const Found &found, uint32_t uid, struct mail_keywords *tag);

    struct mailbox *box_;
    CboxStorage *storage_;
    CboxHeader header_{};
    int standing_ = 0;            // 1: this store is the source of its replicas
    CboxBlobNames named_;         // by a mailbox
    std::vector<Guid> also_lost_; // other mailboxes
    std::vector<Found> found_;
    uint64_t bodies_ = 0, damaged_ = 0;
    time_t told_ = ioloop_time;
};

// --- what is named ---

int Recovery::read_references() {
    for (auto *ns = box_->storage->user->namespaces; ns != nullptr; ns = ns->next)
        if (ns->alias_for == nullptr && ns->storage != nullptr && cbox_is(ns->storage) &&
            cbox_storage(ns->storage)->account_id == storage_->account_id &&
            cbox_each_mailbox(ns->list, box_->storage, [&](auto *box) { return read_mailbox(box); }) < 0)
            return -1;
    named_.sort();
    return 0;
}

int Recovery::read_mailbox(struct mailbox *box) {
    if (mailbox_open(box) < 0 || mail_index_refresh(box->index) < 0) {
        enum mail_error error;
        const char *why = mailbox_get_last_internal_error(box, &error);
        if (error == MAIL_ERROR_NOTFOUND) return 0;
        mailbox_set_critical(box_, "cbox: not recovered: mailbox %s cannot be read: %s", mailbox_get_vname(box), why);
        return -1;
    }
    CboxHeader header;
    (void)cbox_header_read(box, &header);
    if ((header.flags & cbox_header_lost) != 0 && cbox_mailbox_guid(box) != cbox_mailbox_guid(box_))
        also_lost_.push_back(cbox_mailbox_guid(box));
    struct mail_index_view *view = mail_index_view_open(box->index);
    (void)named_.add(box, view);
    mail_index_view_close(&view);
    return 0;
}

// --- what is there ---

std::vector<std::string> Recovery::list(const std::string &path, enum fs_iter_flags flags, int *ret_r) {
    std::vector<std::string> names;
    const char *error;
    *ret_r = cbox_each_name(
        storage_, box_->event, path, flags, [&](auto *name) { names.emplace_back(name); }, &error);
    if (*ret_r < 0) mailbox_set_critical(box_, "cbox: bodies cannot be listed: %s", error);
    return names;
}

int Recovery::look_at_bodies() {
    int ret;
    const std::string account = to_hex(storage_->account_id);
    const auto folders = list(account, FS_ITER_FLAG_DIRS, &ret);
    for (unsigned n = 0; ret == 0 && n < folders.size(); n++) {
        if (folders[n].size() == 2) ret = look_at_folder(account + "/" + folders[n]);
        tell_progress(n + 1, folders.size());
    }
    return ret;
}

int Recovery::look_at_folder(const std::string &folder) {
    int ret;
    for (const std::string &name : list(folder, static_cast<enum fs_iter_flags>(0), &ret)) {
        guid_128_t blob;
        if (guid_128_from_string(name.c_str(), blob) < 0) continue;
        T_BEGIN { ret = look_at(Guid::from(blob)); }
        T_END;
        if (ret < 0) break;
    }
    return ret;
}

int Recovery::look_at(const Guid &blob) {
    bodies_++;
    if (named_.has(blob)) return 0;
    struct fs_file *file = cbox_body_file(storage_, box_->event, blob, 0);
    auto trailer = cbox_body_trailer(&file);
    if (!trailer && trailer.error().code == Code::gone) return 0; // swept meanwhile
    if (!trailer && trailer.error().code == Code::retry) {
        mailbox_set_critical(box_, "cbox: not recovered: blob %s cannot be read: %s", to_hex(blob).c_str(),
                             trailer.error().message.c_str());
        return -1;
    }
    if (!trailer || trailer->account != storage_->account_id) {
        damaged_++;
        e_error(box_->event, "cbox: blob %s is passed over: %s", to_hex(blob).c_str(),
                trailer ? "it is another account's" : trailer.error().message.c_str());
        return 0;
    }
    // What came after the loss has a record, or its save is under way.
    if (header_.lost_at != 0 && trailer->saved > header_.lost_at) return 0;
    if (std::ranges::find(also_lost_, trailer->mailbox) != also_lost_.end()) return 0;
    Append mail;
    mail.guid = trailer->message;
    mail.blob = blob;
    mail.physical_size = trailer->physical_size;
    mail.virtual_size = trailer->virtual_size;
    mail.received = trailer->received;
    mail.saved = trailer->saved;
    mail.pop3_order = trailer->pop3_order;
    mail.pop3_uidl = trailer->pop3_uidl;
    found_.push_back({cbox_record_of(mail), trailer->uid, trailer->mailbox == cbox_mailbox_guid(box_)});
    return 0;
}

void Recovery::tell_progress(unsigned folders, size_t of) {
    if (time(nullptr) - told_ < time_t(progress_seconds)) return;
    told_ = time(nullptr);
    e_info(box_->event, "cbox: %zu%% of the bodies looked at (%llu), %zu mails found", folders * 100 / of,
           static_cast<unsigned long long>(bodies_), found_.size());
}

// --- what becomes of it ---

void Recovery::append(struct mail_index_transaction *trans, const Found &found, uint32_t uid,
                      struct mail_keywords *tag) {
    uint32_t seq;
    mail_index_append(trans, uid, &seq);
    cbox_record_write(trans, cbox_mailbox(box_)->record_ext_id, seq, found.record);
    if (!found.own) mail_index_update_keywords(trans, seq, MODIFY_ADD, tag);
    if ((found.record.flags & cbox_record_pop3_uidl) != 0) index_pop3_uidl_set_max_uid(box_, trans, uid);
}

// Lost no more. What is here now is in no log: an account that is replicated is told so, also where the mark is lost.
int Recovery::write_headers(struct mail_index_view *view, struct mail_index_transaction *trans) {
    const uint32_t mark_ext_id = cbox_mailbox(box_)->mark_ext_id;
    header_.flags &= ~cbox_header_lost;
    header_.lost_at = 0;
    mail_index_update_header_ext(trans, cbox_mailbox(box_)->header_ext_id, 0, &header_, sizeof(header_));
    if (!cbox_mark_read(view, mark_ext_id).number.none()) return cbox_set_unlogged(box_, view, trans);
    if (standing_ == 0) return 0;
    cbox_mark_write(trans, mark_ext_id, {{}, true});
    return cbox_unlogged_file_create(box_->storage);
}

// UIDs that are known come first, then the rest, by age.
int Recovery::write() {
    std::ranges::sort(found_, [](const Found &a, const Found &b) {
        auto key = [](const Found &f) {
            return std::tuple(f.uid == 0 ? UINT32_MAX : f.uid, f.record.saved, f.record.received,
                              Guid::from(f.record.blob));
        };
        return key(a) < key(b);
    });
    CboxLock lock;
    if (cbox_lock(box_, false, &lock) < 0) return -1;
    CboxCondemned condemned;
    if (condemned.open(box_->storage) < 0) {
        (void)cbox_unlock(box_, &lock, false, {});
        return -1;
    }
    (void)cbox_header_read(box_, &header_);
    if ((header_.flags & cbox_header_lost) == 0) // recovered by another process meanwhile
        return cbox_unlock(box_, &lock, false, {});
    struct mail_index_view *view = mail_index_view_open(box_->index);
    auto *trans = mail_index_transaction_begin(
        view, static_cast<enum mail_index_transaction_flags>(MAIL_INDEX_TRANSACTION_FLAG_EXTERNAL |
                                                             MAIL_INDEX_TRANSACTION_FLAG_FSYNC));
    const char *names[] = {recovered_keyword, nullptr};
    struct mail_keywords *tag = mail_index_keywords_create(box_->index, names);
    uint32_t next_uid = mail_index_get_header(view)->next_uid;
    size_t appended = 0, foreign = 0;
    for (const Found &found : found_) {
        if (condemned.has(Guid::from(found.record.blob))) continue; // expunged long ago
        uint32_t uid = std::max(next_uid, found.uid);
        append(trans, found, uid, tag);
        next_uid = uid + 1;
        appended++;
        foreign += !found.own;
    }
    mail_index_keywords_unref(&tag);
    int ret = write_headers(view, trans);
    if (ret < 0)
        mail_index_transaction_rollback(&trans);
    else if ((ret = mail_index_transaction_commit(&trans)) < 0)
        mailbox_set_index_error(box_);
    mail_index_view_close(&view);
    if (cbox_unlock(box_, &lock, ret == 0, {}) < 0 || ret < 0) return -1;
    e_warning(box_->event,
              "cbox: %zu mails recovered from %llu bodies; %zu of them were first saved elsewhere and have the keyword "
              "%s; %llu bodies are damaged and were passed over. Flags are not known.",
              appended, static_cast<unsigned long long>(bodies_), foreign, recovered_keyword,
              static_cast<unsigned long long>(damaged_));
    return 0;
}

} // namespace

int cbox_recover(struct mailbox *box) { return Recovery(box).run(); }

} // namespace replica
