// The agent and its accounts: roles from the control log, what operations ask of them, flushing, heartbeats.
#include "agentd/io/agent.hpp"
#include <algorithm>

namespace replica {

using namespace std::chrono_literals;

namespace {
constexpr auto ready_limit =
    2s; // after this an agent that cannot reach its log says so, instead of letting clients wait
constexpr auto busy_limit = 5s; // then who is busy is set aside
constexpr auto topic_retry = 1s;
constexpr auto flush_pause = 500ms; // between flushes that accounts ask for
} // namespace

Account *Agent::find(const AccountKey &key) {
    auto found = accounts_.find(key);
    return found == accounts_.end() ? nullptr : found->second.get();
}
const Account *Agent::find(std::string_view name) const {
    auto found = accounts_.find(options_.ring.account_key(name));
    return found == accounts_.end() ? nullptr : found->second.get();
}

void Agent::control_was_read() {
    if (auto topic = prepare_own_topic(); !topic) {
        if (topic.error().code != Code::retry) return fail(topic.error().message);
        log_(Level::warning, "not serving yet: " + topic.error().message);
        return loop_.after(topic_retry, [this] { control_was_read(); });
    }
    control_is_read_ = true;
    auto now = std::chrono::steady_clock::now();
    auto read = state_->each("a/", [&](std::string_view key, std::string_view value) {
        if (key.size() == 2 + sizeof(AccountKey)) stored_[AccountKey::from(key.data() + 2)] = value;
    });
    if (!read) return fail(read.error().message);
    log_(Level::info, "control log read: accounts=" + std::to_string(control_.accounts().size()) +
                          " known_here=" + std::to_string(stored_.size()));
    for (auto *record : control_.accounts()) {
        auto key = options_.ring.account_key(record->account);
        account_decided(now, key);
        for (auto &destination : record->destinations)
            if (auto *state = control_.destination(record->account, destination.store);
                state && (state->wants_everything || !state->wanted.empty()))
                incomplete_.insert(key);
    }
    auto known = stored_; // accounts that are removed by now leave their role
    for (auto &[key, value] : known)
        if (!find(key)) account_decided(now, key);
    heartbeat(now);
}

void Agent::account_decided(Time now, const AccountKey &key) {
    auto *record = control_.account(key);
    auto *account = find(key);
    if (!record) return;
    auto &problem = control_.account_problem(key);
    auto stored = stored_.find(key);
    bool here = record->state != AccountState::removed &&
                (record->source == store() || std::any_of(record->destinations.begin(), record->destinations.end(),
                                                          [&](auto &d) { return d.store == store(); }));
    if (!account && !here && stored == stored_.end()) return;
    if (!account) {
        account = (accounts_[key] = std::make_unique<Account>(record->account, key, *this, *this)).get();
        if (stored != stored_.end())
            if (auto restored = decode<StoredAccount>(stored->second)) {
                if (!restored->position.none() && restored->offset == StoredAccount::of_place)
                    restored->offset = stored_offset(restored->place);
                account->restore(*restored);
            }
    }
    if (problem.empty())
        account->record(now, *record);
    else
        account->unreadable(problem);
    awake(key);
}

void Agent::tick() {
    auto now = std::chrono::steady_clock::now();
    if (shutting_down_) return finish_shut_down();
    if (!control_is_read_) return become_ready(now);
    produce_again(now);
    watch_outages(now);
    bool wants_flush = false;
    auto awake = std::exchange(awake_, {});
    for (auto &key : awake) {
        auto *account = find(key);
        if (!account) continue;
        account->tick(now);
        bool waits = state_pending_.contains(key); // brokers that are away get one state, not one for each interval
        if (auto state = waits ? std::nullopt : account->take_state(now, control_.destination(key, store()))) {
            state_pending_.insert(key);
            publish(destination_key(key, store_hash(options_.ring, store())), *state);
        }
        if (account->wants_flush()) {
            wants_flush = true;
            this->awake(key);
        }
        if (waits || account->deadline() || account->has_unpublished()) awake_.insert(key);
    }
    if (wants_flush && now >= flush_not_before_) {
        flush_not_before_ = now + flush_pause;
        flush([](bool) {});
    }
    for (auto &[place, reader] : places_)
        if (!reader.busy.empty()) pause_busy(now, place, reader);
    operations_.tick(now);
    become_ready(now);
}

void Agent::snapshot_wanted(Time now) {
    for (auto it = incomplete_.begin(); it != incomplete_.end();) {
        auto *record = control_.account(*it);
        bool wanted = false;
        auto look = [&](const std::string &destination) {
            auto *state = control_.destination(record->account, destination);
            if (!state || (!state->wants_everything && state->wanted.empty())) return;
            wanted = true;
            if (auto *account = find(*it)) account->destination_state(now, *state), awake(*it);
        };
        if (record) {
            for (auto &destination : record->destinations)
                look(destination.store);
            look(record->source); // still a destination while it is promoted
        }
        it = wanted ? std::next(it) : incomplete_.erase(it);
    }
}

// Each opens a whole account at a worker: what users wait for must not stand behind thousands of them.
void Agent::inspect_later(const AccountKey &key) {
    to_inspect_.push_back(key);
    inspect_more();
}

void Agent::inspect_more() {
    while (!to_inspect_.empty() && inspecting_ < options_.settings.apply_workers) {
        auto *account = find(to_inspect_.front());
        to_inspect_.pop_front();
        if (!account) continue;
        inspecting_++;
        account->inspect([this] {
            inspecting_--;
            loop_.post([this] { inspect_more(); });
        });
    }
}

void Agent::pause_busy(Time now, const Place &place, PlaceReader &reader) {
    std::erase_if(reader.busy, [&](auto &each) {
        auto *account = find(each.first);
        if (!account || !account->busy()) return true;
        if (now - each.second < busy_limit) return false;
        account->set_aside();
        awake(each.first);
        return true;
    });
    if (reader.busy.empty()) kafka_->pause(place, false);
}

// Clients that came while this agent was starting are heard once every account of ours can take changes, or after a
// while, to be refused.
void Agent::become_ready(Time now) {
    if (ready_) return;
    bool starting = !control_is_read_ ||
                    std::any_of(accounts_.begin(), accounts_.end(), [](auto &a) { return a.second->starting(); });
    if (starting && now - started_ < ready_limit) return;
    ready_ = true;
    log_(Level::info, starting ? "serving, though not every account is ready yet" : "serving");
    for (auto &connection : std::exchange(held_, {}))
        open_client(std::move(connection));
}

void Agent::heartbeat(Time) {
    if (!control_is_read_ || shutting_down_ || pending_.contains(heartbeat_token_)) return;
    Heartbeat beat;
    beat.store = store();
    beat.session = session_;
    beat.counter = ++heartbeat_counter_;
    beat.time_ms = static_cast<uint64_t>(
        std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
            .count());
    beat.host = options_.host;
    beat.base_dir = options_.base_dir;
    beat.version = options_.version;
    beat.address = options_.settings.address;
    beat.key_check = options_.ring.check_value();
    auto own_topic = own_place("").topic;
    for (auto &[key, account] : accounts_) {
        beat.accounts_source += account->ship() != nullptr;
        beat.accounts_destination += account->follow() != nullptr;
    }
    for (auto &[place, reader] : places_)
        if (place.topic == own_topic && reader.reading.highest() >= 0)
            beat.acknowledged.emplace_back(place, reader.reading.highest());
    publish(heartbeat_key(store_hash(options_.ring, store())), beat);
}

void Agent::check_heartbeat(const std::string &name) {
    auto *view = control_.store(name);
    if (!view) return;
    auto &beat = view->heartbeat;
    if (name == store() && beat.session != session_ &&
        (beat.host != options_.host || beat.base_dir != options_.base_dir))
        return fail("another agent calls itself " + name + " (host " + beat.host + ", base_dir " + beat.base_dir +
                    "): give each store a replica_mailstore of its own");
    if (beat.key_check != options_.ring.check_value() && warned_.insert("keys/" + name).second)
        log_(Level::error, "store=" + name + " has another replica_key_file: copy the same file to every store");
}

// --- Local: what operations ask ---

Result<EpochPlace> Agent::start_for_destination(const std::string &name, const std::string &destination) {
    auto *account = find(name);
    if (account && account->ship()) {
        EpochPlace start{account->position().epoch, account->reading(), account->next_offset(),
                         account->position().sequence};
        if (start.sequence == 0) // its OPEN has to be read, too
            for (auto &place : account->decided().places)
                if (place.epoch == start.epoch) return place;
        return start;
    }
    auto *record = control_.account(name);
    if (record && record->state != AccountState::removed)
        return Error{Code::retry, "the source is not ready for this account yet: try again"};
    EpochPlace start{record ? record->epoch + 1 : 1, own_place(destination), 0, 0};
    auto end = end_of(start.place);
    if (!end) return end.error();
    start.offset = *end;
    return start;
}

Result<EpochPlace> Agent::new_place(const std::string &name, uint64_t epoch) {
    auto *record = control_.account(name);
    EpochPlace place{epoch, own_place(record ? record->source : ""), 0, 0};
    auto end = end_of(place.place);
    if (!end) return end.error();
    place.offset = *end;
    return place;
}

std::string Agent::promotion_problem(const std::string &name) const {
    auto *account = find(name);
    if (!account || (!account->follow() && !account->ship())) return "this store keeps no replica of it";
    if (account->ship()) return {};
    if (!disk_problem_.empty()) return disk_problem_;
    if (account->phase() == DestinationPhase::complete) return {};
    auto &reason = account->follow()->reason();
    return std::string(to_string(account->phase())) + ": " + (reason.empty() ? "the replica is not complete" : reason);
}

void Agent::look_for_unlogged(const std::string &name, std::function<void(const std::string &)> done) {
    auto *account = find(options_.ring.account_key(name));
    if (!account || !account->ship()) return loop_.post([done] { done("its source is not ready for it yet"); });
    account->inspect([account, done = std::move(done)] {
        if (!account->ship()) return done({});
        auto &unlogged = account->ship()->unlogged();
        if (!account->inspected())
            done(account->name() + " could not be looked at on its source");
        else
            done(unlogged.empty() ? "" : std::to_string(unlogged.size()) + " objects have what no log has yet");
    });
}

bool Agent::fence_read(const std::string &name, uint64_t epoch) const {
    auto *account = find(name);
    return account && account->crossed_epoch() >= epoch;
}
bool Agent::drained(const std::string &name) const {
    auto *account = find(name);
    return account && account->follow() && account->follow()->idle();
}
Number Agent::applied(const std::string &name) const {
    auto *account = find(name);
    return account && account->follow() ? account->position() : Number{};
}
int64_t Agent::read_to(const Place &place) const {
    auto found = places_.find(place);
    return found == places_.end() ? 0 : found->second.reading.next_offset();
}
bool Agent::open_read(const std::string &name, uint64_t epoch) const {
    auto *account = find(name);
    return account && account->opened(epoch);
}

void Agent::worker(const std::string &account, WorkerRequest request, bool originate, WorkerDone done) {
    workers_->ask(account, std::move(request), originate, [this, account, done = std::move(done)](const Reply &reply) {
        done(reply);
        awake(options_.ring.account_key(account));
    });
}

} // namespace replica
