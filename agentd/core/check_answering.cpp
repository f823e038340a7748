#include "agentd/core/check_answering.hpp"
#include <algorithm>

namespace replica {
namespace {

std::string comparable(const AccountFacts &facts) {
    return "uid=" + facts.uid + "\ngid=" + facts.gid + "\n" + facts.settings;
}

} // namespace

std::vector<std::array<std::string, 3>> probe_lines(const std::string &probe) {
    std::vector<std::array<std::string, 3>> lines;
    for (size_t begin = 0; begin < probe.size();) {
        size_t end = std::min(probe.find('\n', begin), probe.size());
        std::string_view line(probe.data() + begin, end - begin);
        size_t first = line.find('\t'), second = first == line.npos ? first : line.find('\t', first + 1);
        if (second != line.npos)
            lines.push_back({std::string(line.substr(0, first)),
                             std::string(line.substr(first + 1, second - first - 1)),
                             std::string(line.substr(second + 1))});
        begin = end + 1;
    }
    return lines;
}

CheckAnswering::CheckAnswering(OperationContext &context, const Operation &operation)
    : context_(context), operation_(operation), target_(operation.target == context.self()) {
    answer_.operation = operation.id;
    answer_.store = context.self();
    for (auto &account : operation.accounts)
        if (target_ || source_for_set(context.control, context.key(account), operation) == context.self())
            answer_.items.push_back({account, {}, {}, {}});
    fill(answer_.items.size());
}

bool CheckAnswering::concerns(const OperationContext &context, const Operation &operation) {
    if (operation.kind != OperationKind::set || operation.phase != OperationPhase::checking) return false;
    if (context.control.check_answer(operation.id, context.self())) return false;
    return operation.target == context.self() || std::ranges::any_of(operation.accounts, [&](auto &account) {
               return source_for_set(context.control, context.key(account), operation) == context.self();
           });
}

void CheckAnswering::fill(size_t count) {
    for (size_t i = 0; i < count; i++)
        todo_.push_back(i);
}

std::optional<Time> CheckAnswering::deadline() const {
    if (stage_ == Stage::answered || later_.empty()) return std::nullopt;
    return retry_at_;
}

void CheckAnswering::step(Time now) {
    now_ = now;
    if (!later_.empty() && now >= retry_at_) todo_.swap(later_);
    if (stage_ == Stage::awaiting_sources) begin_probing();
    pump();
}

// Also called from replies, possibly from within send(): then the outer one goes on.
void CheckAnswering::pump() {
    if (pumping_) return;
    pumping_ = true;
    while (stage_ != Stage::answered) {
        if (!todo_.empty() && at_workers_ < window) {
            size_t item = todo_.front();
            todo_.pop_front();
            at_workers_++;
            send(item);
        } else if (todo_.empty() && later_.empty() && at_workers_ == 0 && stage_ != Stage::awaiting_sources) {
            next_stage();
        } else {
            break;
        }
    }
    pumping_ = false;
}

void CheckAnswering::next_stage() {
    if (stage_ == Stage::probing) return publish();
    if (target_) {
        stage_ = Stage::awaiting_sources;
        return begin_probing();
    }
    std::set<std::string> probed; // accounts of one user and one blob store are shown by one probe: each costs an fsync
    for (size_t i = 0; i < answer_.items.size(); i++)
        if (auto &item = answer_.items[i]; item.problem.empty() && probed.insert(item.facts).second)
            probes_.push_back({item.account, to_hex(random_bytes(16)), to_hex(random_bytes(16)), i});
    stage_ = Stage::probing;
    fill(probes_.size());
}

std::set<std::string> CheckAnswering::sources() const {
    std::set<std::string> stores;
    for (auto &account : operation_.accounts)
        stores.insert(source_for_set(context_.control, context_.key(account), operation_));
    return stores;
}

void CheckAnswering::begin_probing() {
    std::vector<const CheckAnswer *> answers;
    bool good = true;
    for (auto &source : sources()) {
        auto *answer = context_.control.check_answer(operation_.id, source);
        if (!answer) return; // once it comes
        answers.push_back(answer);
        good = good && std::ranges::all_of(answer->items, [](auto &item) { return item.problem.empty(); });
    }
    stage_ = Stage::probing;
    if (!good) return; // it fails for their sake: nothing to read
    for (auto *answer : answers)
        for (auto &[account, name, content] : probe_lines(answer->probe))
            probes_.push_back({account, name, {}});
    fill(probes_.size());
}

void CheckAnswering::send(size_t item) {
    std::string account;
    WorkerRequest request;
    if (stage_ == Stage::inspecting) {
        account = answer_.items[item].account;
        request = Inspect{0, account};
    } else {
        account = probes_[item].account;
        request = Probe{0, account, probes_[item].name, target_ ? std::string() : probes_[item].content};
    }
    auto done = [weak = weak_from_this(), item](const Reply &reply) {
        auto self = weak.lock();
        if (self) self->replied(item, reply);
    };
    context_.effects.worker(account, std::move(request), false, std::move(done));
}

void CheckAnswering::replied(size_t item, const Reply &reply) {
    at_workers_--;
    if (reply.verdict == Verdict::retry) {
        if (later_.empty()) retry_at_ = now_ + retry_after;
        later_.push_back(item);
    } else if (stage_ == Stage::inspecting) {
        inspected(item, reply);
    } else if (target_) {
        probes_[item].content = reply.content;
    } else {
        probe_written(item, reply);
    }
    pump();
}

void CheckAnswering::inspected(size_t item, const Reply &reply) {
    auto &of = answer_.items[item];
    of.problem = judge(item, reply);
    if (of.problem.empty()) of.facts = comparable(*reply.facts);
}

std::string CheckAnswering::judge(size_t item, const Reply &reply) const {
    const std::string &account = answer_.items[item].account, &store = context_.self();
    if (reply.verdict != Verdict::applied || !reply.facts)
        return account + ": " + store + " cannot look at it: " + reply.text;
    auto &facts = *reply.facts;
    if (!facts.exists) return account + ": the userdb of " + store + " does not know it";
    if (facts.user != account)
        return account + " is an alias or a list: the userdb of " + store + " returned " + facts.user;
    if (!facts.unfit.empty()) return account + ": on " + store + " it cannot have a replica: " + facts.unfit;
    if (!target_) return {};
    uint64_t unknown = 0;
    for (auto &object : facts.objects)
        if (object.mark.number.none() || object.mark.unlogged) unknown += object.mails;
    if (unknown == 0) return {};
    return account + ": " + store + " holds " + counted(unknown, "mail") + " of it already that no log knows";
}

void CheckAnswering::probe_written(size_t item, const Reply &reply) {
    auto &of = answer_.items[probes_[item].item];
    if (reply.verdict != Verdict::applied)
        of.problem = of.account + ": " + context_.self() + " cannot write to its blob store: " + reply.text;
}

void CheckAnswering::name_start(CheckAnswer::Item &item) const {
    auto found = start(item.account);
    if (found)
        item.start = *found;
    else
        item.problem = item.account + ": " + context_.self() + " cannot name a start: " + found.error().message;
}

Result<EpochPlace> CheckAnswering::start(const std::string &account) const {
    auto *record = context_.control.account(account);
    if (record && record->state == AccountState::removed) return context_.local.new_place(account, record->epoch + 1);
    return context_.local.start_for_destination(account, operation_.target);
}

void CheckAnswering::publish() {
    for (auto &item : answer_.items)
        if (!target_ && item.problem.empty()) name_start(item);
    for (auto &probe : probes_)
        answer_.probe += probe.account + "\t" + probe.name + "\t" + probe.content + "\n";
    stage_ = Stage::answered;
    context_.publish(answer_);
}

} // namespace replica
