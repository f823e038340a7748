// The agent and its logs: what is read from Kafka, and what is produced until it was read back.
#include "agentd/io/agent.hpp"
#include <algorithm>

namespace replica {

using namespace std::chrono_literals;

namespace {
constexpr auto reassign_delay = 1s;
constexpr auto broker_limit = 5s;
constexpr size_t bulk_bytes_high = 16u << 20, bulk_bytes_low = 4u << 20; // of snapshots at the producer
constexpr size_t envelope_overhead = 256;
Time now_() { return std::chrono::steady_clock::now(); }
std::string name_of(const Place &place) { return place.topic + "/" + std::to_string(place.partition); }
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
        if (control_next_ >= control_end_) control_was_read();
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
    reader.next_offset = message.offset + 1;
    if (reader.outage) set_outage(now, message.place, false);
    auto header = peek(message.value);
    Account *account = header ? find(header->account) : nullptr;
    if (account) {
        auto opened = open(options_.ring, message.value);
        auto record = opened ? decode<Record>(opened->plaintext) : Result<Record>(opened.error());
        if (record) {
            account->entry(now, {message.place, message.offset, header->account, opened->header.number,
                                 opened->header.session, std::move(*record)});
        } else {
            std::string where =
                name_of(message.place) + " offset " + std::to_string(message.offset) + ": " + record.error().message;
            if (record.error().code == Code::denied) // void: anyone who may write to the broker can make such a record
                log_(Level::warning, "account=" + account->name() + ": quarantined, not applied: " + where);
            else if (account->reading() == message.place)
                account->unreadable("a record cannot be read at " + where);
        }
        awake(header->account);
        if (account->busy() && reader.busy.insert(header->account).second) kafka_->pause(message.place, true);
    }
    check_caught_up(message.place);
}

void Agent::check_caught_up(const Place &place) {
    auto &reader = places_[place];
    if (reader.waiting.empty() || !reader.running || reader.next_offset < reader.caught_up_at) return;
    auto waiting = std::exchange(reader.waiting, {});
    for (auto &key : waiting)
        if (auto *account = find(key)) account->caught_up(now_(), place), awake(key);
}

void Agent::read_from(const AccountKey &key, const Place &place, int64_t offset) {
    auto &reader = places_[place];
    if (reader.stored < 0)
        if (auto stored = state_->read("p/" + name_of(place))) reader.stored = std::stoll(*stored);
    int64_t begin = offset == from_stored ? std::max<int64_t>(reader.stored, 0) : offset;
    reader.waiting.insert(key);
    if (!reader.running) {
        auto range = kafka_->offsets(place, broker_limit);
        if (!range) {
            log_(Level::warning, name_of(place) + ": " + range.error().message);
            return loop_.after(reassign_delay, [this, key, place, offset] { read_from(key, place, offset); });
        }
        if (begin > range->second)
            return lost_place(place, "damaged: the log ends at offset " + std::to_string(range->second) +
                                         ", but was known up to " + std::to_string(begin));
        if (begin < range->first)
            return lost_place(place, "lost: Kafka keeps offsets from " + std::to_string(range->first) +
                                         " on, this store had applied up to " + std::to_string(begin));
        reader.running = true;
        reader.next_offset = begin;
        reader.caught_up_at = range->second;
        kafka_->assign(place, begin);
    } else if (begin < reader.next_offset) { // what others read again is void to them: it is numbered
        reader.caught_up_at = std::max(reader.caught_up_at, reader.next_offset);
        reader.next_offset = begin;
        kafka_->assign(place, begin);
        if (!reader.busy.empty()) kafka_->pause(place, true);
    }
    loop_.post([this, place] { check_caught_up(place); });
}

void Agent::lost_place(const Place &place, const std::string &why) {
    for (auto &[key, account] : accounts_)
        if (account->reading() == place) account->unreadable(why), awake(key);
}

void Agent::on_place_error(const PlaceError &error) {
    if (error.out_of_range && error.place != control_place_)
        return lost_place(error.place, "lost or damaged: " + name_of(error.place) + ": " + error.text);
    if (error.out_of_range) return fail("damaged: the control log: " + error.text);
    log_(Level::warning, name_of(error.place) + ": " + error.text);
    loop_.after(reassign_delay, [this, place = error.place] {
        if (place == control_place_)
            kafka_->assign(place, control_next_);
        else if (auto &reader = places_[place]; reader.running)
            kafka_->assign(place, reader.next_offset);
    });
}

// --- producing ---

uint64_t Agent::hand_to_producer(Pending pending) {
    uint64_t token = next_token_++;
    auto &kept = pending_[token] = std::move(pending);
    kept.since = now_();
    kafka_->produce(kept.place, kept.key, kept.value, kept.value.empty(), token);
    return token;
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
    bulk_bytes_ += sealed->size();
    hand_to_producer(
        {Pending::Kind::bulk, account->reading(), std::string(key.view()), std::move(*sealed), key, number, {}});
    if (bulk_bytes_ > bulk_bytes_high && !bulk_paused_) workers_->pause_bulk(bulk_paused_ = true);
}

void Agent::control_produce(const std::string &key, std::string value, bool is_heartbeat) {
    uint64_t token = hand_to_producer({Pending::Kind::control, control_place_, key, std::move(value), {}, {}, {}});
    if (is_heartbeat) heartbeat_token_ = token;
}

void Agent::publish(const std::string &kafka_key, const ControlValue &value) {
    control_produce(kafka_key, seal_control(options_.ring, session_, kafka_key, value),
                    std::holds_alternative<Heartbeat>(value));
}
void Agent::erase(const std::string &kafka_key) { control_produce(kafka_key, {}, false); }

void Agent::on_outcome(const Outcome &outcome) {
    auto found = pending_.find(outcome.token);
    if (outcome.producer_dead) producer_dead_ = resend_ = true;
    if (found == pending_.end()) return;
    auto &pending = found->second;
    if (!outcome.delivered) {
        if (!pending.failed)
            log_(Level::warning, name_of(pending.place) + ": not delivered, will be produced again: " + outcome.text);
        pending.failed = resend_ = true;
        return;
    }
    if (pending.kind == Pending::Kind::record) return; // delivered is not read back
    if (pending.kind == Pending::Kind::bulk) {
        bulk_bytes_ -= pending.value.size();
        if (bulk_paused_ && bulk_bytes_ < bulk_bytes_low) workers_->pause_bulk(bulk_paused_ = false);
    }
    pending_.erase(found);
}

// In the order of the tokens, so that the order in each place stays what it was.
void Agent::produce_again(Time) {
    if (!std::exchange(resend_, false)) return;
    bool all = std::exchange(producer_dead_, false);
    if (all) {
        log_(Level::warning, "the producer died: a new one produces what is unsettled again");
        if (auto renewed = kafka_->renew_producer(); !renewed) return fail(renewed.error().message);
    }
    for (auto &[token, pending] : pending_) {
        if (!all && !pending.failed) continue;
        pending.failed = false;
        kafka_->produce(pending.place, pending.key, pending.value, pending.value.empty(), token);
    }
}

void Agent::watch_outages(Time now) {
    for (auto &[token, pending] : pending_)
        if (pending.kind == Pending::Kind::record && now - pending.since > options_.settings.ack_timeout &&
            !places_[pending.place].outage)
            set_outage(now, pending.place, true);
}

void Agent::set_outage(Time now, const Place &place, bool on) {
    places_[place].outage = on;
    log_(on ? Level::warning : Level::info,
         name_of(place) + (on ? ": outage: changes are refused until a record is read back" : ": the outage is over"));
    for (auto &[token, pending] : pending_)
        if (pending.place == place) pending.since = now; // counted anew from here
    for (auto &[key, account] : accounts_)
        if (account->ship() && account->reading() == place) account->ship()->outage(now, on), awake(key);
}

} // namespace replica
