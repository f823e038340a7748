// Account: what of it survives a restart, and what it tells the other stores.
#include "agentd/core/account.hpp"
#include "lib/base/bytes.hpp"
#include <algorithm>
#include <tuple>

namespace replica {

using namespace std::chrono_literals;

namespace {
constexpr auto position_publish_interval = 5s; // a position alone is published this often at most
constexpr auto progress_publish_interval = 1s;
} // namespace

std::string encode(const StoredAccount &stored) {
    std::string out;
    Writer w(out);
    w.u8(2);
    w.number(stored.position);
    w.u8(stored.opened);
    w.blob(stored.place.topic);
    w.u32(static_cast<uint32_t>(stored.place.partition));
    w.u64(static_cast<uint64_t>(stored.offset));
    w.u8(stored.wants_everything);
    w.u32(static_cast<uint32_t>(stored.wanted.size()));
    for (auto &object : stored.wanted) {
        w.blob(object.ns_prefix);
        w.id(object.mailbox);
    }
    w.blob(stored.stopped);
    w.u8(stored.lost);
    w.u64(stored.version);
    w.u8(static_cast<uint8_t>(stored.control_dir.role));
    w.u64(stored.control_dir.epoch);
    w.blob(stored.control_dir.boot);
    w.blob(stored.control_dir.mail_root);
    w.u64(stored.control_dir.device);
    w.blob(stored.control_dir.uid);
    return out;
}

template <> Result<StoredAccount> decode<StoredAccount>(std::string_view bytes) {
    Reader r(bytes);
    StoredAccount stored;
    if (r.u8() != 2) r.fail();
    stored.position = r.number();
    stored.opened = r.u8();
    stored.place.topic = r.blob();
    stored.place.partition = static_cast<int32_t>(r.u32());
    stored.offset = static_cast<int64_t>(r.u64());
    stored.wants_everything = r.u8();
    for (uint32_t n = r.count(20); n > 0 && r.ok(); n--) {
        Object object;
        object.ns_prefix = r.blob();
        object.mailbox = r.id<Guid>();
        stored.wanted.push_back(std::move(object));
    }
    stored.stopped = r.blob();
    stored.lost = r.u8();
    stored.version = r.u64();
    stored.control_dir.role = static_cast<Role>(r.u8());
    stored.control_dir.epoch = r.u64();
    stored.control_dir.boot = r.blob();
    stored.control_dir.mail_root = r.blob();
    stored.control_dir.device = r.u64();
    stored.control_dir.uid = r.blob();
    if (!r.at_end()) return Error{Code::corrupt, "a stored account"};
    return stored;
}

bool Account::follow_is_level() const { return follow_->idle() && follow_->storable() >= follow_fed_; }

std::optional<StoredAccount> Account::storable() {
    if (!reader_) {
        stored_.control_dir = control_dir_;
        // Kept until its control dir says that it has left; and what is known of one whose record cannot be read.
        if (stored_.position.none() && control_dir_.role == role_wanted_) return std::nullopt;
        return stored_;
    }
    bool open_is_to_come = !ship_ && !follow_;
    if (open_is_to_come || control_dir_.mail_root.empty()) return std::nullopt; // nothing to flush: it begins again
    StoredAccount stored;
    stored.control_dir = control_dir_;
    stored_position(stored);
    if (follow_ && !ship_) {
        DestinationState state;
        follow_->describe(state);
        stored.wants_everything = state.wants_everything;
        stored.wanted = {follow_->wanted().begin(), follow_->wanted().end()};
        stored.stopped = stopped_;
        if (follow_->phase() == DestinationPhase::stopped) stored.stopped = follow_->reason();
        stored.lost = lost_;
        stored.version = record_.version;
    }
    if (stored.position.none()) return std::nullopt;
    storing_begun_ = !stored.wants_everything;
    storing_ = stored.position;
    return stored;
}

void Account::stored() {
    if (storing_begun_ && !std::exchange(has_begun_, true)) unpublished_ = true;
    if (storing_ != std::exchange(flushed_, storing_)) unpublished_ = true;
}

bool Account::wants_flush() const {
    return follow_ && follow_->phase() == DestinationPhase::complete && !has_begun_ && !control_dir_.mail_root.empty();
}

DestinationPhase Account::phase() const {
    auto phase = follow_->phase();
    if (phase == DestinationPhase::stopped && lost_) return DestinationPhase::lost;
    return phase == DestinationPhase::complete && !has_begun_ ? DestinationPhase::initial : phase;
}

void Account::stored_position(StoredAccount &stored) const {
    stored.place = reader_->place();
    stored.position = reader_->position();
    stored.opened = reader_->opened();
    bool reads_with_others = !aside_ && !asking_ && stopped_.empty() && (!follow_ || follow_->idle());
    stored.offset = reads_with_others ? StoredAccount::of_place : next_offset_;
    if (follow_ && !follow_is_level()) {
        stored.position = follow_->storable();
        stored.opened = true;
        auto oldest = follow_->oldest_needed();
        if (oldest) {
            std::tie(stored.place, stored.offset) = *oldest;
            return;
        }
    } else if (auto unsettled = ship_ ? ship_->oldest_unsettled_offset() : std::nullopt) {
        stored.position = ship_->settled();
        stored.opened = true;
        stored.offset = *unsettled;
        return;
    }
    if (!crossed_) return;
    stored.place = crossed_->place;
    stored.offset = crossed_->offset;
    stored.opened = true;
}

std::optional<DestinationState> Account::take_state(Time now, const DestinationState *published) {
    return ship_ ? take_source_state(now, published) : take_destination_state(now);
}

// What an administrator and a promotion have to know of a source: nothing, usually, and then nothing is said.
std::optional<DestinationState> Account::take_source_state(Time now, const DestinationState *published) {
    unpublished_ = false;
    if (!inspected_ && stopped_.empty()) return std::nullopt; // what a former life said holds until it was looked at
    DestinationState state;
    state.account = name_;
    state.store = host_.store();
    state.version = record_.version;
    state.phase = DestinationPhase::source;
    state.position = ship_->unlogged_until();
    state.wanted = {ship_->unlogged().begin(), ship_->unlogged().end()};
    state.reason = stopped_.empty() ? ship_->problem() : (lost_ ? "lost: " : "") + stopped_;
    bool known = published && published->phase == DestinationPhase::source;
    if (known) {
        state.position = std::max(state.position, published->position);
        if (!inspected_) state.wanted = published->wanted;
    }
    DestinationState same = state;
    same.version = known ? published->version : 0;
    if (known ? same == *published
              : !published && state.position.none() && state.wanted.empty() && state.reason.empty())
        return std::nullopt;
    unpublished_ = true; // until the control log brings it back
    if (now - published_at_ < progress_publish_interval) return std::nullopt;
    published_at_ = now;
    return state;
}

std::optional<DestinationState> Account::take_destination_state(Time now) {
    if (!follow_) return std::nullopt;
    unpublished_ = follow_->take_changed() || unpublished_;
    if (!unpublished_) return std::nullopt;
    DestinationState state;
    state.account = name_;
    state.store = host_.store();
    state.version = record_.version;
    follow_->describe(state);
    state.phase = phase();
    state.flushed = flushed_;
    DestinationState same = state;
    same.position = published_.position;
    same.flushed = published_.flushed;
    if (same == published_ && now - published_at_ < position_publish_interval) return std::nullopt;
    same.mails_done = published_.mails_done;
    if (same == published_ && now - published_at_ < progress_publish_interval) return std::nullopt;
    unpublished_ = false;
    published_ = state;
    published_at_ = now;
    return state;
}

} // namespace replica
