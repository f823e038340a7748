#include "agentd/core/place_reading.hpp"
#include <algorithm>
#include <utility>

namespace replica {

void PlaceReading::ask(const AccountKey &account, int64_t offset) {
    asked_[account] = offset;
    waiting_.insert(account);
}

bool PlaceReading::must_move() const {
    return std::ranges::any_of(asked_, [&](auto &asked) { return !running_ || asked.second < next_offset_; });
}

PlaceReading::Move PlaceReading::move(int64_t first, int64_t end) {
    Move move;
    for (auto &[account, offset] : std::exchange(asked_, {})) {
        if (offset < first || offset > end) {
            waiting_.erase(account);
            move.out_of_range.emplace_back(account, offset);
        } else if (!running_ || offset < next_offset_) {
            running_ = move.assign = true;
            next_offset_ = offset;
        }
    }
    if (move.assign) caught_up_at_ = std::max(caught_up_at_, end);
    return move;
}

void PlaceReading::read(int64_t offset) {
    next_offset_ = offset + 1;
    highest_ = std::max(highest_, offset);
}

void PlaceReading::stop() { running_ = false; }

std::vector<AccountKey> PlaceReading::take_caught_up() {
    std::vector<AccountKey> caught_up;
    if (!running_ || next_offset_ < caught_up_at_) return caught_up;
    std::erase_if(waiting_, [&](auto &account) {
        if (!feeds(account)) return false;
        caught_up.push_back(account);
        return true;
    });
    return caught_up;
}

} // namespace replica
