// The mailbox list's changes: CREATE, DELETE, RENAME, SUBSCRIBE. Each holds the list lock from the check of its
// preconditions to the end of super, calls out before super, and sets the list's mark durably right after it. A change
// states its outcome, so that applying it twice is harmless.
#include "plugin/replica/replica-plugin.hpp"
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

namespace replica {

namespace {

constexpr char uidvalidity_file[] = "/dovecot-uidvalidity"; // the one that the driver uses
constexpr char index_lock_reason[] = "replica delete";

struct ReplicaList {
    union mailbox_list_module_context module_ctx;
    Ticket ticket;
    bool changing; // inside super: what Dovecot does there is part of the change
};
MODULE_CONTEXT_DEFINE_INIT(replica_list_module, &mailbox_list_module_register);

ReplicaList *replica_list(struct mailbox_list *list) {
    return static_cast<ReplicaList *>(MODULE_CONTEXT(list, replica_list_module));
}
const CboxApi &api_of(struct mailbox_list *list) { return *our_storage(list->ns->storage)->api; }
struct mailbox_vfuncs &super_of(struct mailbox *box) {
    return replica_mailbox(box)->module_ctx.super;
}

// Whether this change is to be told at all: a covered list, and not a step of another change or of a rebuild.
bool is_ours(struct mailbox_list *list) {
    return is_covered(list) && !replica_list(list)->changing && !list->ns->storage->rebuilding_list_index;
}

int list_error_to(struct mailbox *box, struct mailbox_list *list) {
    mail_storage_copy_list_error(box->storage, list);
    return -1;
}

Guid guid_of(struct mailbox *box, int *ret_r) {
    struct mailbox_metadata metadata;
    *ret_r = mailbox_get_metadata(box, MAILBOX_METADATA_GUID, &metadata);
    return *ret_r < 0 ? Guid() : Guid::from(metadata.guid);
}

// The node as it is now, under the list lock. -1: the error is set on the list.
int find_node(struct mailbox_list *list, const char *name, struct mailbox_list_index_node **node_r) {
    if (mailbox_list_index_refresh_force(list) < 0) return -1;
    *node_r = mailbox_list_index_lookup(list, name);
    return 0;
}
bool is_selectable(const struct mailbox_list_index_node *node) {
    return node != nullptr &&
           (node->flags & (MAILBOX_LIST_INDEX_FLAG_NONEXISTENT | MAILBOX_LIST_INDEX_FLAG_NOSELECT)) == 0;
}

// One list change: ask, do, tell. `super` runs only if the log took the change or the account is not replicated.
// `settle` runs after it and before the list's mark, with the number. Errors are super's, or set on the list.
template <class Super, class Settle>
int change_list(struct mailbox_list *list, ChangeKind kind, const Guid &subject, std::string payload, bool *refused_r,
                Super super, Settle settle) {
    Number number;
    CalloutAnswer answer = callout_list_commit(nullptr, list, kind, subject, std::move(payload), &number);
    *refused_r = answer == CalloutAnswer::refused;
    if (*refused_r) return -1;

    ReplicaList *replica = replica_list(list);
    replica->changing = true;
    int ret = super();
    replica->changing = false;
    if (answer == CalloutAnswer::not_replicated) {
        if (ret == 0) (void)api_of(list).list_unlogged_set(list);
        return ret;
    }
    bool ok = ret == 0 && settle(number) == 0;
    if (ok && api_of(list).list_mark_set(list, number) < 0) {
        *refused_r = true; // the error is on the list
        ok = false;
    }
    callout_list_done(nullptr, list, ok);
    return ok ? 0 : -1;
}

// A new mailbox must not be lost in a power cut once the list's mark says that it was made.
int sync_directories(struct mailbox *box) {
    const char *root, *path;
    if (!mailbox_list_get_root_path(box->list, MAILBOX_LIST_PATH_TYPE_DIR, &root) ||
        mailbox_get_path_to(box, MAILBOX_LIST_PATH_TYPE_MAILBOX, &path) <= 0)
        return 0;
    for (std::string dir = path; dir.size() >= strlen(root); dir.resize(dir.rfind('/'))) {
        int fd = ::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int ret = fd < 0 ? -1 : ::fsync(fd);
        if (ret < 0) mailbox_set_critical(box, "fsync(%s) failed: %m", dir.c_str());
        if (fd >= 0) ::close(fd);
        if (ret < 0) return -1;
    }
    return 0;
}

int settle_created(struct mailbox *box, const Number &number) {
    if (mailbox_open(box) < 0 || api_of(box->list).mark_set(box, number, true) < 0) return -1;
    return sync_directories(box);
}

constexpr auto settle_nothing = [](const Number &) { return 0; };

// DELETE waits for the saves that have their number and not their commit yet: they hold the index lock. Later ones are
// refused by the agent, so nothing is added to the mailbox between this and super.
class IndexLock {
public:
    explicit IndexLock(struct mailbox *box) : log_(box->index->log) {
        uint32_t file_seq;
        uoff_t offset;
        locked_ = mail_transaction_log_sync_lock(log_, index_lock_reason, &file_seq, &offset) == 0;
        if (!locked_) mailbox_set_index_error(box);
    }
    ~IndexLock() { unlock(); }
    IndexLock(const IndexLock &) = delete;
    bool locked() const { return locked_; }
    void unlock() {
        if (locked_) mail_transaction_log_sync_unlock(log_, index_lock_reason);
        locked_ = false;
    }

private:
    struct mail_transaction_log *log_;
    bool locked_;
};

bool has_mails(struct mailbox *box) {
    (void)mail_index_refresh(box->index);
    struct mail_index_view *view = mail_index_view_open(box->index);
    bool has = mail_index_view_get_messages_count(view) > 0;
    mail_index_view_close(&view);
    return has;
}

// A \NoSelect directory; what deletes a mailbox comes through here too, inside its own change.
int list_delete_dir(struct mailbox_list *list, const char *name) {
    auto &super = replica_list(list)->module_ctx.super;
    if (!is_ours(list)) return super.delete_dir(list, name);
    if (mailbox_list_lock(list) < 0) return -1;
    struct mailbox_list_index_node *node;
    int ret = find_node(list, name, &node);
    if (ret == 0 && (node == nullptr || is_selectable(node) || node->children != nullptr)) {
        ret = super.delete_dir(list, name); // refused
    } else if (ret == 0) {
        bool refused;
        ListDelete change{{}, components(list, mailbox_list_get_vname(list, name))};
        ret = change_list(
            list, ChangeKind::list_delete, {}, encode(change), &refused, [&] { return super.delete_dir(list, name); },
            settle_nothing);
    }
    mailbox_list_unlock(list);
    return ret;
}

} // namespace

void list_hooks_set(struct mailbox_list *list) {
    struct mailbox_list_vfuncs *v = list->vlast;
    auto *replica = p_new(list->pool, ReplicaList, 1);
    replica->module_ctx.super = *v;
    list->vlast = &replica->module_ctx.super;
    v->delete_dir = list_delete_dir;
    MODULE_CONTEXT_SET(list, replica_list_module, replica);
}

CalloutAnswer callout_list_commit(void *, struct mailbox_list *list, ChangeKind kind, const Guid &subject,
                                  std::string payload, Number *number_r) {
    struct event *event = list->ns->user->event;
    Standing standing = look(list, event);
    if (standing.kind == Standing::Kind::not_replicated) return CalloutAnswer::not_replicated;
    Mark mark;
    const char *error = standing.user_error;
    if (standing.kind == Standing::Kind::source) {
        if (api_of(list).list_mark_get(list, &mark) < 0) return CalloutAnswer::refused;
        Change change{list_object(list), kind, subject, mark.number, std::move(payload)};
        AgentReply reply = agent(list->ns->user).commit(account_name(list), mark, std::move(change));
        if (reply.reason == Reason::none) {
            replica_list(list)->ticket = reply.ticket;
            *number_r = reply.number;
            return CalloutAnswer::numbered;
        }
        error = refusal(event, reply);
    }
    mailbox_list_set_error(list, MAIL_ERROR_TEMP, error);
    return CalloutAnswer::refused;
}

void callout_list_done(void *, struct mailbox_list *list, bool ok) {
    agent(list->ns->user).done(replica_list(list)->ticket, ok);
}

int list_create_box(struct mailbox *box, const struct mailbox_update *update, bool directory) {
    struct mailbox_list *list = box->list;
    if (!is_ours(list)) return super_of(box).create_box(box, update, directory);
    struct mailbox_list_index_node *node;
    if (find_node(list, box->name, &node) < 0) return list_error_to(box, list);
    if (is_selectable(node) || (node != nullptr && directory)) return super_of(box).create_box(box, update, directory);

    // The change must say what will be made, so both are chosen here.
    struct mailbox_update with;
    i_zero(&with);
    if (update != nullptr) with = *update;
    if (!directory) {
        if (guid_128_is_empty(with.mailbox_guid)) guid_128_generate(with.mailbox_guid);
        if (with.uid_validity == 0) {
            const char *root = mailbox_list_get_root_forced(list, MAILBOX_LIST_PATH_TYPE_CONTROL);
            with.uid_validity = mailbox_uidvalidity_next(list, t_strconcat(root, uidvalidity_file, NULL));
        }
    }
    ListCreate change{directory ? Guid() : Guid::from(with.mailbox_guid), components(list, box->vname),
                      with.uid_validity};
    bool refused;
    int ret = change_list(
        list, ChangeKind::list_create, change.mailbox, encode(change), &refused,
        [&] { return super_of(box).create_box(box, directory ? update : &with, directory); },
        [&](const Number &number) { return directory ? 0 : settle_created(box, number); });
    return refused ? list_error_to(box, list) : ret;
}

int list_delete_box(struct mailbox *box) {
    struct mailbox_list *list = box->list;
    if (!is_ours(list) || !box->opened) return super_of(box).delete_box(box);
    int ret;
    ListDelete change{guid_of(box, &ret), components(list, box->vname)};
    if (ret < 0) return -1;

    const CboxApi &api = api_of(list);
    IndexLock lock(box);
    if (!lock.locked()) return -1;
    if (box->deleting_must_be_empty && has_mails(box)) {
        mail_storage_set_error(box->storage, MAIL_ERROR_EXISTS, "Mailbox isn't empty");
        return -1;
    }
    bool refused;
    ret = change_list(
        list, ChangeKind::list_delete, change.mailbox, encode(change), &refused,
        [&] {
            lock.unlock();
            api.deleting_set(box, true);
            int deleted = super_of(box).delete_box(box);
            api.deleting_set(box, false);
            return deleted;
        },
        settle_nothing);
    return refused ? list_error_to(box, list) : ret;
}

int list_rename_box(struct mailbox *src, struct mailbox *dest) {
    struct mailbox_list *list = src->list;
    if (!is_ours(list) || list != dest->list) return super_of(src).rename_box(src, dest);
    struct mailbox_list_index_node *node;
    if (find_node(list, src->name, &node) < 0) return list_error_to(src, list);
    bool taken = mailbox_list_index_lookup(list, dest->name) != nullptr;
    std::string below = std::string(src->name) + mailbox_list_get_hierarchy_sep(list);
    if (node == nullptr || taken || std::string_view(dest->name).starts_with(below))
        return super_of(src).rename_box(src, dest); // refused

    int ret = 0;
    ListRename change{is_selectable(node) ? guid_of(src, &ret) : Guid(), components(list, src->vname),
                      components(list, dest->vname)};
    if (ret < 0) return -1;
    bool refused;
    ret = change_list(
        list, ChangeKind::list_rename, {}, encode(change), &refused,
        [&] { return super_of(src).rename_box(src, dest); }, settle_nothing);
    return refused ? list_error_to(src, list) : ret;
}

int list_set_subscribed(struct mailbox *box, bool set) {
    // As the driver does: a namespace without subscriptions of its own keeps them in another.
    struct mail_namespace *ns = box->list->ns;
    if ((ns->flags & NAMESPACE_FLAG_SUBSCRIPTIONS) == 0)
        ns = mail_namespace_find_subscribable(ns->user->namespaces, box->vname);
    if (ns == nullptr || !is_ours(ns->list)) return super_of(box).set_subscribed(box, set);

    struct mailbox_list *list = ns->list;
    if (mailbox_list_lock(list) < 0) return list_error_to(box, list);
    ListSubscription change{components(list, box->vname), set};
    bool refused;
    int ret = change_list(
        list, ChangeKind::list_subscription, {}, encode(change), &refused,
        [&] { return super_of(box).set_subscribed(box, set); }, settle_nothing);
    mailbox_list_unlock(list);
    return refused ? list_error_to(box, list) : ret;
}

} // namespace replica
