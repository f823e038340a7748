// One operation as its driver sees it. Every step is taken from what the control log brought back, so that a driver
// that starts again goes on where its former life stopped. Internal to agentd/core/operations.
#pragma once
#include "agentd/core/operation_context.hpp"

namespace replica {

class OperationDriver : public std::enable_shared_from_this<OperationDriver> {
public:
    OperationDriver(OperationContext &context, const Operation &operation) : context_(context), operation_(operation) {}
    virtual ~OperationDriver() = default;

    // The operation as the control log has it: begins the phase that this life has not begun yet.
    void read_back(Time now, const Operation &);
    virtual void answered(Time) {}
    virtual void account_changed(Time now, const AccountKey &) = 0;
    virtual void destination_changed(Time, const AccountKey &) {}
    virtual void tick(Time now) = 0;
    virtual std::optional<Time> deadline() const = 0;
    bool finished() const { return finished_; } // and the control log says so too

protected:
    virtual void check(Time now) = 0; // ends in start_running() or finish()
    virtual void run(Time now) = 0;   // ends in finish(); for all accounts again after a restart
    void start_running(const std::string &result = {});
    void finish(OperationPhase, const std::string &result);
    // Its record was decided after the operation was last written: by this operation, or by someone else.
    bool changed_since(const AccountKey &key) const {
        return context_.control.account_order(key) > context_.control.operation_order(operation_.id);
    }
    const std::string &target() const { return operation_.target; }

    OperationContext &context_;
    Operation operation_;

private:
    std::optional<OperationPhase> begun_;
    bool finished_ = false;
};

// The common part of `set` and `remove`: a next version for the record of each account.
class AmendDriver : public OperationDriver {
public:
    AmendDriver(OperationContext &context, const Operation &operation);
    void account_changed(Time now, const AccountKey &) override;
    void tick(Time now) override;
    std::optional<Time> deadline() const override;

protected:
    struct Item {
        std::string account;
        AccountKey key;
        enum class State : uint8_t { waiting, proposed, decided, ended } state = State::waiting;
        Proposal proposal;
        uint64_t version = 0; // of the record that was decided for it
        std::string source;   // set: as it was checked
        EpochPlace start;     // set: for the destination
        std::string problem;
    };
    void run(Time now) override;
    // The next record, or why there is none. `present` is null if there never was one.
    virtual Result<AccountRecord> amended(const Item &, const AccountRecord *present) const = 0;
    virtual bool is_amended(const AccountRecord &present) const = 0;
    virtual void decided(Time now, Item &) = 0;
    virtual void all_ended(size_t good, const std::vector<std::string> &problems) = 0;

    void propose(Time now, Item &);
    void end(Item &, const std::string &problem);
    Item *find(const AccountKey &);
    std::vector<Item> items_;

private:
    std::unordered_map<AccountKey, size_t> index_;
    size_t open_ = 0, proposed_ = 0; // items that have not ended; that await a decision
    Time look_at_{};                 // when proposals may be late
};

std::shared_ptr<OperationDriver> make_set_driver(OperationContext &, const Operation &);
std::shared_ptr<OperationDriver> make_remove_driver(OperationContext &, const Operation &);
std::shared_ptr<OperationDriver> make_promote_driver(OperationContext &, const Operation &);

} // namespace replica
