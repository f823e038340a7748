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
    ARRAY_TYPE(const_string) autocreated;
};
MODULE_CONTEXT_DEFINE_INIT(replica_list_module, &mailbox_list_module_register);

ReplicaList *replica_list(struct mailbox_list *list) {
    return static_cast<ReplicaList *>(MODULE_CONTEXT(list, replica_list_module));
}
const CboxApi &api_of(struct mailbox_list *list) { return *our_storage(list->ns->storage)->api; }
struct mailbox_vfuncs &super_of(struct mailbox *box) {
    return replica_mailbox(box)->module_ctx.super;
}

// Not the lists of other drivers or layouts, and not what is a step of another change or of a rebuild.
bool is_ours(struct mailbox_list *list) {
    return strcmp(list->name, MAILBOX_LIST_NAME_INDEX) == 0 && our_storage(list->ns->storage) != nullptr &&
           !replica_list(list)->changing && !list->ns->storage->rebuilding_list_index;
}

// Errors of the list are the mailbox's, where there is one.
int list_error(struct mailbox_list *list, struct mailbox *box) {
    if (box != nullptr) mail_storage_copy_list_error(box->storage, list);
    return -1;
}

int guid_of(struct mailbox *box, Guid *guid_r) {
    struct mailbox_metadata metadata;
    if (mailbox_get_metadata(box, MAILBOX_METADATA_GUID, &metadata) < 0) return -1;
    *guid_r = Guid::from(metadata.guid);
    return 0;
}

// The node as it is now, under the list lock.
int find_node(struct mailbox_list *list, const char *name, struct mailbox_list_index_node **node_r) {
    if (mailbox_list_index_refresh_force(list) < 0) return -1;
    *node_r = mailbox_list_index_lookup(list, name);
    return 0;
}
bool is_selectable(const struct mailbox_list_index_node *node) {
    return node != nullptr &&
           (node->flags & (MAILBOX_LIST_INDEX_FLAG_NONEXISTENT | MAILBOX_LIST_INDEX_FLAG_NOSELECT)) == 0;
}

template <class Super> int run_super(struct mailbox_list *list, Super super, const Number &number) {
    replica_list(list)->changing = true;
    int ret = super(number);
    replica_list(list)->changing = false;
    return ret;
}

template <class Super> int change_past_log(struct mailbox_list *list, Super super) {
    int ret = run_super(list, super, {});
    if (ret == 0) (void)api_of(list).list_unlogged_set(list);
    return ret;
}

struct Told {
    ChangeKind kind;
    Guid subject;
    std::string payload;
};

// One change of a list, under its lock: describe, ask, do, tell.
//   describe(Told &): 1, or 0 where super is going to refuse, or -1 with the error set; runs only on a source
//   super(number): Dovecot's own; its errors are where it sets them. No number: not told to the log
template <class Describe, class Super>
int change_list(struct mailbox_list *list, struct mailbox *box, Describe describe, Super super) {
    if (!is_ours(list)) return super(Number());
    Standing standing = look(list, list->ns->user->event);
    if (standing.kind == Standing::Kind::not_replicated) return change_past_log(list, super);
    if (standing.kind == Standing::Kind::refused) {
        mailbox_list_set_error(list, MAIL_ERROR_TEMP, standing.user_error);
        return list_error(list, box);
    }

    Told told;
    if (int ret = describe(told); ret <= 0) return ret < 0 ? -1 : super(Number());
    Number number;
    switch (callout_list_commit(nullptr, list, told.kind, told.subject, std::move(told.payload), &number)) {
    case CalloutAnswer::refused:
    case CalloutAnswer::in_doubt:
        return list_error(list, box);
    case CalloutAnswer::not_replicated:
        return change_past_log(list, super);
    case CalloutAnswer::numbered:
        break;
    }
    int ret = run_super(list, super, number);
    if (ret == 0 && api_of(list).list_mark_set(list, number) < 0) ret = list_error(list, box);
    callout_list_done(nullptr, list, ret == 0);
    return ret;
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
    if (mailbox_list_lock(list) < 0) return -1;
    auto describe = [&](Told &told) {
        struct mailbox_list_index_node *node;
        if (find_node(list, name, &node) < 0) return -1;
        if (node == nullptr || is_selectable(node) || node->children != nullptr) return 0;
        told = {
            ChangeKind::list_delete, {}, encode(ListDelete{{}, components(list, mailbox_list_get_vname(list, name))})};
        return 1;
    };
    int ret = change_list(list, nullptr, describe,
                          [&](const Number &) { return replica_list(list)->module_ctx.super.delete_dir(list, name); });
    mailbox_list_unlock(list);
    return ret;
}

