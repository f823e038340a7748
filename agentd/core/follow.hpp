// The destination's side of one account: hands what counts to the workers, in order, and knows what is wanted (design 6 and 7).
// Promises: a change is passed on once per life, in the log's order; the position that may be stored never passes a change that
// is not in the indexes, nor the SNAPSHOT of an open collection; one bad account stops itself only.
// Bounded: at most `window` changes are at the worker; the caller stops reading the place while full() (back-pressure).
#pragma once
#include "agentd/core/effects.hpp"
#include "agentd/core/log_reader.hpp"
#include <deque>
#include <map>
#include <optional>
#include <set>

namespace replica {

class Follow {
public:
    struct Start {
        Number position;               // applied up to here
        bool wants_everything = false; // a new destination: lists first
        std::vector<Object> wanted;
    };
    Follow(std::string account, AccountKey key, const Start &start, Effects &effects);

    void counted(Time now, const Entry &); // R1 said so; changes only
    void bulk(Time now, const Entry &);    // R1's `bulk`
    void stop(const std::string &reason);  // gap, quarantine: kept until the administrator sets the destination anew
    void worker_lost(Time now);            // what was in flight is sent again: applying is idempotent
    void tick(Time now);                   // sends again what answered retry
    std::optional<Time> deadline() const;

    DestinationPhase phase() const;
    const std::string &reason() const;
    Number applied() const;  // every counting record up to here is in the indexes (or wanted, and named)
    Number storable() const; // applied(), held back by open snapshots
    std::optional<int64_t> oldest_needed_offset() const; // of what is not storable yet
    bool full() const;
    bool idle() const; // nothing queued, nothing at a worker
    // For the control log and status: changed since the last call?
    bool take_changed();
    void describe(DestinationState &) const; // position, phase, wanted, reason, progress

private:
    // (the implementer's)
};

} // namespace replica
