// removeAccountDestination: each account's record loses the destination; the last one takes the account out of
// replication. The destination need not be alive: it reads the record when it comes back.
#include "agentd/core/operation_driver.hpp"

namespace replica {
namespace {

class RemoveDriver final : public AmendDriver {
public:
    using AmendDriver::AmendDriver;

private:
    void check(Time) override { start_running(); }
    Result<AccountRecord> amended(const Item &, const AccountRecord *present) const override;
    bool is_amended(const AccountRecord &present) const override { return !find_destination(present, target()); }
    void decided(Time, Item &item) override { end(item, {}); }
    void all_ended(size_t good, const std::vector<std::string> &problems) override;
};

Result<AccountRecord> RemoveDriver::amended(const Item &item, const AccountRecord *present) const {
    auto refuse = [&](const std::string &why) { return Error{Code::invalid, item.account + ": " + why}; };
    if (!present || !find_destination(*present, target())) return refuse(target() + " is not a destination of it");
    if (present->state == AccountState::promoting) return refuse("it is being promoted to " + present->source);
    AccountRecord record = *present;
    record.version++;
    std::erase_if(record.destinations, [&](auto &entry) { return entry.store == target(); });
    if (record.destinations.empty())
        record.state = AccountState::removed;
    else
        prune_places(record, context_.control, item.key);
    return record;
}

void RemoveDriver::all_ended(size_t good, const std::vector<std::string> &problems) {
    std::string result = target() + " is no destination of " + counted(good, "account") + " any more";
    if (!problems.empty()) result += ", it still is of others: " + joined(problems);
    finish(problems.empty() ? OperationPhase::done : OperationPhase::failed, result);
    context_.effects.log(Effects::Level::info, result + " (operation " + to_hex(operation_.id) + ")");
}

} // namespace

std::shared_ptr<OperationDriver> make_remove_driver(OperationContext &context, const Operation &operation) {
    return std::make_shared<RemoveDriver>(context, operation);
}

} // namespace replica
