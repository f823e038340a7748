#include "agentd/core/account.hpp"
#include <algorithm>

namespace replica {

using namespace std::chrono_literals;

namespace {
constexpr auto role_retry = 1s;

bool is_snapshot(ChangeKind kind) { return kind == ChangeKind::snapshot || kind == ChangeKind::list_snapshot; }
} // namespace

// The effects of a machine that may be gone when a worker answers: then nobody is told.
class GuardedEffects final : public Effects, public std::enable_shared_from_this<GuardedEffects> {
public:
    explicit GuardedEffects(Effects &effects) : effects_(effects) {}
    void produce(const Place &place, const AccountKey &key, const Number &number, const Record &record) override {
        effects_.produce(place, key, number, record);
    }
    void settled(const AccountKey &key, const Number &number) override { effects_.settled(key, number); }
    size_t sealed_size(const Record &record) const override { return effects_.sealed_size(record); }
    void send(ClientId client, const AgentFrame &frame) override { effects_.send(client, frame); }
    void worker(const std::string &account, WorkerRequest request, bool originate, WorkerDone done) override {
        effects_.worker(account, std::move(request), originate,
                        [weak = weak_from_this(), done = std::move(done)](const Reply &reply) {
                            if (weak.lock()) done(reply);
                        });
    }
    void publish(const std::string &kafka_key, const ControlValue &value) override {
        effects_.publish(kafka_key, value);
    }
    void erase(const std::string &kafka_key) override { effects_.erase(kafka_key); }
    void log(Level level, const std::string &line) override { effects_.log(level, line); }

private:
    Effects &effects_;
};

Account::Account(std::string name, AccountKey key, AccountHost &host, Effects &effects)
    : name_(std::move(name)), key_(key), host_(host), effects_(effects),
      own_effects_(std::make_shared<GuardedEffects>(effects)) {}

// No epoch before this one: nothing was promoted, so no operation writes the OPEN.
bool Account::log_is_new() const { return !record_.places.empty() && record_.places.front().epoch == record_.epoch; }

bool Account::is_here() const { return this_store(record_.source) || is_destination(); }

bool Account::is_destination() const {
    return std::any_of(record_.destinations.begin(), record_.destinations.end(),
                       [&](auto &d) { return this_store(d.store); });
}

void Account::record(Time now, const AccountRecord &decided) {
    bool stopped = !stopped_.empty() || (follow_ && follow_->phase() == DestinationPhase::stopped);
    bool anew = decided.version > record_.version && stopped && !this_store(decided.source);
    record_ = decided;
    if (anew) { // what stopped here is named anew, or was replaced: it begins anew
        if (ship_) ship_->close(Reason::not_source, "the account was promoted to another store");
        forget();
    }
    if (record_.state == AccountState::removed) return leave();
    if (!is_here() && !ship_ && record_.state == AccountState::active) return leave();
    if (!reader_ && is_here()) begin(now);
    cross_if_fenced();
    open_if_ready(now);
}

// Of this life as what it was; the control dir stays.
void Account::forget() {
    ship_open_ = caught_up_ = aside_ = asking_ = inspected_ = storing_begun_ = has_begun_ = false;
    inspect_at_.reset();
    ship_.reset();
    follow_.reset();
    ship_effects_.reset();
    follow_effects_.reset();
    reader_.reset();
    crossed_.reset();
    snapshots_.clear();
    lists_wanted_at_.reset();
    stopped_.clear();
    lost_ = false;
    storing_ = flushed_ = {};
    fence_read_ = 0;
    stored_ = {};
}

// The first decided record of this life: go on from what was stored, or begin at the start that the record names.
void Account::begin(Time now) {
    if (!stored_.stopped.empty() && stored_.version < record_.version) stored_ = {}; // named anew meanwhile
    Follow::Start start;
    if (!stored_.position.none()) {
        reader_ = std::make_unique<LogReader>(stored_.position, stored_.opened, stored_.place);
        start = {stored_.position, stored_.wants_everything, stored_.wanted};
        if (stored_.stopped.empty()) read_on(stored_.offset);
    } else {
        auto of_epoch = [&](auto &p) { return p.epoch == record_.epoch; };
        auto place = std::find_if(record_.places.rbegin(), record_.places.rend(), of_epoch);
        if (place == record_.places.rend())
            return effects_.log(Effects::Level::error, "account=" + name_ + ": its record names no place of its epoch");
        start = {{record_.epoch, place->sequence}, true, {}};
        reader_ = std::make_unique<LogReader>(start.position, place->sequence > 0, place->place);
        read_on(place->offset);
    }
    bool own_epoch = this_store(record_.source) && reader_->position().epoch == record_.epoch;
    if (own_epoch && record_.state == AccountState::active) {
        if (reader_->opened()) become_source(now);
        if (reader_->opened() || log_is_new())
            return; // whose OPEN the source itself writes, once it has read to the end
    }
    follow_fed_ = start.position;
    follow_effects_ = std::make_shared<GuardedEffects>(effects_);
    follow_ = std::make_unique<Follow>(name_, key_, start, *follow_effects_);
    lost_ = stored_.lost;
    if (!stored_.stopped.empty()) unreadable(stored_.stopped);
    set_role(Role::destination);
}

void Account::become_source(Time) {
    ship_effects_ = std::make_shared<GuardedEffects>(effects_);
    ship_ = std::make_unique<Ship>(name_, key_, host_.ship_settings(), *ship_effects_);
    ship_open_ = false;
}

void Account::open_if_ready(Time now) {
    bool ours = this_store(record_.source) && reader_ && reader_->opened() &&
                reader_->position().epoch == record_.epoch && fence_read_ <= record_.epoch && stopped_.empty();
    if (!ours) return;
    if (!ship_) become_source(now); // also when its OPEN was read in a former life
    if (ship_open_ || !caught_up_ || aside_ || record_.state != AccountState::active) return;
    if (follow_ && !follow_->idle()) return;
    follow_.reset();
    follow_effects_.reset();
    ship_open_ = true;
    opened_position_ = reader_->position();
    ship_->open(now, opened_position_, reader_->place());
    effects_.log(Effects::Level::info,
                 "account=" + name_ + " epoch=" + std::to_string(record_.epoch) + ": this store is its source");
    tick(now);
}

void Account::caught_up(Time now, const Place &place) {
    if (!reader_ || reader_->place() != place || !stopped_.empty()) return;
    asking_ = false;
    caught_up_ = true;
    bool ours = record_.state == AccountState::active && this_store(record_.source);
    if (ours && log_is_new() && !reader_->opened() && open_produced_ != record_.epoch) {
        open_produced_ = record_.epoch;
        Record open;
        open.kind = RecordKind::open;
        open.open = Open{{}, place};
        effects_.produce(place, key_, {record_.epoch, 0}, open);
    }
    open_if_ready(now);
}

void Account::entry(Time now, const Entry &entry) {
    if (!reader_ || aside_) return;
    bool replaced = ship_ && entry.record.kind == RecordKind::fence;
    if (!stopped_.empty() && !replaced) return;
    if (entry.place == reader_->place()) asking_ = false;
    switch (reader_->judge(entry)) {
    case LogReader::Judgement::counts:
        next_offset_ = entry.offset + 1;
        seen_.saw(now, entry.number);
        if (entry.record.kind == RecordKind::changes) return changes(now, entry);
        crossed_.reset();
        if (follow_) {
            follow_fed_ = entry.number;
            follow_->counted(now, entry);
        }
        if (open_produced_ == entry.number.epoch) effects_.settled(key_, entry.number);
        return open_if_ready(now);
    case LogReader::Judgement::bulk:
        if (follow_ && !ship_) follow_->bulk(now, entry);
        return;
    case LogReader::Judgement::fence:
        fence_read_ = std::max(fence_read_, entry.number.epoch);
        if (ship_) demote(now);
        if (!is_here() && record_.state == AccountState::active) return leave();
        if (follow_) follow_->fenced(now);
        return cross_if_fenced();
    case LogReader::Judgement::gap: {
        std::string why = "the log has a gap: record " + to_string(entry.number) + " at " + to_string(entry.place) +
                          " offset " + std::to_string(entry.offset) + " does not follow " +
                          to_string(reader_->position());
        return unreadable(why);
    }
    case LogReader::Judgement::ignored:
        return;
    }
}

void Account::changes(Time now, const Entry &entry) {
    for (auto &change : entry.record.changes)
        if (is_snapshot(change.kind)) snapshots_[change.object] = entry.number;
    if (ship_) return ship_->counted(now, entry);
    if (!follow_) return;
    follow_fed_ = entry.number;
    follow_->counted(now, entry);
}

void Account::unreadable(const std::string &why) {
    if (!stopped_.empty()) return; // one reason is enough, and one line in the log
    stopped_ = why;
    effects_.log(Effects::Level::error, "account=" + name_ + (lost_ ? ": lost: " : ": stopped: ") + why);
    if (ship_) ship_->close(Reason::stopped, why);
    if (follow_) follow_->stop(why);
}

void Account::lost(const std::string &why) {
    lost_ = stopped_.empty();
    unreadable(why);
}

void Account::set_aside() {
    aside_ = true;
    effects_.log(Effects::Level::warning, "account=" + name_ + ": behind: the others of its place do not wait for it");
}

// A fence was read where this store was the source: what counts and is not in the indexes yet is applied like at any
// destination.
void Account::demote(Time) {
    ship_->close(Reason::not_source, "the account was promoted to another store");
    auto unsettled = ship_->oldest_unsettled_offset();
    Number settled = unsettled ? ship_->settled() : reader_->position();
    ship_.reset();
    ship_effects_.reset();
    ship_open_ = inspected_ = false;
    inspect_at_.reset();
    stopped_.clear();
    set_role(Role::destination);
    effects_.log(Effects::Level::info,
                 "account=" + name_ + ": another store is its source now, this one has " + to_string(settled));
    if (!follow_) { // else it was not source yet: what it has to apply still is to be applied
        follow_fed_ = settled;
        follow_effects_ = std::make_shared<GuardedEffects>(effects_);
        follow_ = std::make_unique<Follow>(name_, key_, Follow::Start{settled, false, {}}, *follow_effects_);
    }
    if (!unsettled) return;
    reader_ = std::make_unique<LogReader>(settled, true, Place(reader_->place()));
    read_on(*unsettled); // the fence is read again
}

// Every listed epoch is walked through, also one that never had an OPEN: its place has the later fence. So an epoch
// that was active is never passed over, whatever fence was read: the OPEN behind it names what is missing.
void Account::cross_if_fenced() {
    if (!reader_ || ship_ || reader_->fenced_by() == 0) return;
    auto next =
        std::find_if(record_.places.begin(), record_.places.end(), [&](auto &p) { return p.epoch > reader_->epoch(); });
    if (next == record_.places.end()) return; // the control log will name it
    if (!crossed_) crossed_ = Crossed{reader_->place(), next_offset_};
    crossed_epoch_ = next->epoch;
    reader_->cross({next->epoch, next->place});
    read_on(next->offset);
}

// In the reader's place. Until something of it comes, the place's reader may stand anywhere.
void Account::read_on(int64_t offset) {
    caught_up_ = false;
    asking_ = true;
    next_offset_ = offset;
    effects_.log(Effects::Level::info, "account=" + name_ + " position=" + to_string(reader_->position()) +
                                           ": reads epoch " + std::to_string(reader_->epoch()) + " in " +
                                           reader_->place().topic + "/" + std::to_string(reader_->place().partition) +
                                           " from offset " + std::to_string(offset));
    host_.read_from(key_, reader_->place(), offset);
}

void Account::leave() {
    if (ship_) ship_->close(Reason::not_source, "the account has no replica any more");
    if (open_produced_ != 0) effects_.settled(key_, {open_produced_, 0});
    bool had_role = reader_ || control_dir_.role != Role::none;
    bool was_source = ship_ || role() == Role::source || this_store(record_.source);
    forget();
    if (had_role) set_role(was_source ? Role::none : Role::removed);
}

void Account::set_role(Role wanted) {
    role_wanted_ = wanted;
    role_epoch_ = record_.epoch;
    if (role() != wanted || control_dir_.epoch != role_epoch_) ask_role();
}

void Account::ask_role() {
    if (role_asked_) return; // the answer looks again
    role_asked_ = true;
    role_failed_ = false;
    if (!control_dir_.uid.empty()) return write_role();
    // whose the mail is must be known before the control dir sends mail processes here
    own_effects_->worker(name_, Inspect{0, name_}, false, [this](const Reply &reply) {
        if (reply.facts) control_dir_.uid = reply.facts->uid;
        write_role();
    });
}

void Account::write_role() {
    StoredAccount::ControlDir asked{role_wanted_, role_epoch_, host_.boot(), {}, 0, {}};
    own_effects_->worker(name_, SetRole{0, name_, asked.role, asked.epoch}, false, [this, asked](const Reply &reply) {
        role_asked_ = false;
        role_failed_ = reply.verdict != Verdict::applied;
        if (role_failed_) {
            if (std::exchange(role_problem_, reply.text) != reply.text)
                effects_.log(Effects::Level::warning,
                             "account=" + name_ + ": its control dir could not be written: " + reply.text);
        } else {
            role_problem_.clear();
            bool replaced =
                control_dir_.role == Role::source && (asked.role == Role::destination || asked.role == Role::removed);
            control_dir_ = asked;
            if (reply.facts) {
                control_dir_.mail_root = reply.facts->mail_root;
                control_dir_.device = reply.facts->device;
                control_dir_.uid = reply.facts->uid;
            }
            if (replaced) kick();
        }
        if (role_wanted_ != asked.role || role_epoch_ != asked.epoch) ask_role();
    });
}

// The sessions of a store that was replaced could only read what was: ended, their clients log in at the new source.
void Account::kick() {
    own_effects_->worker(name_, Kick{0, name_}, false, [this](const Reply &reply) {
        if (reply.verdict != Verdict::applied)
            effects_.log(Effects::Level::warning,
                         "account=" + name_ +
                             ": its sessions on this store go on, though another is its source now: " + reply.text);
    });
}

void Account::destination_state(Time now, const DestinationState &state) {
    bool stands_still = state.phase == DestinationPhase::stopped || state.phase == DestinationPhase::lost;
    if (!ship_open_ || role() != Role::source || stands_still || this_store(state.store)) return;
    if (state.wants_everything) snapshot_lists(state.position);
    for (auto &object : state.wanted)
        if (auto &last = snapshots_[object]; last.none() || state.position >= last) ship_->snapshot(now, object);
}

// A new destination begins with the lists; it names the mailboxes that it wants once it has them.
void Account::snapshot_lists(const Number &position) {
    bool asked = lists_wanted_at_.has_value();
    lists_wanted_at_ = position;
    if (!asked) host_.inspect_later(key_);
}

// What was committed past the log, while the plugin was not loaded, is in no replica before its snapshot.
void Account::inspect(std::function<void()> done) {
    own_effects_->worker(name_, Inspect{0, name_}, false, [this, done = std::move(done)](const Reply &reply) {
        auto now = std::chrono::steady_clock::now();
        auto lists_wanted_at = std::exchange(lists_wanted_at_, {});
        if (reply.facts && ship_open_) {
            inspected_ = true;
            for (auto &object : reply.facts->objects) {
                auto &last = snapshots_[object.object];
                bool list_wanted = lists_wanted_at && object.object.is_list();
                if (object.mark.unlogged) ship_->unlogged(now, object.object, object.mark);
                if (list_wanted && (last.none() || *lists_wanted_at >= last)) ship_->snapshot(now, object.object);
            }
        } else if (ship_open_) {
            inspect_at_ = now + role_retry;
        }
        done();
    });
}

void Account::worker_lost(Time now) {
    if (follow_) follow_->worker_lost(now);
}

void Account::tick(Time now) {
    if (ship_) ship_->tick(now);
    if (follow_) follow_->tick(now);
    if (role_failed_ && now >= role_retry_at_) {
        role_retry_at_ = now + role_retry;
        ask_role();
    }
    if (aside_ && !busy()) {
        aside_ = false;
        read_on(next_offset_);
    }
    if (inspect_at_ && now >= *inspect_at_) {
        inspect_at_.reset();
        host_.inspect_later(key_);
    }
    open_if_ready(now);
    if (ship_open_ && role_wanted_ != Role::source && ship_->rolled_forward(opened_position_)) {
        set_role(Role::source);
        host_.inspect_later(key_);
    }
}

std::optional<Time> Account::deadline() const {
    std::optional<Time> first;
    auto earlier = [&](std::optional<Time> t) {
        if (t && (!first || *t < *first)) first = t;
    };
    if (ship_) earlier(ship_->deadline());
    if (follow_) earlier(follow_->deadline());
    if (role_failed_) earlier(role_retry_at_);
    earlier(inspect_at_);
    return first;
}

bool Account::busy() const {
    return stopped_.empty() && ((follow_ && follow_->full()) || (ship_ && !ship_open_ && ship_->full()));
}

} // namespace replica
