#include "agentd/apply/names.hpp"

namespace replica {

namespace {

constexpr char inbox[] = "INBOX";
constexpr auto iterate_existing = MAILBOX_LIST_ITER_NO_AUTO_BOXES | MAILBOX_LIST_ITER_SKIP_ALIASES;

// 1, 0 = it went away meanwhile, -1.
int describe(const Covered &where, Listed &listed) {
    AllocatedBox box(where.list, listed.vname);
    struct mailbox_metadata metadata;
    struct mailbox_status status;
    if (mailbox_get_metadata(box, MAILBOX_METADATA_GUID, &metadata) < 0 ||
        mailbox_get_status(box, STATUS_UIDVALIDITY, &status) < 0) {
        if (mailbox_get_last_mail_error(box) == MAIL_ERROR_NOTFOUND) return 0;
        mailbox_list_set_error(where.list, MAIL_ERROR_TEMP, mailbox_get_last_internal_error(box, nullptr));
        return -1;
    }
    listed.guid = Guid::from(metadata.guid);
    listed.uid_validity = status.uidvalidity;
    return 1;
}

// Each that matches: `visit` returns -1 to end with the error that it set on the list.
template <class Visit> int iterate(const Covered &where, int flags, Visit visit) {
    struct mailbox_list_iterate_context *iter =
        mailbox_list_iter_init(where.list, "*", static_cast<enum mailbox_list_iter_flags>(flags));
    int ret = 0;
    while (ret == 0) {
        const struct mailbox_info *info = mailbox_list_iter_next(iter);
        if (info == nullptr) break;
        ret = visit(*info);
    }
    return mailbox_list_iter_deinit(&iter) < 0 ? -1 : ret;
}

} // namespace

Result<std::string> vname_of(struct mail_namespace *ns, const MailboxName &name) {
    constexpr auto has_inbox = NAMESPACE_FLAG_INBOX_USER | NAMESPACE_FLAG_INBOX_ANY;
    if (name.size() == 1 && (ns->flags & has_inbox) != 0 && strcasecmp(name[0].c_str(), inbox) == 0)
        return std::string(inbox);
    std::string vname = ns->prefix;
    char separator = mail_namespace_get_sep(ns);
    for (size_t i = 0; i < name.size(); ++i) {
        if (name[i].empty() || name[i].find(separator) != std::string::npos || name[i].find('\0') != std::string::npos)
            return Error{Code::invalid, "a mailbox name cannot be had with this namespace's separator: " + name[i]};
        if (i > 0) vname += separator;
        vname += name[i];
    }
    if (name.empty()) return Error{Code::invalid, "a mailbox without a name"};
    return vname;
}

MailboxName name_of(struct mail_namespace *ns, std::string_view vname) {
    std::string_view prefix(ns->prefix);
    if (vname.starts_with(prefix))
        vname.remove_prefix(prefix.size()); // the INBOX stands outside its namespace's prefix
    MailboxName name;
    char separator = mail_namespace_get_sep(ns);
    for (size_t end; (end = vname.find(separator)) != vname.npos; vname.remove_prefix(end + 1))
        name.emplace_back(vname.substr(0, end));
    name.emplace_back(vname);
    return name;
}

Result<std::vector<Listed>> list_mailboxes(const Covered &where) {
    std::vector<Listed> found;
    if (mailbox_list_index_refresh_force(where.list) < 0) return list_error(where.list, "cannot read the mailbox list");
    int ret =
        iterate(where, iterate_existing | MAILBOX_LIST_ITER_RETURN_CHILDREN, [&](const struct mailbox_info &info) {
            if ((info.flags & MAILBOX_NONEXISTENT) != 0 && (info.flags & MAILBOX_NOCHILDREN) == 0) return 0;
            Listed listed;
            listed.vname = info.vname;
            listed.name = name_of(where.ns, info.vname);
            if ((info.flags & (MAILBOX_NOSELECT | MAILBOX_NONEXISTENT)) == 0) {
                int described = describe(where, listed);
                if (described <= 0) return described;
            }
            found.push_back(std::move(listed));
            return 0;
        });
    if (ret < 0) return list_error(where.list, "cannot list the mailboxes");
    return found;
}

Result<std::vector<MailboxName>> list_subscriptions(const Covered &where) {
    std::vector<MailboxName> found;
    int ret = iterate(where, iterate_existing | MAILBOX_LIST_ITER_SELECT_SUBSCRIBED | MAILBOX_LIST_ITER_RETURN_NO_FLAGS,
                      [&](const struct mailbox_info &info) {
                          found.push_back(name_of(where.ns, info.vname));
                          return 0;
                      });
    if (ret < 0) return list_error(where.list, "cannot list the subscriptions");
    return found;
}

} // namespace replica