// The answer to a look for a mailbox that Dovecot would create: it calls a refused creation a bug, so ask beforehand.
const char *autocreate_refusal(struct mailbox_list *list) {
    struct event *event = list->ns->user->event;
    Standing standing = look(list, event);
    if (standing.kind != Standing::Kind::source) return standing.user_error;
    Mark mark;
    if (api_of(list).list_mark_get(list, &mark) < 0) return nullptr;
    AgentClient &client = agent(list->ns->user);
    AgentReply reply = client.clear(account_name(list), list_object(list), mark, client.ack_timeout());
    return reply.reason == Reason::none ? nullptr : refusal(event, reply);
}

int list_get_path(struct mailbox_list *list, const char *name, enum mailbox_list_path_type type, const char **path_r) {
    ReplicaList *replica = replica_list(list);
    int ret = replica->module_ctx.super.get_path(list, name, type, path_r);
    if (ret >= 0 || name == nullptr || mailbox_list_get_last_mail_error(list) != MAIL_ERROR_NOTFOUND || !is_ours(list))
        return ret;
    const char *missed;
    array_foreach_elem(&replica->autocreated, missed) {
        if (strcmp(missed, name) != 0) continue;
        if (const char *error = autocreate_refusal(list)) mailbox_list_set_error(list, MAIL_ERROR_TEMP, error);
        break;
    }
    return ret;
}

} // namespace

void list_note_autocreated(struct mailbox_list *list, const char *name) {
    if (strcmp(list->name, MAILBOX_LIST_NAME_INDEX) != 0) return;
    auto *names = &replica_list(list)->autocreated;
    const char *known;
    array_foreach_elem(names, known) if (strcmp(known, name) == 0) return;
    known = p_strdup(list->pool, name);
    array_push_back(names, &known);
}

void list_hooks_set(struct mailbox_list *list) {
    struct mailbox_list_vfuncs *v = list->vlast;
    auto *replica = p_new(list->pool, ReplicaList, 1);
    replica->module_ctx.super = *v;
    list->vlast = &replica->module_ctx.super;
    p_array_init(&replica->autocreated, list->pool, 2);
    v->delete_dir = list_delete_dir;
    v->get_path = list_get_path;
    MODULE_CONTEXT_SET(list, replica_list_module, replica);
}

CalloutAnswer callout_list_commit(void *, struct mailbox_list *list, ChangeKind kind, const Guid &subject,
                                  std::string payload, Number *number_r) {
    struct event *event = list->ns->user->event;
    Standing standing = look(list, event);
    if (standing.kind == Standing::Kind::not_replicated) return CalloutAnswer::not_replicated;
    Mark mark;
    bool in_doubt = false;
    const char *error = standing.user_error;
    if (standing.kind == Standing::Kind::source) {
        if (api_of(list).list_mark_get(list, &mark) < 0) return CalloutAnswer::refused;
        AgentReply reply = offer(list, mark, {list_object(list), kind, subject, {}, std::move(payload)});
        if (reply.reason == Reason::none) {
            replica_list(list)->ticket = reply.ticket;
            *number_r = reply.number;
            return CalloutAnswer::numbered;
        }
        error = refusal(event, reply);
        in_doubt = reply.in_doubt;
    }
    mailbox_list_set_error(list, MAIL_ERROR_TEMP, error);
    return in_doubt ? CalloutAnswer::in_doubt : CalloutAnswer::refused;
}

void callout_list_done(void *, struct mailbox_list *list, bool ok) {
    agent(list->ns->user).done(replica_list(list)->ticket, ok);
}

