// What the parts of an operation share: the world they decide in, who is alive, and the two ways in which they write to
// the control log. Internal to agentd/core/operations.
#pragma once
#include "agentd/core/operations.hpp"

namespace replica {

struct OperationContext {
    Control &control;
    Local &local;
    const KeyRing &ring;
    OperationSettings settings;
    Effects &effects;
    uint64_t proposals = 0; // in this session: no two share a key

    const std::string &self() const { return local.store(); }
    AccountKey key(std::string_view account) const { return ring.account_key(account); }
    // Why this store cannot take part (unknown, silent, other keys, other version), or empty. This store itself always
    // can.
    std::string store_problem(Time now, const std::string &store) const;
    bool alive(Time now, const std::string &store) const { return heard(now, store, settings.silent_after); }
    bool heard(Time now, const std::string &store, std::chrono::milliseconds within) const; // a heartbeat of it

    void publish(const Operation &operation) { effects.publish(operation_key(operation.id), operation); }
    void publish(const CheckAnswer &answer) {
        effects.publish(check_answer_key(answer.operation, store_hash(ring, answer.store)), answer);
    }
    void notify(const std::string &subject,
                const std::string &text); // a log line, and a mail if there is an administrator
};

// A store's part in the checks of an operation: it answers once.
class Answering {
public:
    virtual ~Answering() = default;
    virtual void step(Time now) = 0; // after anything that may move it on
    virtual bool finished() const = 0;
    virtual std::optional<Time> deadline() const = 0;
};

// Sentences for a person; of many only the first, with the number of the rest.
std::string joined(const std::vector<std::string> &sentences);
std::string counted(size_t n, const std::string &noun); // "1 account", "3 accounts"

// A proposal of one account's next version: published until some record of that version is known.
class Proposal {
public:
    enum class Outcome : uint8_t { open, won, lost };
    void make(Time now, OperationContext &, AccountRecord);
    Outcome outcome(const OperationContext &) const;
    void again_if_late(Time now, OperationContext &); // the same record under a new key: a key is written once
    const AccountRecord &record() const { return record_; }
    bool exhausted() const { return made_ >= tries_max; } // it lost too often

    static constexpr int tries_max = 5;
    static constexpr std::chrono::seconds late_after{5};

private:
    void publish(Time now, OperationContext &);
    AccountRecord record_;
    AccountKey key_;
    int made_ = 0;
    Time published_{};
};

std::string shown(const std::vector<Object> &); // of many only the first
const DestinationEntry *find_destination(const AccountRecord &, std::string_view store);
// Drops the places that neither a destination nor a new one needs any more.
void prune_places(AccountRecord &, const Control &, const AccountKey &);

// The stores that an operation `set` names, by account: where the mail is now. An account without a record is the
// driver's.
const std::string &source_for_set(const Control &, const AccountKey &, const Operation &);

} // namespace replica
