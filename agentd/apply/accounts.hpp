// The accounts that are open in this worker. At most one is entered: its log prefix and rights are the process's.
// Thread: the process's only one. Owns: the accounts. Fails: Result; gone = userdb knows no such user.
// Limits: accounts_max stay open, the least recently used one is closed.
#pragma once
#include "agentd/apply/account.hpp"

namespace replica {

class Accounts {
public:
    static constexpr size_t accounts_max = 64;

    explicit Accounts(struct mail_storage_service_ctx *ctx);
    ~Accounts() { close_all(); }
    Accounts(const Accounts &) = delete;

    // Opens or finds it and enters it, until leave(). Valid until the next enter().
    Result<Account *> enter(const std::string &name);
    void leave();
    void close(const std::string &name);
    void close_all();
    // Whether changes made here call out to the agent as any mail process's do. Closes all.
    void set_originate(bool originate);
    bool originate() const { return originate_; }

private:
    struct Rights {
        uid_t uid = 0;
        gid_t gid = 0;
        std::vector<gid_t> groups;
    };
    struct Entry {
        std::string name;
        std::unique_ptr<Account> account;
        Rights rights;
    };
    Result<Entry> open(const std::string &name);
    void enter(Entry &entry);
    void close(std::list<Entry>::iterator it);

    struct mail_storage_service_ctx *ctx_;
    bool switches_rights_; // started as root
    bool originate_ = false;
    std::list<Entry> entries_; // most recently used first
    Account *entered_ = nullptr;
};

// What answers the driver's call-out in the mode apply: nothing may change an object past its log.
void callout_guard_init();
void callout_guard_set(bool on);

} // namespace replica