int list_create_box(struct mailbox *box, const struct mailbox_update *update, bool directory) {
    struct mailbox_list *list = box->list;
    struct mailbox_update chosen;
    auto describe = [&](Told &told) {
        struct mailbox_list_index_node *node;
        if (find_node(list, box->name, &node) < 0) return list_error(list, box);
        if (is_selectable(node) || (node != nullptr && directory)) return 0;
        ListCreate change{{}, components(list, box->vname), 0};
        if (!directory) {
            // The change must say what will be made, so what Dovecot would choose is chosen here.
            i_zero(&chosen);
            if (update != nullptr) chosen = *update;
            if (guid_128_is_empty(chosen.mailbox_guid)) guid_128_generate(chosen.mailbox_guid);
            if (chosen.uid_validity == 0) {
                const char *root = mailbox_list_get_root_forced(list, MAILBOX_LIST_PATH_TYPE_CONTROL);
                chosen.uid_validity = mailbox_uidvalidity_next(list, t_strconcat(root, uidvalidity_file, NULL));
            }
            update = &chosen;
            change.mailbox = Guid::from(chosen.mailbox_guid);
            change.uid_validity = chosen.uid_validity;
        }
        told = {ChangeKind::list_create, change.mailbox, encode(change)};
        return 1;
    };
    auto super = [&](const Number &number) {
        reinterpret_cast<CboxStorage *>(box->storage)->api->first_mark_set(box, number);
        int ret = super_of(box).create_box(box, update, directory);
        return ret == 0 && !directory && !number.none() ? sync_directories(box) : ret;
    };
    return change_list(list, box, describe, super);
}

int list_delete_box(struct mailbox *box) {
    struct mailbox_list *list = box->list;
    if (!box->opened) return super_of(box).delete_box(box); // a directory: comes by through delete_dir
    std::optional<IndexLock> lock;
    auto describe = [&](Told &told) {
        ListDelete change{{}, components(list, box->vname)};
        if (guid_of(box, &change.mailbox) < 0) return -1;
        if (!lock.emplace(box).locked()) return -1;
        if (box->deleting_must_be_empty && has_mails(box)) {
            mail_storage_set_error(box->storage, MAIL_ERROR_EXISTS, "Mailbox isn't empty");
            return -1;
        }
        told = {ChangeKind::list_delete, change.mailbox, encode(change)};
        return 1;
    };
    auto super = [&](const Number &) {
        bool told = lock.has_value();
        lock.reset();
        if (told) api_of(list).deleting_set(box, true);
        int ret = super_of(box).delete_box(box);
        if (told) api_of(list).deleting_set(box, false);
        return ret;
    };
    return change_list(list, box, describe, super);
}

int list_rename_box(struct mailbox *src, struct mailbox *dest) {
    struct mailbox_list *list = src->list;
    auto super = [&](const Number &) { return super_of(src).rename_box(src, dest); };
    if (list != dest->list) return super({}); // refused: this layout renames within a namespace only
    auto describe = [&](Told &told) {
        struct mailbox_list_index_node *node;
        if (find_node(list, src->name, &node) < 0) return list_error(list, src);
        std::string below = std::string(src->name) + mailbox_list_get_hierarchy_sep(list);
        if (node == nullptr || mailbox_list_index_lookup(list, dest->name) != nullptr ||
            std::string_view(dest->name).starts_with(below))
            return 0;
        ListRename change{{}, components(list, src->vname), components(list, dest->vname)};
        if (is_selectable(node) && guid_of(src, &change.mailbox) < 0) return -1;
        told = {ChangeKind::list_rename, {}, encode(change)};
        return 1;
    };
    return change_list(list, src, describe, super);
}

int list_set_subscribed(struct mailbox *box, bool set) {
    auto super = [&](const Number &) { return super_of(box).set_subscribed(box, set); };
    // As the driver does: a namespace without subscriptions of its own keeps them in another.
    struct mail_namespace *ns = box->list->ns;
    if ((ns->flags & NAMESPACE_FLAG_SUBSCRIPTIONS) == 0)
        ns = mail_namespace_find_subscribable(ns->user->namespaces, box->vname);
    if (ns == nullptr) return super({});

    struct mailbox_list *list = ns->list;
    if (mailbox_list_lock(list) < 0) return list_error(list, box);
    auto describe = [&](Told &told) {
        told = {ChangeKind::list_subscription, {}, encode(ListSubscription{components(list, box->vname), set})};
        return 1;
    };
    int ret = change_list(list, box, describe, super);
    mailbox_list_unlock(list);
    return ret;
}

} // namespace replica
