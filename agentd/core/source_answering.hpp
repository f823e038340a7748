// What the present source of accounts that are to be promoted finds out: which of them have what no log has, so that it
// would be the old source's alone behind a fence. It answers once, when it has looked at each. Bounded: at most
// `window` accounts are at the workers. Internal to agentd/core/operations.
#pragma once
#include "agentd/core/operation_context.hpp"

namespace replica {

class SourceAnswering final : public Answering, public std::enable_shared_from_this<SourceAnswering> {
public:
    SourceAnswering(OperationContext &context, const Operation &operation);
    static bool concerns(const OperationContext &, const Operation &); // this store has to answer it
    void step(Time) override { look(); }
    bool finished() const override { return answered_; }
    std::optional<Time> deadline() const override { return std::nullopt; }

    static constexpr size_t window = 8;

private:
    void look();

    OperationContext &context_;
    CheckAnswer answer_;
    size_t next_ = 0, at_workers_ = 0; // of answer_.items
    bool looking_ = false, answered_ = false;
};

} // namespace replica
