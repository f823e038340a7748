// The source's side of one account: takes changes from mail processes, gives them numbers, acknowledges what counts (design 3).
// One unsettled record at a time; changes of other objects that come meanwhile go together in the next one.
// Promises: ACK only for a change that was read back as counting. A change offered on a mark that is not the last number assigned
// to its object is refused. An object whose change counted, but was not confirmed by DONE, is rolled forward before it is clear.
// Pure: time comes in, effects go out (effects.hpp). A restart is a new Ship: every counted record fed to it again is in doubt
// until it is rolled forward.
#pragma once
#include "agentd/core/effects.hpp"
#include <deque>
#include <map>
#include <optional>
#include <set>

namespace replica {

struct ShipSettings {
    std::chrono::milliseconds ack_timeout{5000};
    size_t record_bytes_max = 8u << 20;
};

class Ship {
public:
    Ship(std::string account, AccountKey key, ShipSettings settings, Effects &effects);

    // The account's log was read to its end: `last` is the position, the next record is last.sequence + 1 in `place`.
    // Until then clear waits (up to half the timeout), changes are refused as unavailable.
    void open(Time now, Number last, const Place &place);
    // Not the source (any more), or stopped: everything pending is refused with this reason, and all that comes.
    void close(Reason reason, const std::string &text);
    // Brokers away, noticed by the shell: refuse at once, instead of after the timeout; false ends it.
    void outage(Time now, bool on);

    void clear(Time now, ClientId, const Clear &);
    void change(Time now, ClientId, const ChangeFrame &);
    void done(Time now, ClientId, const Done &);
    void client_gone(Time now, ClientId);

    // R1 said that this record counts: ours, or a former life's. Also fed at start, before open, from the stored position on.
    void counted(Time now, const Entry &);

    void tick(Time now);
    std::optional<Time> deadline() const; // when tick is next needed

    // Everything up to here is known to be in the local indexes: what may be stored as flushed position after a flush.
    Number settled() const;
    std::optional<int64_t> oldest_unsettled_offset() const;
    bool idle() const; // nothing pending, nothing unsettled: a reload may end this agent

private:
    // (the implementer's)
};

} // namespace replica
