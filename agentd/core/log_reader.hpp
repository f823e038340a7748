// R1, the counting rule, for one account: which records of its log count. A record (e, s) counts if no FENCE(f > e) of
// the account stands before it in its place and it is the first with (e, s) there; all else is void. The order in the
// log decides.
// Pure: no clock, no I/O. The caller has opened and authenticated the record; it is of this account.
#pragma once
#include "agentd/core/effects.hpp"
#include <optional>

namespace replica {

class LogReader {
public:
    enum class Judgement : uint8_t {
        counts,  // changes or open: the position moves to it
        bulk,    // a bulk record before any fence: (id, n) is the collector's to count
        fence,   // a fence above the current epoch: nothing more counts here; the next epoch's control record is needed
        ignored, // void, a replay, or of another epoch or place
        gap,     // a sequence is missing: the reader stops with a named state
    };
    struct EpochStart { // from the control log
        uint64_t epoch = 0;
        Place place;
    };

    // Continues behind `position`, of which `place` is the place: the next that counts is (e, s + 1). Not opened (then
    // position.sequence == 0): OPEN(e) is awaited, whatever its previous is, since the control log named this start.
    LogReader(Number position, bool opened, Place place);

    Judgement judge(const Entry &entry); // moves the position on counts
    // After a fence: the epoch to go on with. The position stays where it is until its OPEN is read, whose previous
    // must be just that (else gap). An epoch that was fenced before its OPEN is crossed like any other.
    void cross(const EpochStart &next);

    Number position() const { return position_; }
    uint64_t epoch() const { return epoch_; } // the one that is read or awaited here
    bool opened() const { return opened_; }
    const Place &place() const { return place_; }
    // The fence that closed the current epoch here: the first above it; 0 if none. The epoch to go on with is the next
    // one that the control log lists.
    uint64_t fenced_by() const { return fence_; }

private:
    Judgement judge_open(const Entry &entry);
    Judgement judge_changes(const Number &number);

    Number position_;
    std::optional<Number> previous_; // what the awaited OPEN must name; none: at a start
    uint64_t epoch_;
    bool opened_;
    Place place_;
    uint64_t fence_ = 0;
};

} // namespace replica
