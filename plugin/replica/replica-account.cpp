#include "plugin/replica/replica-plugin.hpp"
#include "plugin/compat/settings.hpp"

namespace replica {

using std::chrono::milliseconds;

namespace {

constexpr char state_file[] = "/.replica/state";
constexpr milliseconds list_clear_wait_max{1000}; // a login does not wait longer for a list change in doubt

AgentClient *the_agent = nullptr;

struct ReplicaUser {
    union mail_user_module_context module_ctx;
    const char *state_path;
};
MODULE_CONTEXT_DEFINE_INIT(replica_user_module, &mail_user_module_register);

// One control dir for all private namespaces: below the root of that with the INBOX. Others' roots are their owners'.
const char *state_path(struct mailbox_list *list) {
    struct mail_namespace *ns = list->ns;
    if (ns->type != MAIL_NAMESPACE_TYPE_PRIVATE) {
        const char *root;
        return mailbox_list_get_root_path(list, MAILBOX_LIST_PATH_TYPE_DIR, &root) ? t_strconcat(root, state_file, NULL)
                                                                                   : nullptr;
    }
    auto *user = static_cast<ReplicaUser *>(MODULE_CONTEXT(ns->user, replica_user_module));
    if (user == nullptr) {
        user = p_new(ns->user->pool, ReplicaUser, 1);
        MODULE_CONTEXT_SET(ns->user, replica_user_module, user);
        struct mail_namespace *inbox = mail_namespace_find_inbox(ns->user->namespaces);
        const char *root;
        if (mailbox_list_get_root_path(inbox->list, MAILBOX_LIST_PATH_TYPE_DIR, &root))
            user->state_path = p_strconcat(ns->user->pool, root, state_file, NULL);
    }
    return user->state_path;
}

const char *user_error(Reason reason) {
    switch (reason) {
    case Reason::not_source:
        return "[UNAVAILABLE] This account is active on another mail store.";
    case Reason::behind:
    case Reason::busy:
        return "[UNAVAILABLE] The mailbox is being brought up to date, try again.";
    case Reason::deleted:
        return "[UNAVAILABLE] The mailbox is being deleted.";
    case Reason::too_large:
        return "[LIMIT] This change is too large, make it in smaller steps.";
    case Reason::stopped:
        return "[UNAVAILABLE] The account takes no changes until an administrator has looked at it.";
    case Reason::none:
    case Reason::unavailable:
    case Reason::protocol:
        break;
    }
    return "[UNAVAILABLE] The change cannot be replicated now, try again later.";
}

const char *reason_name(Reason reason) {
    static constexpr const char *names[] = {"none",      "unavailable", "not_source", "behind",  "deleted",
                                            "too_large", "stopped",     "busy",       "protocol"};
    auto index = static_cast<size_t>(reason);
    return index < std::size(names) ? names[index] : "unknown";
}

bool boot_is_current(const ControlState &state) { return !current_boot().empty() && state.boot == current_boot(); }

void clear_list(struct mailbox_list *list) {
    CboxStorage *storage = our_storage(list->ns->storage);
    Mark mark;
    if (storage->api->list_mark_get(list, &mark) < 0)
        return; // whoever uses the list will meet the same error and name it
    AgentClient &client = agent(list->ns->user);
    AgentReply reply =
        client.clear(account_name(list), list_object(list), mark, std::min(client.ack_timeout(), list_clear_wait_max));
    if (reply.reason != Reason::none)
        (void)refusal(list->ns->user->event, reply); // reading goes on, changes are asked again
}

} // namespace

CboxStorage *our_storage(struct mail_storage *storage) {
    if (storage == nullptr || strcmp(storage->name, cbox_storage_name) != 0) return nullptr;
    auto *cbox = reinterpret_cast<CboxStorage *>(storage);
    return cbox->callout == &replica_callout ? cbox : nullptr;
}

bool is_covered(struct mailbox_list *list) {
    return list->ns->type == MAIL_NAMESPACE_TYPE_PRIVATE && strcmp(list->name, MAILBOX_LIST_NAME_INDEX) == 0 &&
           our_storage(list->ns->storage) != nullptr;
}

Object list_object(struct mailbox_list *list) {
    struct mail_namespace *ns = list->ns->alias_for != nullptr ? list->ns->alias_for : list->ns;
    return {ns->prefix, {}};
}

const char *account_name(struct mailbox_list *list) { return list->ns->owner->username; }

MailboxName components(struct mailbox_list *list, const char *vname) {
    std::string_view rest(vname), prefix(list->ns->prefix);
    if (rest.starts_with(prefix)) rest.remove_prefix(prefix.size()); // the INBOX stands outside its namespace's prefix
    MailboxName name;
    char separator = mail_namespace_get_sep(list->ns);
    while (true) {
        size_t end = rest.find(separator);
        name.emplace_back(rest.substr(0, end));
        if (end == rest.npos) return name;
        rest.remove_prefix(end + 1);
    }
}

Standing look(struct mailbox_list *list, struct event *event) {
    using Kind = Standing::Kind;
    const char *path = state_path(list);
    if (path == nullptr) return {};
    auto state = read_control_state(path);
    if (!state) {
        e_error(event, "replica_control_dir_unreadable: %s", state.error().message.c_str());
        return {Kind::refused, "[UNAVAILABLE] It is not known whether this account may be changed here."};
    }
    if (!*state) return {};
    if ((*state)->role != Role::source) return {Kind::refused, user_error(Reason::not_source)};
    if (!boot_is_current(**state)) return {Kind::refused, user_error(Reason::behind)};
    // Through a shared namespace the owner's account is changed past its log: cbox notes it, and a snapshot brings it.
    return {is_covered(list) ? Kind::source : Kind::not_replicated, nullptr, (*state)->epoch};
}

int callout_standing(void *, struct mailbox_list *list, uint64_t *epoch_r) {
    Standing standing = look(list, list->ns->user->event);
    *epoch_r = standing.kind == Standing::Kind::source ? standing.epoch : 0;
    if (*epoch_r != 0) return 1;
    if (standing.kind == Standing::Kind::not_replicated) return 0;
    mailbox_list_set_error(list, MAIL_ERROR_TEMP, standing.user_error);
    return -1;
}

void account_opened(struct mail_namespace *namespaces) {
    struct mail_user *user = namespaces->user;
    std::optional<ControlState> state;
    for (struct mail_namespace *ns = namespaces; ns != nullptr; ns = ns->next) {
        if (ns->alias_for != nullptr || !is_covered(ns->list)) continue;
        if (!state) {
            const char *path = state_path(ns->list);
            auto found = path == nullptr ? std::optional<ControlState>() : read_control_state(path);
            if (!found) {
                user->error = p_strdup_printf(user->pool, "replica: %s", found.error().message.c_str());
                return;
            }
            if (!*found) return;
            state = std::move(**found);
            if (state->role != Role::removed && !boot_is_current(*state)) {
                user->error =
                    p_strdup(user->pool, "replica: the host was restarted, and this account is not brought up to "
                                         "date from its log yet: try again later");
                return;
            }
        }
        // A delivery hardly ever changes the list, and opens its user for each mail: it goes without the question.
        if (state->role == Role::source && strcmp(master_service_get_name(master_service), "lmtp") != 0)
            clear_list(ns->list);
    }
}

AgentClient &agent(struct mail_user *user) {
    if (the_agent == nullptr) {
        auto settings = user_settings(user);
        if (!settings) {
            e_error(user->event, "%s; the defaults hold", settings.error().message.c_str());
            settings = parse_settings({});
        }
        the_agent = new AgentClient({std::string(user->set->base_dir) + "/" + settings->agent_socket,
                                     master_service_get_name(master_service), settings->ack_timeout});
    }
    return *the_agent;
}

void agent_close() {
    delete the_agent;
    the_agent = nullptr;
}

AgentReply offer(struct mailbox_list *list, const Mark &mark, Change change) {
    AgentClient &client = agent(list->ns->user);
    change.previous = mark.number;
    if (!mark.unlogged || change.kind == ChangeKind::snapshot || change.kind == ChangeKind::list_snapshot)
        return client.commit(account_name(list), mark, std::move(change));
    client.ask_for_clear(account_name(list), change.object, mark);
    AgentReply reply;
    reply.reason = Reason::behind;
    reply.text = "it has changes that are in no log, and needs a snapshot first";
    return reply;
}

const char *refusal(struct event *event, const AgentReply &reply) {
    if (reply.known)
        e_debug(event, "replica_refused reason=%s: %s", reason_name(reply.reason), reply.text.c_str());
    else
        e_warning(event, "replica_refused reason=%s: %s", reason_name(reply.reason), reply.text.c_str());
    return user_error(reply.reason);
}

} // namespace replica
