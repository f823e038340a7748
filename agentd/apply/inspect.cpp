// Facts of an account. Writes nothing.
#include "agentd/apply/worker.hpp"
#include <algorithm>
#include <sys/stat.h>

namespace replica {

namespace {

// What plugins make of bodies must be the same wherever the bodies are read.
constexpr const char *body_plugins[] = {"mail_crypt", "zlib", "mail_compress"};

bool has_word(const std::string &words, std::string_view word) {
    for (size_t at = 0; (at = words.find(word, at)) != words.npos; ++at) {
        auto is_blank = [&](size_t i) { return i >= words.size() || words[i] == ' ' || words[i] == ','; };
        if ((at == 0 || is_blank(at - 1)) && is_blank(at + word.size())) return true;
    }
    return false;
}

std::string comparable_settings(const Account &account, const Covered &inbox) {
    std::string text = "driver=" + std::string(cbox_storage_name) +
                       "\nlayout=" + mailbox_list_get_driver_name(inbox.list) +
                       "\nseparator=" + mail_namespace_get_sep(inbox.ns) + "\n";
    for (const char *plugin : body_plugins)
        text += std::string(plugin) + "=" + (has_word(account.site_plugins(), plugin) ? "yes" : "no") + "\n";
    std::string blobs = inbox.api->blob_root(&inbox.storage->storage);
    return text + "blob_fs=" + blobs.substr(0, blobs.find(' ')) + "\n";
}

Result<ObjectState> describe_mailbox(const Covered &where, const Listed &mailbox) {
    AllocatedBox box(where.list, mailbox.vname);
    ObjectState state{{where.ns->prefix, mailbox.guid}, mailbox.name, {}, 0, mailbox.uid_validity};
    struct mailbox_status status;
    if (mailbox_open(box) < 0 || where.api->mark_get(box, &state.mark) < 0 ||
        mailbox_get_status(box, static_cast<enum mailbox_status_items>(STATUS_MESSAGES | STATUS_UIDVALIDITY), &status) <
            0)
        return storage_error(box, "cannot open");
    state.mails = status.messages;
    state.uid_validity = status.uidvalidity;
    return state;
}

Result<void> describe_list(const Covered &where, std::vector<ObjectState> &lists, std::vector<ObjectState> &mailboxes) {
    ObjectState list{{where.ns->prefix, {}}, {}, {}, 0, 0};
    if (where.api->list_mark_get(where.list, &list.mark) < 0)
        return list_error(where.list, "cannot read the list's mark");
    lists.push_back(std::move(list));
    auto listed = list_mailboxes(where);
    if (!listed) return listed.error();
    for (const Listed &mailbox : *listed) {
        if (mailbox.guid.empty()) continue;
        auto state = describe_mailbox(where, mailbox);
        if (state)
            mailboxes.push_back(std::move(*state));
        else if (state.error().code != Code::gone)
            return state.error();
    }
    return {};
}

std::string fitness_problem(const Account &account, const Result<Covered> &inbox) {
    if (!inbox) return "INBOX: " + inbox.error().message;
    if (account.mail_root().empty()) return "the account has no mail directory";
    for (const char *plugin : {"cbox", "replica"})
        if (!has_word(account.site_plugins(), plugin)) return std::string("mail_plugins lacks ") + plugin;
    return {};
}

} // namespace

Result<AccountFacts> inspect(Account &account, bool with_objects) {
    AccountFacts facts;
    struct mail_user *user = account.user();
    const char *home;
    facts.exists = true;
    facts.user = user->username;
    facts.uid = std::to_string(geteuid());
    facts.gid = std::to_string(getegid());
    if (mail_user_get_home(user, &home) > 0) facts.home = home;
    facts.mail_root = account.mail_root();
    struct stat st;
    if (::stat(facts.mail_root.c_str(), &st) == 0) facts.device = st.st_dev;

    auto inbox = Account::covered(account.inbox_namespace());
    facts.unfit = fitness_problem(account, inbox);
    if (inbox) {
        facts.blob_root = inbox->api->blob_root(&inbox->storage->storage);
        facts.settings = comparable_settings(account, *inbox);
    }
    std::vector<ObjectState> mailboxes;
    for (struct mail_namespace *ns = user->namespaces; ns != nullptr; ns = ns->next) {
        auto where = Account::covered(ns);
        if (!where && ns->alias_for == nullptr) facts.not_covered.emplace_back(ns->prefix);
        if (!where || !with_objects) continue;
        auto described = describe_list(*where, facts.objects, mailboxes);
        if (!described) return described.error();
    }
    std::move(mailboxes.begin(), mailboxes.end(), std::back_inserter(facts.objects));
    return facts;
}

} // namespace replica
