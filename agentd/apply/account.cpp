#include "agentd/apply/account.hpp"
#include "plugin/replica/replica-control-dir.hpp"

namespace replica {

namespace {

Code code_of(enum mail_error error) {
    switch (error) {
    case MAIL_ERROR_NOTFOUND:
        return Code::gone;
    case MAIL_ERROR_TEMP:
    case MAIL_ERROR_INUSE:
    case MAIL_ERROR_UNAVAILABLE:
        return Code::retry;
    case MAIL_ERROR_NOQUOTA: // what Dovecot makes of a full disk
        return Code::full;
    case MAIL_ERROR_PERM:
        return Code::denied;
    default:
        return Code::invalid;
    }
}

bool is_in_memory(struct mailbox_list *list) {
    const char *path;
    return !mailbox_list_get_root_path(list, MAILBOX_LIST_PATH_TYPE_INDEX, &path) || *path == '\0';
}

} // namespace

Error storage_error(struct mailbox *box, std::string_view what) {
    enum mail_error error;
    std::string text = mailbox_get_last_internal_error(box, &error);
    return Error{code_of(error), std::string(what) + " " + mailbox_get_vname(box) + ": " + text};
}

Error list_error(struct mailbox_list *list, std::string_view what) {
    enum mail_error error;
    std::string text = mailbox_list_get_last_internal_error(list, &error);
    return Error{code_of(error), std::string(what) + ": " + text};
}

Verdict verdict_of(Code code) { return code == Code::retry ? Verdict::retry : Verdict::failed; }

Account::Account(compat::OpenedUser opened) : opened_(std::move(opened)) {
    opened_.user->dsyncing = TRUE; // ACL and quota step aside
    const char *root;
    if (mailbox_list_get_root_path(inbox_namespace()->list, MAILBOX_LIST_PATH_TYPE_DIR, &root)) mail_root_ = root;
    collections_ = Collections(control_dir());
}

Account::~Account() {
    close_mailboxes();
    mail_user_deinit(&opened_.user);
}

struct mail_namespace *Account::inbox_namespace() const {
    return mail_namespace_find_inbox(user()->namespaces);
}

Result<Covered> Account::covered(struct mail_namespace *ns) {
    if (ns->type != MAIL_NAMESPACE_TYPE_PRIVATE || ns->alias_for != nullptr)
        return Error{Code::unsupported, "the namespace is not private"};
    if (strcmp(ns->storage->name, cbox_storage_name) != 0)
        return Error{Code::unsupported, std::string("the mail driver is ") + ns->storage->name + ", not cbox"};
    if (strcmp(mailbox_list_get_driver_name(ns->list), MAILBOX_LIST_NAME_INDEX) != 0)
        return Error{Code::unsupported, std::string("the mailbox list's layout is ") +
                                            mailbox_list_get_driver_name(ns->list) + ", not index"};
    if (is_in_memory(ns->list)) return Error{Code::unsupported, "its indexes are kept in memory"};
    auto *storage = reinterpret_cast<CboxStorage *>(ns->storage);
    if (storage->api == nullptr || storage->api->version != cbox_api_version)
        return Error{Code::unsupported, "the cbox driver is of another version than the worker: restart Dovecot"};
    return Covered{ns, ns->list, storage->api, storage};
}

Result<Covered> Account::covered(const std::string &ns_prefix) const {
    struct mail_namespace *ns = mail_namespace_find_prefix(user()->namespaces, ns_prefix.c_str());
    if (ns == nullptr) return Error{Code::gone, "there is no namespace with the prefix '" + ns_prefix + "'"};
    auto found = covered(ns);
    if (!found) return Error{found.error().code, "namespace '" + ns_prefix + "': " + found.error().message};
    return found;
}

Result<Role> Account::role() const {
    auto state = read_control_state((control_dir() + "/state").c_str());
    if (!state) return state.error();
    return *state ? (*state)->role : Role::none;
}

Result<struct mailbox *> find_mailbox(struct mailbox_list *list, const Guid &guid) {
    guid_128_t wanted;
    memcpy(wanted, guid.bytes.data(), sizeof(wanted));
    for (bool refreshed : {false, true}) {
        if (refreshed) mailbox_guid_cache_refresh(list); // another process may have made it
        struct mailbox *box = mailbox_alloc_guid(list, wanted, MAILBOX_FLAG_IGNORE_ACLS);
        if (box->open_error == 0) return box;
        bool gone = box->open_error == MAIL_ERROR_NOTFOUND;
        mailbox_free(&box);
        if (refreshed && !gone) return Error{Code::retry, "the mailbox list cannot be searched for " + to_hex(guid)};
    }
    return Error{Code::gone, "there is no mailbox " + to_hex(guid)};
}

Result<struct mailbox *> Account::mailbox(const Object &object) {
    for (auto it = open_.begin(); it != open_.end(); ++it)
        if (it->object == object) {
            open_.splice(open_.begin(), open_, it);
            return it->box;
        }
    auto where = covered(object.ns_prefix);
    if (!where) return Error{Code::invalid, where.error().message};
    auto box = find_mailbox(where->list, object.mailbox);
    if (!box) return box.error();
    if (mailbox_open(*box) < 0) {
        Error error = storage_error(*box, "cannot open");
        mailbox_free(&*box);
        return error;
    }
    if (open_.size() >= mailboxes_max) {
        mailbox_free(&open_.back().box);
        open_.pop_back();
    }
    open_.push_front({object, *box});
    return *box;
}

void Account::close(const Object &object) {
    open_.remove_if([&](Open &open) {
        if (open.object != object) return false;
        mailbox_free(&open.box);
        return true;
    });
}

void Account::close_mailboxes() {
    for (Open &open : open_)
        mailbox_free(&open.box);
    open_.clear();
}

} // namespace replica
