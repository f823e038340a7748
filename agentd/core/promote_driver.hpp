// promoteAccounts, driven by the new source alone (design 5, Promotion): each account walks through the steps below,
// many at a time, and can be taken up at any of them from what the control log and the account's log say. Until an
// account's fence is in the log everything is as it was; from there on only a further promotion helps. Bounded:
// `window` accounts are on their way at once. Internal to agentd/core/operations.
#pragma once
#include "agentd/core/operation_driver.hpp"
#include <set>

namespace replica {

class PromoteDriver final : public OperationDriver {
public:
    PromoteDriver(OperationContext &context, const Operation &operation);
    void account_changed(Time now, const AccountKey &) override;
    void tick(Time now) override;
    std::optional<Time> deadline() const override;

    static constexpr size_t window = 500;
    static constexpr std::chrono::milliseconds poll{100};
    static constexpr std::chrono::milliseconds look_time{50}; // of a source, for each account
    static constexpr std::chrono::minutes begin_within{10}; // of the command; a target that comes back later leaves it

private:
    enum class Step : uint8_t {
        waiting,
        proposing,  // version + 1, state promoting
        checking,   // the reasons to refuse once more; a target that was restarted may have to become complete again
        fencing,    // FENCE in every old place
        draining,   // all that counts before it is applied here, and it is all that others know
        flushing,   // the indexes
        opening,    // OPEN in the own place
        activating, // version + 1, state active
        ended,
    };
    struct Item {
        std::string account;
        AccountKey key;
        Step step = Step::waiting;
        uint64_t base_epoch = 0; // as checked in this life; 0 = it was checked by a former one
        uint64_t epoch = 0;      // the new one
        Proposal proposal;
        Time since{};     // in this step
        Place read_place; // where the old source is known to have acknowledged up to offset must_read
        int64_t must_read = -1;
        Number must_apply;        // what another destination is known to have
        std::string past_the_log; // as its source said when it was asked
        std::string given_up, problem;
    };

    void answered(Time now) override;
    void check(Time now) override;
    void take_answers(Time now);
    void look_at_all(Time now);
    void run(Time now) override;
    void look_for_laggards(Time now);
    std::string reason_to_refuse(Item &) const;
    std::string incomplete(Item &) const;
    std::string unlogged(Item &, const AccountRecord &) const;
    std::string past_the_log(const Item &, const AccountRecord &) const;
    std::string behind(const Item &) const;
    void note_what_others_know(Item &, const AccountRecord &) const;
    const EpochPlace *applied_place(const Item &, const AccountRecord &) const;

    void take_up(Time now, Item &);
    void enter(Time now, Item &item, Step step) {
        item.step = step;
        item.since = now;
    }
    void propose(Time now, Item &);
    Result<AccountRecord> promoting(const Item &, const AccountRecord &present) const;
    void proposed(Time now, Item &);
    void check_again(Time now, Item &);
    void fence(Time now, Item &);
    void advance(Time now, Item &);
    void drain(Time now, Item &);
    void flush(Time now);
    void open(Time now, Item &);
    void activate(Time now, Item &);
    void end(Item &, const std::string &problem);
    void go_on(Time now);
    void conclude();
    bool is_too_late_to_begin() const;
    bool is_late(Time now, const Item &item) const { return now - item.since >= context_.settings.check_timeout; }

    std::vector<Item> items_;
    std::unordered_map<AccountKey, size_t> index_;
    std::vector<size_t> laggards_; // while checking: accounts that have not caught up yet
    std::vector<size_t> on_way_;   // while running
    size_t next_ = 0;              // the first that was not taken up
    std::set<std::string> asked_;  // sources that have not said yet what of the accounts no log has
    std::optional<Time> answers_until_, laggards_until_;
    enum class Flush : uint8_t { idle, under_way, good, failed } flush_ = Flush::idle;
    std::vector<size_t> in_flush_;
    Time look_at_{};
};

} // namespace replica
