#include "agentd/apply/accounts.hpp"
#include <grp.h>

namespace replica {

namespace {

void must(int ret, const char *what) {
    if (ret < 0) i_fatal("%s failed: %m", what);
}

} // namespace

Accounts::Accounts(struct mail_storage_service_ctx *ctx) : ctx_(ctx), switches_rights_(geteuid() == 0) {}

void Accounts::set_originate(bool originate) {
    close_all();
    originate_ = originate;
    callout_guard_set(!originate);
}

Result<Accounts::Entry> Accounts::open(const std::string &name) {
    // A second for each lock. Only what belongs to the applier: the source has done what the other plugins do.
    std::vector<std::pair<const char *, const char *>> overrides = {
        {"mail_plugins", originate_ ? "cbox replica" : "cbox"}, {"mail_max_lock_timeout", "1s"}};
    compat::OpenedUser opened;
    const char *error = "";
    int ret = compat::user_open(ctx_, name.c_str(), overrides, &opened, &error);
    if (ret <= 0) {
        if (switches_rights_) must(seteuid(0), "seteuid(0)");
        if (ret == 0) return Error{Code::gone, "there is no such user"};
        return Error{ret == -1 ? Code::retry : Code::invalid, error};
    }
    Entry entry{name, nullptr, {geteuid(), getegid(), {}}};
    if (int count = getgroups(0, nullptr); count > 0) {
        entry.rights.groups.resize(static_cast<size_t>(count));
        must(getgroups(count, entry.rights.groups.data()), "getgroups()");
    }
    entry.account = std::make_unique<Account>(std::move(opened));
    return entry;
}

Result<Account *> Accounts::enter(const std::string &name) {
    leave();
    for (auto it = entries_.begin(); it != entries_.end(); ++it)
        if (it->name == name) {
            entries_.splice(entries_.begin(), entries_, it);
            enter(*it);
            return entered_;
        }
    if (entries_.size() >= accounts_max) close(std::prev(entries_.end()));
    auto entry = open(name);
    if (!entry) return entry.error();
    entries_.push_front(std::move(*entry));
    entered_ = entries_.front().account.get();
    return entered_;
}

void Accounts::enter(Entry &entry) {
    entered_ = entry.account.get();
    mail_storage_service_io_activate_user(entered_->service_user());
    if (!switches_rights_) return;
    must(setgroups(entry.rights.groups.size(), entry.rights.groups.data()), "setgroups()");
    must(setgid(entry.rights.gid), "setgid()");
    must(seteuid(entry.rights.uid), "seteuid()");
}

void Accounts::leave() {
    if (entered_ == nullptr) return;
    if (switches_rights_) must(seteuid(0), "seteuid(0)");
    mail_storage_service_io_deactivate_user(entered_->service_user());
    entered_ = nullptr;
}

void Accounts::close(std::list<Entry>::iterator it) {
    leave();
    enter(*it);
    struct mail_storage_service_user *service_user = it->account->service_user();
    it->account.reset();
    if (switches_rights_) must(seteuid(0), "seteuid(0)");
    mail_storage_service_io_deactivate_user(service_user);
    entered_ = nullptr;
    mail_storage_service_user_unref(&service_user);
    entries_.erase(it);
}

void Accounts::close(const std::string &name) {
    for (auto it = entries_.begin(); it != entries_.end(); ++it)
        if (it->name == name) return close(it);
}

void Accounts::close_all() {
    while (!entries_.empty())
        close(entries_.begin());
}

} // namespace replica
