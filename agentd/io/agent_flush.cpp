// The agent's flush: the indexes first, then the positions that speak of them.
#include "agentd/io/agent.hpp"

namespace replica {

namespace {
constexpr const char *disk_failed_fact = "disk/boot"; // the boot of the host in which a flush failed
std::string place_fact(const Place &place) { return "p/" + to_string(place); }
} // namespace

std::string account_fact(const AccountKey &key) { return "a/" + std::string(key.view()); }

struct Agent::FlushRound {
    std::vector<std::function<void(bool)>> waiters;
    std::set<AccountKey> accounts;
    std::map<AccountKey, std::string> positions; // empty: nothing is kept of it
    std::map<Place, int64_t> places;
    std::map<uint64_t, std::string> mail_roots; // by device
    bool empty() const { return positions.empty() && places.empty(); }
};

// Pages that the kernel could not write are gone, though it still shows them: until a boot nobody can tell what the
// disk has, so no position is stored and nothing is promoted here. After it the marks on the disk tell.
void Agent::disk_failed(const std::string &why) {
    disk_problem_ =
        "its disk did not take what was written, and what it has is not known before the host was booted: " + why;
    log_(Level::error, disk_problem_);
    if (auto written = state_->write({{disk_failed_fact, options_.boot}}); !written)
        log_(Level::error, written.error().message);
}

void Agent::remember_disk() {
    auto boot = state_->read(disk_failed_fact);
    if (boot && *boot == options_.boot) disk_failed("as it was said in this boot");
}

void Agent::flush(std::function<void(bool)> done) {
    if (!disk_problem_.empty()) return loop_.post([done = std::move(done)] { done(false); });
    flush_waiters_.push_back(std::move(done));
    if (flushing_ || !control_is_read_) return;
    flushing_ = true;
    auto round = std::make_shared<FlushRound>();
    round->waiters = std::exchange(flush_waiters_, {});
    round->accounts = std::exchange(touched_, {});
    for (auto &key : round->accounts) {
        auto *account = find(key);
        if (!account) continue;
        if (auto &dir = account->control_dir(); !dir.mail_root.empty())
            round->mail_roots.emplace(dir.device, dir.mail_root);
        auto stored = account->storable();
        std::string value = stored ? encode(*stored) : std::string();
        auto last = stored_.find(key);
        if (value != (last == stored_.end() ? std::string() : last->second)) round->positions[key] = value;
    }
    for (auto &[place, reader] : places_)
        if (reader.reading.running() && reader.reading.next_offset() != reader.stored)
            round->places[place] = reader.reading.next_offset();
    if (round->mail_roots.empty() || round->empty()) return loop_.post([this, round] { flushed(*round, true); });
    Flush request;
    for (auto &[device, root] : round->mail_roots)
        request.mail_roots.push_back(root);
    workers_->ask("", request, false, [this, round](const Reply &reply) {
        if (reply.verdict == Verdict::retry) log_(Level::warning, "flush: " + reply.text);
        if (reply.verdict == Verdict::failed) disk_failed(reply.text);
        flushed(*round, reply.verdict == Verdict::applied);
    });
}

void Agent::flushed(FlushRound &round, bool ok) {
    ok = ok && store_positions(round);
    if (!ok) touched_.merge(round.accounts);
    flushing_ = false;
    for (auto &waiter : round.waiters)
        waiter(ok);
    if (!flush_waiters_.empty()) flush([](bool) {});
}

bool Agent::store_positions(const FlushRound &round) {
    std::vector<State::Write> writes;
    for (auto &[key, value] : round.positions)
        writes.push_back({account_fact(key), value});
    for (auto &[place, offset] : round.places)
        writes.push_back({place_fact(place), std::to_string(offset)});
    if (!writes.empty()) writes.push_back({"c/end", std::to_string(control_next_)});
    if (auto written = writes.empty() ? Result<void>() : state_->write(writes); !written) {
        log_(Level::error, written.error().message);
        return false;
    }
    for (auto &[key, value] : round.positions)
        if (value.empty())
            stored_.erase(key);
        else
            stored_[key] = value;
    for (auto &[place, offset] : round.places)
        places_[place].stored = offset;
    for (auto &key : round.accounts)
        if (auto *account = find(key)) account->stored();
    return true;
}

int64_t Agent::stored_offset(const Place &place) {
    auto &reader = places_[place];
    if (reader.stored < 0)
        if (auto stored = state_->read(place_fact(place))) reader.stored = std::stoll(*stored);
    return std::max<int64_t>(reader.stored, 0);
}

} // namespace replica
