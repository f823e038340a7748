// What a command may ask for: refused here, with every account that is at fault, before anything is begun.
#include "agentd/core/operation_context.hpp"
#include <algorithm>
#include <set>

namespace replica {
namespace {

constexpr size_t account_name_bytes_max = 255;

Error invalid(const std::vector<std::string> &problems) { return Error{Code::invalid, joined(problems)}; }

std::string printable(std::string_view name) {
    std::string text(name);
    for (char &c : text)
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
    return text;
}

// Names that cannot be, and names that stand there twice.
std::vector<std::string> list_problems(const std::vector<std::string> &accounts) {
    if (accounts.empty()) return {"no account is named"};
    if (accounts.size() > operation_accounts_max)
        return {counted(accounts.size(), "account") + " are named; one command takes at most " +
                std::to_string(operation_accounts_max)};
    std::vector<std::string> problems;
    std::set<std::string_view> seen, named_twice;
    for (auto &account : accounts) {
        auto problem = account_name_problem(account);
        if (!problem.empty())
            problems.push_back(problem);
        else if (!seen.insert(account).second && named_twice.insert(account).second)
            problems.push_back(account + " is named twice");
    }
    return problems;
}

Operation new_operation(const OperationContext &context, OperationKind kind, const std::string &target,
                        const std::vector<std::string> &accounts) {
    Operation operation;
    operation.id = Guid::from(random_bytes(16).data());
    operation.kind = kind;
    operation.driver = context.self();
    operation.target = target;
    operation.accounts = accounts;
    operation.started_ms = context.settings.wall_ms();
    return operation;
}

// Why the record stands against `set`, or empty.
std::string set_problem(const OperationContext &context, const Operation &wanted, const std::string &account) {
    auto key = context.key(account);
    auto &stands_still = context.control.account_problem(key);
    if (!stands_still.empty()) return account + ": " + stands_still;
    if (source_for_set(context.control, key, wanted) == wanted.target)
        return account + ": " + wanted.target + " is its source, it cannot be its destination too";
    auto *record = context.control.account(key);
    if (!record || record->state == AccountState::removed) return {};
    if (record->state == AccountState::promoting) return account + ": it is being promoted to " + record->source;
    for (auto &entry : record->destinations)
        if (entry.priority == wanted.priority && entry.store != wanted.target)
            return account + ": priority " + std::to_string(entry.priority) + " is taken by " + entry.store;
    return {};
}

std::string remove_problem(const OperationContext &context, const std::string &store, const std::string &account) {
    auto key = context.key(account);
    auto &stands_still = context.control.account_problem(key);
    if (!stands_still.empty()) return account + ": " + stands_still;
    auto *record = context.control.account(key);
    if (!record || record->state == AccountState::removed) return account + ": it has no replica";
    if (!find_destination(*record, store)) return account + ": " + store + " is not a destination of it";
    if (record->state == AccountState::promoting) return account + ": it is being promoted to " + record->source;
    return {};
}

// Why a destination would not be chosen, or empty.
std::string choice_problem(const OperationContext &context, Time now, const AccountKey &key, const std::string &store) {
    if (!context.alive(now, store)) return "silent";
    auto *state = context.control.destination(key, store);
    if (!state) return "not begun";
    return state->phase == DestinationPhase::complete ? "" : std::string(to_string(state->phase));
}

// The living, complete destination with the lowest priority number.
Result<std::string> choose_target(const OperationContext &context, Time now, const AccountKey &key,
                                  const AccountRecord &record) {
    auto entries = record.destinations;
    std::ranges::sort(entries, {}, &DestinationEntry::priority);
    std::string reasons;
    for (auto &entry : entries) {
        auto problem = choice_problem(context, now, key, entry.store);
        if (problem.empty()) return entry.store;
        reasons += (reasons.empty() ? "" : ", ") + entry.store + " is " + problem;
    }
    return Error{Code::invalid, record.account + ": no destination is alive and complete: " +
                                    (reasons.empty() ? "it has none" : reasons)};
}

// The store to promote this account to, or why there is none.
Result<std::string> promotion_target(const OperationContext &context, Time now, const std::string &target,
                                     const std::string &source_store, const std::string &account) {
    auto refuse = [&](const std::string &why) { return Error{Code::invalid, account + ": " + why}; };
    auto key = context.key(account);
    auto &stands_still = context.control.account_problem(key);
    if (!stands_still.empty()) return refuse(stands_still);
    auto *record = context.control.account(key);
    if (!record || record->state == AccountState::removed) return refuse("it has no replica");
    if (!source_store.empty() && record->source != source_store)
        return refuse("its source is " + record->source + ", not " + source_store);
    if (target.empty()) return choose_target(context, now, key, *record);
    if (record->source == target && record->state == AccountState::active)
        return refuse(target + " is its source already");
    if (record->source != target && !find_destination(*record, target))
        return refuse(target + " is not a destination of it");
    return target;
}

} // namespace

std::string account_name_problem(std::string_view name) {
    if (name.empty()) return "an account's name is empty";
    auto refuse = [&](const std::string &why) {
        return printable(name.substr(0, account_name_bytes_max)) + ": " + why;
    };
    if (name.size() > account_name_bytes_max)
        return refuse("an account's name has at most " + std::to_string(account_name_bytes_max) + " bytes");
    for (unsigned char c : name) {
        if (c < 0x20 || c == 0x7f) return refuse("an account's name has no control characters");
        if (c == ' ') return refuse("an account's name has no blanks");
    }
    if (name.find_first_of("*?[](){}|^$\\%") != name.npos)
        return refuse("wildcards and regular expressions are not taken, name each account");
    return {};
}

Result<Guid> Operations::set(Time now, const std::string &store, uint32_t priority,
                             const std::vector<std::string> &accounts) {
    auto problems = list_problems(accounts);
    auto store_problem = context_->store_problem(now, store);
    if (!store_problem.empty()) problems.push_back(store_problem);
    if (!problems.empty()) return invalid(problems);

    auto operation = new_operation(*context_, OperationKind::set, store, accounts);
    operation.priority = priority;
    std::set<std::string> sources;
    for (auto &account : accounts) {
        auto problem = set_problem(*context_, operation, account);
        if (!problem.empty())
            problems.push_back(problem);
        else
            sources.insert(source_for_set(context_->control, context_->key(account), operation));
    }
    for (auto &source : sources) {
        auto problem = context_->store_problem(now, source);
        if (!problem.empty()) problems.push_back(problem + "; it is a source: promote its accounts first");
    }
    if (!problems.empty()) return invalid(problems);
    context_->publish(operation);
    return operation.id;
}

Result<Guid> Operations::remove(Time, const std::string &store, const std::vector<std::string> &accounts) {
    auto problems = list_problems(accounts);
    if (!problems.empty()) return invalid(problems);
    for (auto &account : accounts) {
        auto problem = remove_problem(*context_, store, account);
        if (!problem.empty()) problems.push_back(problem);
    }
    if (!problems.empty()) return invalid(problems);
    auto operation = new_operation(*context_, OperationKind::remove, store, accounts);
    operation.phase = OperationPhase::running;
    context_->publish(operation);
    return operation.id;
}

Result<std::vector<Guid>> Operations::promote(Time now, const std::string &target, const std::string &source_store,
                                              const std::vector<std::string> &named, bool force) {
    std::vector<std::string> accounts = named, problems;
    if (!named.empty() || source_store.empty()) {
        problems = list_problems(named);
    } else {
        for (auto *record : context_->control.accounts())
            if (record->source == source_store) accounts.push_back(record->account);
        std::ranges::sort(accounts);
        if (accounts.empty()) problems.push_back("store " + source_store + " is the source of no account");
    }
    auto store_problem = target.empty() ? std::string() : context_->store_problem(now, target);
    if (!store_problem.empty()) problems.push_back(store_problem);
    if (!problems.empty()) return invalid(problems);

    std::map<std::string, std::vector<std::string>> by_target;
    for (auto &account : accounts) {
        auto chosen = promotion_target(*context_, now, target, source_store, account);
        if (chosen)
            by_target[*chosen].push_back(account);
        else
            problems.push_back(chosen.error().message);
    }
    if (!problems.empty()) return invalid(problems);
    std::vector<Guid> ids;
    for (auto &[store, all] : by_target)
        for (size_t begin = 0; begin < all.size(); begin += operation_accounts_max) {
            auto end = std::min(begin + operation_accounts_max, all.size());
            std::vector<std::string> part(all.begin() + static_cast<ptrdiff_t>(begin),
                                          all.begin() + static_cast<ptrdiff_t>(end));
            auto operation = new_operation(*context_, OperationKind::promote, store, part);
            operation.driver = store;
            operation.force = force;
            context_->publish(operation);
            ids.push_back(operation.id);
        }
    return ids;
}

} // namespace replica
