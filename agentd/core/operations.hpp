// The long commands: setAccountDestination, removeAccountDestination, promoteAccounts. They are operations in the
// control log, driven by one agent (set, remove: the store where they were given; promote: the target's), restartable
// at each step from what the control log and the account logs say. Nothing is done for any account unless all are good
// (design 5).
#pragma once
#include "agentd/core/control.hpp"
#include <functional>
#include <map>
#include <memory>

namespace replica {

// What operations ask of the accounts on this store. Implemented by the agent, faked by tests.
class Local {
public:
    virtual ~Local() = default;
    virtual const std::string &store() const = 0;
    virtual const Session &session() const = 0;
    // This store is, or for a new account will be, the source: where a new destination may start to read. For a new
    // account: the place of epoch 1, chosen here, with the partition's present end as offset and sequence 0.
    virtual Result<EpochPlace> start_for_destination(const std::string &account, const std::string &destination) = 0;
    // A place of this store's own for a new epoch, with the partition's present end as offset.
    virtual Result<EpochPlace> new_place(const std::string &account, uint64_t epoch) = 0;
    // As destination: why it could not be promoted now (wanted, stopped, lost, not a destination), or empty.
    virtual std::string promotion_problem(const std::string &account) const = 0;
    // As source: names to `done` what of the account no log has, or why nobody can tell; empty: nothing.
    virtual void look_for_unlogged(const std::string &account, std::function<void(const std::string &what)> done) = 0;
    virtual bool fence_read(const std::string &account,
                            uint64_t epoch) const = 0;          // FENCE(>= epoch) read in the account's place
    virtual bool drained(const std::string &account) const = 0; // all that counts before the fence is applied
    virtual Number applied(const std::string &account) const = 0;
    virtual int64_t
    read_to(const Place &) const = 0; // offset of the next record to read in a place that this agent follows
    virtual void flush(std::function<void(bool ok)>) = 0;
    virtual bool open_read(const std::string &account, uint64_t epoch) const = 0; // OPEN(epoch) counted, as read back
};

uint64_t wall_clock_ms(); // since 1970

struct OperationSettings {
    std::chrono::milliseconds heartbeat{1000};
    std::chrono::milliseconds silent_after{5000};      // a store whose heartbeat is older counts as silent
    std::string admin;                                 // mail address for notices, or empty
    std::chrono::milliseconds check_timeout{30000};    // for a store's answer, and for a destination to catch up
    std::function<uint64_t()> wall_ms = wall_clock_ms; // only for people, for tidying up, and for what is out of date
};

class Answering;
class OperationDriver;
struct OperationContext;

// Thread: as all of agentd/core. Limits: operation_accounts_max accounts in one operation.
class Operations {
public:
    Operations(Control &control, Local &local, const KeyRing &ring, OperationSettings settings, Effects &effects);
    ~Operations();

    // From a command. Checks the request itself (names, wildcards, duplicates, known store, priority); invalid =
    // nothing was begun. The returned id is the operation's. Progress and result are in control.operation(id), once the
    // control log brings it back. `store` may be a destination already: it is set anew, with this priority.
    Result<Guid> set(Time now, const std::string &store, uint32_t priority, const std::vector<std::string> &accounts);
    Result<Guid> remove(Time now, const std::string &store, const std::vector<std::string> &accounts);
    // target empty: for each account the living, complete destination with the lowest priority number.
    // Accounts empty: all accounts whose source is source_store. One operation for each target.
    Result<std::vector<Guid>> promote(Time now, const std::string &target, const std::string &source_store,
                                      const std::vector<std::string> &accounts, bool force);

    // After control.apply; answers checks of others' operations too. What comes before the first tick is history.
    void control_changed(Time now, const Control::Changed &);
    // Accounts moved on (fence read, drained, opened), or the deadline came. The first one comes when the control log
    // was read to its end: it takes up what this agent's former life, or a store that asked meanwhile, left open.
    void tick(Time now);
    std::optional<Time> deadline() const;
    bool idle() const; // drives nothing, answers nothing

private:
    void take_up(Time now, const Operation &);
    void tidy_up(Time now);
    void forget_destination(const AccountRecord &);
    void begin_lost_anew(Time now);
    void drop_finished();

    std::unique_ptr<OperationContext> context_;
    std::map<Guid, std::shared_ptr<OperationDriver>> drivers_;
    std::map<Guid, std::shared_ptr<Answering>> answering_;
    std::vector<AccountKey> outdated_; // accounts whose record was replaced: older keys are to be removed
    std::map<AccountKey, Time> lost_;  // may be, here; not to be begun anew before
    std::optional<Time> tidy_at_;      // none: no tick yet
};

inline constexpr size_t operation_accounts_max = 10000;

// A clear sentence if this cannot be an account's name (wildcard, empty, control characters, blanks), else empty.
std::string account_name_problem(std::string_view name);

} // namespace replica
