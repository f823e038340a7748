// The agent and its logs: what is read from Kafka, and what is produced until it was read back.
#include "agentd/io/agent.hpp"
#include <algorithm>

namespace replica {

using namespace std::chrono_literals;

namespace {
constexpr auto reassign_delay = 1s;
constexpr auto query_limit = 1s; // of a blocking call; after one that failed there is none for a while
constexpr auto query_pause = 3s;
constexpr auto query_serves = 1s;
constexpr auto resend_delay = 500ms;
constexpr auto watch_period = 200ms;
constexpr auto quarantine_pause = 1s; // between log lines, for each place
// Of snapshots at the producer: a change of a user waits behind them, so they are few.
constexpr size_t bulk_bytes_high = 256u << 10, bulk_bytes_low = 64u << 10;
constexpr size_t envelope_overhead = 256;
Time now_() { return std::chrono::steady_clock::now(); }
} // namespace

// --- reading ---

void Agent::on_message(Message &&message) {
    if (message.place == control_place_) return on_control(now_(), message);
    on_record(now_(), message);
}

void Agent::on_control(Time now, const Message &message) {
    control_next_ = message.offset + 1;
    auto changed = control_.apply(control_is_read_ ? now : Time{}, message.key, message.value);
    if (!changed.problem.empty())
        log_(Level::error, "control log offset=" + std::to_string(message.offset) + ": " + changed.problem);
    if (!control_is_read_) {
        if (control_next_ >= control_end_ && !std::exchange(control_end_reached_, true)) control_was_read();
        return;
    }
    if (changed.account) account_decided(now, *changed.account);
    if (changed.destination) {
        auto &[key, destination] = *changed.destination;
        auto *record = control_.account(key);
        auto *state = record ? control_.destination(record->account, destination) : nullptr;
        if (state && (state->wants_everything || !state->wanted.empty())) {
            incomplete_.insert(key);
            if (auto *account = find(key)) account->destination_state(now, *state), awake(key);
        }
    }
    if (changed.store) check_heartbeat(*changed.store);
    operations_.control_changed(now, changed);
}

void Agent::on_record(Time now, const Message &message) {
    auto &reader = places_[message.place];
    reader.reading.read(message.offset);
    reader.problem.clear();
    reader.named.clear();
    if (reader.outage) set_outage(now, message.place, false);
    auto header = peek(message.value);
    Account *account = header && reader.reading.feeds(header->account) ? find(header->account) : nullptr;
    if (account) {
        auto opened = open(options_.ring, message.value);
        auto record = opened ? decode<Record>(opened->plaintext) : Result<Record>(opened.error());
        if (record) {
            account->entry(now, {message.place, message.offset, header->account, opened->header.number,
                                 opened->header.session, std::move(*record)});
        } else {
            std::string where =
                to_string(message.place) + " offset " + std::to_string(message.offset) + ": " + record.error().message;
            if (record.error().code == Code::denied) // void: anyone who may write to the broker can make such a record
                quarantine(now, reader, "account=" + account->name() + ": quarantined, not applied: " + where);
            else if (account->reading() == message.place)
                account->unreadable("a record cannot be read at " + where);
        }
        awake(header->account);
        if (account->busy() && reader.busy.emplace(header->account, now).second) kafka_->pause(message.place, true);
    }
    check_caught_up(message.place);
}

// Whoever may write to the broker must not be able to fill our log.
void Agent::quarantine(Time now, PlaceReader &reader, const std::string &line) {
    if (now < reader.quarantine_named + quarantine_pause) {
        reader.quarantined++;
        return;
    }
    reader.quarantine_named = now;
    log_(Level::warning,
         line + (reader.quarantined ? " (and " + std::to_string(reader.quarantined) + " before it)" : ""));
    reader.quarantined = 0;
}

void Agent::check_caught_up(const Place &place) {
    for (auto &key : places_[place].reading.take_caught_up())
        if (auto *account = find(key)) account->caught_up(now_(), place), awake(key);
}

// An unreachable cluster must not hold up the loop: one query waits, the others fail at once.
Result<std::pair<int64_t, int64_t>> Agent::range_of(const Place &place) {
    if (now_() < query_again_at_) return Error{Code::retry, "the brokers did not answer a moment ago"};
    auto range = kafka_->offsets(place, query_limit);
    if (!range) query_again_at_ = now_() + query_pause;
    return range;
}

// Nothing that is produced from now on stands before it; so what was asked a moment ago serves a whole list of
// accounts.
Result<int64_t> Agent::end_of(const Place &place) {
    if (auto found = places_.find(place); found != places_.end() && found->second.reading.running())
        return found->second.reading.highest() + 1;
    auto &known = ends_[place];
    if (known.at == Time{} || now_() >= known.at + query_serves) {
        auto range = range_of(place);
        if (!range) return range.error();
        known = {now_(), range->second};
    }
    return known.offset;
}

void Agent::read_from(const AccountKey &key, const Place &place, int64_t offset) {
    auto &reader = places_[place];
    reader.reading.ask(key, offset);
    if (!std::exchange(reader.moving, true)) loop_.post([this, place] { move_reader(place); });
}

// One move for all who ask together.
void Agent::move_reader(const Place &place) {
    auto &reader = places_[place];
    if (!reader.reading.must_move()) {
        reader.moving = false;
        doubtful_.erase(place);
        reader.reading.stay();
        return check_caught_up(place);
    }
    auto range = range_of(place);
    if (!range) {
        if (reader.problem != range.error().message)
            log_(Level::warning, to_string(place) + ": " + range.error().message);
        reader.problem = range.error().message;
        return loop_.after(reassign_delay, [this, place] { move_reader(place); });
    }
    reader.moving = false;
    doubtful_.erase(place);
    auto [first, end] = *range;
    auto move = reader.reading.move(first, end);
    if (move.assign) {
        kafka_->assign(place, reader.reading.next_offset(), reading(place));
        if (!reader.busy.empty()) kafka_->pause(place, true);
    }
    for (auto &[key, offset] : move.out_of_range)
        out_of_range(key, place, offset, first, end);
    check_caught_up(place);
}

void Agent::out_of_range(const AccountKey &key, const Place &place, int64_t offset, int64_t first, int64_t end) {
    auto *account = find(key);
    if (!account || account->reading() != place) return;
    if (offset > end)
        account->unreadable("damaged: " + to_string(place) + " ends at offset " + std::to_string(end) +
                            ", but was known up to " + std::to_string(offset));
    else
        account->lost("Kafka keeps " + to_string(place) + " from offset " + std::to_string(first) +
                      " on, this store had it up to " + std::to_string(offset));
    awake(key);
}

// Where this store acknowledges, each record counts at once; where it follows, some milliseconds are nothing.
Kafka::Reading Agent::reading(const Place &place) const {
    return place.topic == own_place("").topic ? Kafka::Reading::prompt : Kafka::Reading::batched;
}

// The reader's place in the log is gone, or was never there: each account is asked for anew, and told what is the case.
void Agent::look_again(const Place &place) {
    auto &reading = places_[place].reading;
    reading.stop();
    kafka_->unassign(place);
    for (auto &[key, account] : accounts_)
        if (account->reading() == place && reading.feeds(key)) read_from(key, place, reading.next_offset());
}

// A place that no account of ours reads any more costs the brokers and us as much as one that is needed.
void Agent::stop_reading_for_nobody() {
    std::set<Place> read;
    for (auto &[key, account] : accounts_)
        read.insert(account->reading());
    for (auto &[place, reader] : places_) {
        if (!reader.reading.running() || reader.moving || read.contains(place)) continue;
        reader.reading.stop();
        kafka_->unassign(place);
        log_(Level::info, to_string(place) + ": no account is read there any more");
    }
}

void Agent::on_place_error(const PlaceError &error) {
    if (error.out_of_range && error.place != control_place_) return look_again(error.place);
    if (error.out_of_range) return fail("damaged: the control log: " + error.text);
    auto &reader = places_[error.place];
    if (std::exchange(reader.problem, error.text) == error.text) return; // named, and a new attempt is under way
    if (std::exchange(reader.named, error.text) != error.text)
        log_(Level::warning, to_string(error.place) + ": " + error.text);
    loop_.after(reassign_delay, [this, place = error.place] {
        auto &again = places_[place];
        again.problem.clear();
        if (place == control_place_) return kafka_->assign(place, control_next_);
        if (!again.reading.running()) return;
        kafka_->assign(place, again.reading.next_offset(), reading(place));
        if (!again.busy.empty()) kafka_->pause(place, true);
    });
}

// --- producing ---

uint64_t Agent::hand_to_producer(Pending pending) {
    uint64_t token = next_token_++;
    auto &kept = pending_[token] = std::move(pending);
    kept.since = now_();
    offer(token, kept);
    return token;
}

// A producer dies where the brokers lost what it had written. Whoever writes there before the reader has asked where
// the place ends hides that: what comes to stand in the gap is behind the reader, and is never read back.
void Agent::offer(uint64_t token, Pending &pending) {
    pending.failed = doubtful_.contains(pending.place);
    if (pending.failed)
        resend_ = true;
    else
        kafka_->produce(pending.place, pending.key, pending.value, pending.value.empty(), token);
}

void Agent::produce(const Place &place, const AccountKey &account, const Number &number, const Record &record) {
    auto sealed = seal(options_.ring, {options_.ring.active(), account, number, session_}, encode(record));
    if (!sealed) return fail("replica_key_file: " + sealed.error().message);
    uint64_t token = hand_to_producer(
        {Pending::Kind::record, place, std::string(account.view()), std::move(*sealed), account, number, {}});
    records_pending_[{account, number}].push_back(token);
}

void Agent::settled(const AccountKey &account, const Number &number) {
    auto found = records_pending_.find({account, number});
    if (found == records_pending_.end()) return;
    for (uint64_t token : found->second)
        pending_.erase(token);
    records_pending_.erase(found);
}

size_t Agent::sealed_size(const Record &record) const { return encode(record).size() + envelope_overhead; }

void Agent::bulk(const std::string &name, const std::string &encoded) {
    auto key = options_.ring.account_key(name);
    auto *account = find(key);
    if (!account || !account->ship()) return; // replaced meanwhile: a fence stands before it, it would be void
    Record record;
    record.kind = RecordKind::bulk;
    record.bulk = encoded;
    Number number{account->position().epoch, 0};
    auto sealed = seal(options_.ring, {options_.ring.active(), key, number, session_}, encode(record));
    if (!sealed) return fail("replica_key_file: " + sealed.error().message);
    if (uint64_t rate = options_.settings.snapshot_rate)
        if (auto part = decode<Bulk>(encoded))
            bulk_not_before_ =
                std::max(bulk_not_before_, now_()) + std::chrono::microseconds(1000000 * part->mails.size() / rate);
    bulk_bytes_ += sealed->size();
    hand_to_producer(
        {Pending::Kind::bulk, account->reading(), std::string(key.view()), std::move(*sealed), key, number, {}});
    pace_bulk();
}

// Snapshots wait while the producer is full of them, and for replica_snapshot_rate.
void Agent::pace_bulk() {
    auto now = now_();
    bool early = now < bulk_not_before_;
    bool pause = early || bulk_bytes_ > (bulk_paused_ ? bulk_bytes_low : bulk_bytes_high);
    if (pause != bulk_paused_) workers_->pause_bulk(bulk_paused_ = pause);
    if (early && !std::exchange(bulk_waits_, true))
        loop_.after(std::chrono::ceil<std::chrono::milliseconds>(bulk_not_before_ - now), [this] {
            bulk_waits_ = false;
            pace_bulk();
        });
}

uint64_t Agent::control_produce(const std::string &key, std::string value, const AccountKey &account) {
    return hand_to_producer({Pending::Kind::control, control_place_, key, std::move(value), account, {}, {}});
}

void Agent::publish(const std::string &kafka_key, const ControlValue &value) {
    auto *state = std::get_if<DestinationState>(&value);
    auto account = state ? options_.ring.account_key(state->account) : AccountKey{};
    uint64_t token = control_produce(kafka_key, seal_control(options_.ring, session_, kafka_key, value), account);
    if (std::holds_alternative<Heartbeat>(value)) heartbeat_token_ = token;
}
void Agent::erase(const std::string &kafka_key) { control_produce(kafka_key, {}, {}); }

void Agent::on_outcome(const Outcome &outcome) {
    auto found = pending_.find(outcome.token);
    if (outcome.producer_dead) producer_dead_ = resend_ = true;
    if (found == pending_.end()) return;
    auto &pending = found->second;
    if (!outcome.delivered) {
        if (!std::exchange(pending.named, true))
            log_(Level::warning, to_string(pending.place) + ": not delivered, will be produced again: " + outcome.text);
        pending.failed = resend_ = true;
        return;
    }
    if (pending.kind == Pending::Kind::record) return; // delivered is not read back
    if (pending.kind == Pending::Kind::control) state_pending_.erase(pending.account);
    if (pending.kind == Pending::Kind::bulk) {
        bulk_bytes_ -= pending.value.size();
        pace_bulk();
    }
    pending_.erase(found);
}

// In the order of the tokens, so that the order in each place stays what it was.
void Agent::produce_again(Time now) {
    if (!resend_ || now < resend_at_) return;
    resend_ = false;
    resend_at_ = now + resend_delay;
    bool all = std::exchange(producer_dead_, false);
    if (all) {
        log_(Level::warning, "the producer died: a new one produces what is unsettled again");
        if (auto renewed = kafka_->renew_producer(); !renewed) return fail(renewed.error().message);
        for (auto &[place, reader] : places_) {
            if (reading(place) != Kafka::Reading::prompt) continue; // another store writes there
            look_again(place);
            if (reader.moving) doubtful_.insert(place);
        }
    }
    for (auto &[token, pending] : pending_)
        if (all || pending.failed) offer(token, pending);
}

// What is produced until it is read back is the probe that ends an outage; without one the next change is it.
void Agent::watch_outages(Time now) {
    if (now < watch_at_) return;
    watch_at_ = now + watch_period;
    std::set<Place> probed;
    for (auto &[numbered, tokens] : records_pending_)
        for (uint64_t token : tokens) {
            auto &pending = pending_.at(token);
            probed.insert(pending.place);
            if (now - pending.since > options_.settings.ack_timeout && !places_[pending.place].outage)
                set_outage(now, pending.place, true);
        }
    for (auto &[place, reader] : places_)
        if (reader.outage && !probed.contains(place)) set_outage(now, place, false);
}

void Agent::set_outage(Time now, const Place &place, bool on) {
    places_[place].outage = on;
    log_(on ? Level::warning : Level::info,
         to_string(place) +
             (on ? ": outage: changes are refused until a record is read back" : ": the outage is over"));
    for (auto &[token, pending] : pending_)
        if (pending.place == place) pending.since = now; // counted anew from here
    for (auto &[key, account] : accounts_)
        if (account->ship() && account->reading() == place) account->ship()->outage(now, on), awake(key);
}

} // namespace replica
