#include "agentd/core/source_answering.hpp"
#include <algorithm>

namespace replica {

static bool is_source(const OperationContext &context, const std::string &account) {
    auto *record = context.control.account(context.key(account));
    return record && record->source == context.self() && record->state == AccountState::active;
}

SourceAnswering::SourceAnswering(OperationContext &context, const Operation &operation) : context_(context) {
    answer_.operation = operation.id;
    answer_.store = context.self();
    for (auto &account : operation.accounts)
        if (is_source(context, account)) answer_.items.push_back({account, {}, {}, {}});
}

bool SourceAnswering::concerns(const OperationContext &context, const Operation &operation) {
    if (operation.kind != OperationKind::promote || operation.phase != OperationPhase::checking) return false;
    if (operation.target == context.self() || context.control.check_answer(operation.id, context.self())) return false;
    return std::ranges::any_of(operation.accounts, [&](auto &account) { return is_source(context, account); });
}

// Also called from what was looked at, possibly from within look_for_unlogged(): then the outer one goes on.
void SourceAnswering::look() {
    if (answered_ || looking_) return;
    looking_ = true;
    for (; next_ < answer_.items.size() && at_workers_ < window; next_++) {
        at_workers_++;
        context_.local.look_for_unlogged(answer_.items[next_].account,
                                         [weak = weak_from_this(), item = next_](const std::string &what) {
                                             auto self = weak.lock();
                                             if (!self) return;
                                             self->answer_.items[item].problem = what;
                                             self->at_workers_--;
                                             self->look();
                                         });
    }
    looking_ = false;
    if (next_ < answer_.items.size() || at_workers_ > 0) return;
    answered_ = true;
    context_.publish(answer_);
}

} // namespace replica
