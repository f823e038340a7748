#include "tests/unit/simulated_cluster.hpp"
#include <algorithm>

namespace replica::test {

void Store::start() {
    alive = true;
    session_ = Session::from(random_bytes(8).data());
    control_ = std::make_unique<Control>(world.ring);
    OperationSettings settings;
    settings.admin = admin;
    settings.wall_ms = [this] { return world.wall_ms; };
    operations_ = std::make_unique<Operations>(*control_, *this, world.ring, settings, *this);
    control_read_ = 0;
    while (control_read_ < world.control_log.size()) {
        auto &[key, value] = world.control_log[control_read_++];
        operations_->control_changed(world.now, control_->apply(Time{}, key, value));
    }
    for (auto *record : control_->accounts())
        follow(*record);
    while (read_place()) {
    }
    tick();
}

void Store::kill(std::mt19937 *random) {
    alive = false;
    auto arrives = [&] { return random && (*random)() % 2 == 0; };
    while (!control_out_.empty() && arrives())
        deliver_control();
    while (!records_out_.empty() && arrives())
        deliver_record();
    operations_.reset();
    control_.reset();
    control_out_.clear();
    records_out_.clear();
    unsettled_.clear();
    requests_.clear();
    flushes_.clear();
    replicas_.clear();
    read_to_.clear();
}

bool Store::deliver_control() {
    if (control_out_.empty()) return false;
    world.control_log.push_back(std::move(control_out_.front()));
    control_out_.pop_front();
    return true;
}

bool Store::read_control() {
    if (control_read_ == world.control_log.size()) return false;
    auto &[key, value] = world.control_log[control_read_++];
    auto changed = control_->apply(world.now, key, value);
    if (changed.account)
        if (auto *record = control_->account(*changed.account)) follow(*record);
    operations_->control_changed(world.now, changed);
    return true;
}

// The role that the record gives: a reader for the account, and the first OPEN of a new log.
void Store::follow(const AccountRecord &record) {
    auto key = world.key(record.account);
    auto is_self = [&](auto &entry) { return entry.store == name_; };
    bool concerned = record.source == name_ || std::ranges::any_of(record.destinations, is_self);
    auto found = replicas_.find(key);
    if (record.state == AccountState::removed || (!concerned && found == replicas_.end())) {
        if (found != replicas_.end()) replicas_.erase(found);
        durable_.erase(key);
        return;
    }
    if (found == replicas_.end()) {
        auto kept = durable_.find(key);
        auto last = std::ranges::find(record.places.rbegin(), record.places.rend(), record.epoch, &EpochPlace::epoch);
        auto reader = kept != durable_.end()
                          ? LogReader(kept->second.applied, true, kept->second.place)
                          : LogReader({last->epoch, last->sequence}, last->sequence > 0, last->place);
        found = replicas_.emplace(key, Replica{reader}).first;
        if (kept == durable_.end()) found->second.next = static_cast<size_t>(last->offset);
    }
    auto &replica = found->second;
    cross(replica, record);
    bool active_here = record.source == name_ && record.state == AccountState::active;
    if (active_here) replica.acting_epoch = record.epoch;
    bool log_is_new = record.places.front().epoch == record.epoch;
    if (active_here && log_is_new && !replica.reader.opened() && !replica.open_produced) {
        replica.open_produced = true;
        Record open;
        open.kind = RecordKind::open;
        open.open = Open{{}, replica.reader.place()};
        produce(replica.reader.place(), key, {record.epoch, 0}, open);
    }
}

void Store::cross(Replica &replica, const AccountRecord &record) {
    if (replica.reader.fenced_by() == 0) return;
    auto next = std::ranges::find_if(record.places, [&](auto &place) { return place.epoch > replica.reader.epoch(); });
    if (next == record.places.end()) return;
    replica.reader.cross({next->epoch, next->place});
    replica.crossed_epoch = next->epoch;
    replica.next = static_cast<size_t>(next->offset);
}

bool Store::deliver_record() {
    if (records_out_.empty()) return false;
    auto record = std::move(records_out_.front());
    records_out_.pop_front();
    auto &place = world.places[record.place];
    place.push_back(
        {record.place, static_cast<int64_t>(place.size()), record.account, record.number, session_, record.record});
    return true;
}

bool Store::read_place() {
    return round_robin(last_read_, [&](const AccountKey &key, Replica &replica) {
        auto place = replica.reader.place();
        auto &log = world.places[place];
        if (replica.next >= log.size()) return false;
        while (replica.next < log.size() && log[replica.next].account != key)
            replica.next++; // of others
        std::optional<Entry> entry;
        if (replica.next < log.size()) entry = log[replica.next++];
        read_to_[place] = std::max(read_to_[place], static_cast<int64_t>(replica.next));
        if (auto *record = control_->account(key); record && entry) judge(*record, replica, *entry);
        return true;
    });
}

void Store::judge(const AccountRecord &record, Replica &replica, const Entry &entry) {
    switch (replica.reader.judge(entry)) {
    case LogReader::Judgement::counts:
        replica.queue.push_back(entry.number);
        if (replica.open_produced) settled(entry.account, entry.number);
        if (entry.record.kind == RecordKind::open) break;
        if (entry.number.epoch != replica.acting_epoch || entry.session != session_) break;
        world.acknowledged.push_back({record.account, entry.number, entry.place, entry.offset});
        acknowledged_[entry.place] = std::max(acknowledged_[entry.place], entry.offset);
        break;
    case LogReader::Judgement::fence:
        cross(replica, record);
        break;
    case LogReader::Judgement::gap:
        stopped.insert(record.account);
        break;
    case LogReader::Judgement::bulk:
    case LogReader::Judgement::ignored:
        break;
    }
}

bool Store::apply_one() {
    return round_robin(last_applied_, [&](const AccountKey &key, Replica &replica) {
        if (replica.queue.empty()) return false;
        auto number = replica.queue.front();
        replica.queue.pop_front();
        auto &durable = durable_[key];
        durable.applied = number;
        for (auto &place : control_->account(key)->places)
            if (place.epoch == number.epoch) durable.place = place.place;
        return true;
    });
}

bool Store::append(const std::string &account) {
    auto found = replicas_.find(world.key(account));
    if (found == replicas_.end()) return false;
    auto &reader = found->second.reader;
    if (found->second.acting_epoch != reader.epoch() || !reader.opened() || reader.fenced_by() != 0) return false;
    Number next{reader.position().epoch, reader.position().sequence + 1};
    for (auto &waiting : records_out_)
        if (waiting.account == found->first && waiting.number == next) return false; // one unsettled record
    produce(reader.place(), found->first, next, Record{});
    return true;
}

Reply Store::answer(const Request &asked) {
    Reply reply;
    if (retries > 0) {
        retries--;
        reply.verdict = Verdict::retry;
    } else if (std::holds_alternative<Inspect>(asked.request)) {
        AccountFacts good;
        good.exists = true;
        good.user = asked.account;
        good.uid = good.gid = "5000";
        good.settings = "driver=cbox\nlayout=index\n";
        auto bent = facts.find(asked.account);
        reply.facts = bent == facts.end() ? good : bent->second;
    } else if (auto *probe = std::get_if<Probe>(&asked.request)) {
        auto name = (own_blobs ? name_ : "") + probe->name;
        if (probe->content.empty()) {
            reply.content = world.blobs[name];
        } else if (probe_write_error) {
            reply.verdict = Verdict::failed;
            reply.text = *probe_write_error;
        } else {
            world.blobs[name] = probe->content;
        }
    } else if (auto *notify = std::get_if<Notify>(&asked.request)) {
        mails.push_back(*notify);
    }
    return reply;
}

bool Store::answer_worker() {
    if (mute_worker || requests_.empty()) return false;
    auto asked = std::move(requests_.front());
    requests_.pop_front();
    asked.done(answer(asked));
    return true;
}

bool Store::answer_flush(bool ok) {
    if (flushes_.empty()) return false;
    auto done = std::move(flushes_.front());
    flushes_.pop_front();
    done(ok);
    return true;
}

bool Store::publish_state() {
    return round_robin(last_published_, [&](const AccountKey &key, Replica &replica) {
        auto *record = control_->account(key);
        bool is_destination = std::ranges::any_of(record->destinations, [&](auto &d) { return d.store == name_; });
        if (!is_destination || replica.acting_epoch == replica.reader.epoch()) return false;
        Number at = position(record->account);
        if (replica.version_published == record->version && replica.published == at) return false;
        replica.version_published = record->version;
        replica.published = at;
        DestinationState state;
        state.account = record->account;
        state.store = name_;
        state.version = record->version;
        state.position = state.flushed = at;
        state.wanted = wanted[record->account];
        state.wants_everything = !initialises && state.wanted.empty();
        bool complete = initialises && state.wanted.empty();
        state.phase = complete ? DestinationPhase::complete : DestinationPhase::initial;
        if (stopped.contains(record->account)) {
            state.phase = DestinationPhase::stopped;
            state.reason = "a gap";
        }
        publish(destination_key(key, store_hash(world.ring, name_)), state);
        return true;
    });
}

void Store::heartbeat() {
    Heartbeat beat;
    beat.store = name_;
    beat.session = session_;
    beat.counter = ++beats_;
    beat.version = version;
    beat.key_check = key_check.empty() ? world.ring.check_value() : key_check;
    beat.acknowledged.assign(acknowledged_.begin(), acknowledged_.end());
    publish(heartbeat_key(store_hash(world.ring, name_)), beat);
}

Result<EpochPlace> Store::start_for_destination(const std::string &account, const std::string &) {
    if (!start_error.empty()) return Error{Code::retry, start_error};
    auto *of = replica(account);
    auto end = static_cast<int64_t>(world.places[own_place()].size());
    if (!of || !control_->account(account)) return EpochPlace{1, own_place(), end, 0};
    if (of->reader.position().sequence == 0) return control_->account(account)->places.back();
    return EpochPlace{of->reader.position().epoch, of->reader.place(), static_cast<int64_t>(of->next),
                      of->reader.position().sequence};
}

Result<EpochPlace> Store::new_place(const std::string &, uint64_t epoch) {
    if (!start_error.empty()) return Error{Code::retry, start_error};
    return EpochPlace{epoch, own_place(), static_cast<int64_t>(world.places[own_place()].size()), 0};
}

std::string Store::promotion_problem(const std::string &account) const {
    auto bent = promotion_problems.find(account);
    if (bent != promotion_problems.end()) return bent->second;
    if (!replica(account)) return "this store keeps no replica of it";
    if (stopped.contains(account)) return "stopped: a gap";
    return initialises ? "" : "initial: the replica is not complete";
}

bool Store::fence_read(const std::string &account, uint64_t epoch) const {
    auto *of = replica(account);
    return of && of->crossed_epoch >= epoch;
}
bool Store::drained(const std::string &account) const {
    auto *of = replica(account);
    return of && of->queue.empty();
}
Number Store::applied(const std::string &account) const {
    auto *of = replica(account);
    bool acting = of && of->acting_epoch == of->reader.epoch() && of->reader.opened() && of->reader.fenced_by() == 0;
    return acting ? Number{} : position(account); // the machine that applies is not there then
}
Number Store::position(const std::string &account) const {
    auto found = durable_.find(world.key(account));
    return found == durable_.end() ? Number{} : found->second.applied;
}
int64_t Store::read_to(const Place &place) const {
    auto found = read_to_.find(place);
    return found == read_to_.end() ? 0 : found->second;
}
bool Store::open_read(const std::string &account, uint64_t epoch) const {
    auto *of = replica(account);
    return of && of->reader.opened() && of->reader.epoch() == epoch;
}

void Store::produce(const Place &place, const AccountKey &account, const Number &number, const Record &record) {
    produced++;
    records_out_.push_back({place, account, number, record});
    if (record.kind != RecordKind::changes) unsettled_.push_back(records_out_.back());
}
void Store::settled(const AccountKey &account, const Number &number) {
    std::erase_if(unsettled_, [&](auto &each) { return each.account == account && each.number == number; });
}

bool Cluster::settle() {
    bool any = false, moved = true;
    auto all = [](auto step) {
        bool did = false;
        while (step())
            did = true;
        return did;
    };
    while (moved) {
        moved = false;
        for (auto &[name, store] : stores) {
            if (!store->alive) continue;
            store->tick();
            moved |= all([&] { return store->deliver_control(); });
            moved |= all([&] { return store->read_control(); });
            moved |= all([&] { return store->deliver_record(); });
            moved |= all([&] { return store->read_place(); });
            moved |= all([&] { return store->apply_one(); });
            moved |= all([&] { return store->answer_worker(); });
            moved |= all([&] { return store->answer_flush(); });
            moved |= all([&] { return store->publish_state(); });
        }
        any |= moved;
    }
    return any;
}

void Cluster::pass(Time::duration duration) {
    for (auto end = world.now + duration; world.now < end;) {
        for (auto &[name, store] : stores)
            if (store->alive) store->heartbeat();
        settle();
        world.now += 200ms;
        world.wall_ms += 200;
    }
    settle();
}

bool Cluster::step(std::mt19937 &random) {
    auto at = stores.begin();
    std::advance(at, static_cast<long>(random() % stores.size()));
    auto &store = *at->second;
    if (!store.alive) return false;
    switch (random() % 10) {
    case 0:
    case 1:
        return store.deliver_control();
    case 2:
    case 3:
        return store.read_control();
    case 4:
        return store.deliver_record();
    case 5:
        return store.read_place();
    case 6:
        return store.apply_one();
    case 7:
        return store.answer_worker();
    case 8:
        return random() % 4 == 0 ? store.publish_state() : store.answer_flush(random() % 8 != 0);
    default:
        world.now += 10ms;
        if (random() % 20 == 0) store.heartbeat();
        store.tick();
        return true;
    }
}

std::set<Number> Cluster::truth(const std::string &account) const {
    struct Epoch {
        Number previous;
        std::set<Number> numbers;
    };
    std::map<uint64_t, Epoch> epochs; // as opened: each epoch has one place
    auto key = world.key(account);
    for (auto &[place, log] : world.places) {
        uint64_t fence = 0;
        std::map<uint64_t, uint64_t> next; // by epoch, the sequence that counts next here
        for (auto &entry : log) {
            if (entry.account != key) continue;
            auto epoch = entry.number.epoch;
            if (entry.record.kind == RecordKind::fence) fence = std::max(fence, epoch);
            if (entry.record.kind == RecordKind::fence || fence > epoch) continue;
            if (entry.record.kind == RecordKind::open && !next.contains(epoch)) {
                next[epoch] = 1;
                epochs[epoch].previous = entry.record.open->previous;
            } else if (auto at = next.find(epoch); at != next.end() && at->second == entry.number.sequence &&
                                                   entry.record.kind == RecordKind::changes) {
                at->second++;
                epochs[epoch].numbers.insert(entry.number);
            }
        }
    }
    std::set<Number> all; // back from the last epoch along what each OPEN names
    Number from{epochs.empty() ? 0 : epochs.rbegin()->first, UINT64_MAX};
    while (!from.none()) {
        auto &epoch = epochs[from.epoch];
        for (auto &number : epoch.numbers)
            if (number <= from) all.insert(number);
        from = epoch.previous;
    }
    return all;
}

} // namespace replica::test
