// The source's side of one account: takes changes from mail processes, gives them numbers, acknowledges what counts
// (design 3). One unsettled record at a time; changes of other objects that come meanwhile go together in the next one.
// Promises: ACK only for a change that was read back as counting. A change offered on a mark that is not the last
// number assigned to its object is refused. An object whose change counted, but was not confirmed by DONE, is rolled
// forward before it is clear.
// Pure: time comes in, effects go out (effects.hpp). A restart is a new Ship: every counted record fed to it again is
// in doubt until it is rolled forward.
// Limits: one change of an object waits or is unsettled; who waits longer than half the timeout is refused; kept
// changes see unconfirmed.hpp. In memory stay the last number of each object, and the GUIDs deleted in this life.
#pragma once
#include "agentd/core/effects.hpp"
#include "agentd/core/unconfirmed.hpp"
#include <deque>
#include <map>
#include <optional>
#include <set>

namespace replica {

struct ShipSettings {
    std::chrono::milliseconds ack_timeout{5000};
    size_t record_bytes_max = 8u << 20;
    Session session; // this agent's: only what it sealed itself is acknowledged
};

class Ship {
public:
    Ship(std::string account, AccountKey key, ShipSettings settings, Effects &effects);
    Ship(const Ship &) = delete;

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
    // A destination wants the object: a snapshot is taken, unless one is under way; tried again until it was or cannot
    // be.
    void snapshot(Time now, const Object &);

    // Its content is past the log: it is snapshotted, and named until that counts.
    void unlogged(Time now, const Object &, const Mark &);
    const std::set<Object> &unlogged() const { return unlogged_; }
    Number unlogged_until() const { return unlogged_until_; } // the last snapshot of such an object

    // R1 said that this record counts: ours, or a former life's. At start fed from the stored position on, before open.
    void counted(Time now, const Entry &);
    bool full() const { return unconfirmed_.full(); } // while it is fed: read no further for now

    void tick(Time now);
    std::optional<Time> deadline() const; // when tick is next needed

    // Everything up to here is known to be in the local indexes: what may be stored as flushed position after a flush.
    Number settled() const { return unconfirmed_.settled().value_or(position_); }
    std::optional<int64_t> oldest_unsettled_offset() const { return unconfirmed_.oldest_offset(); }
    // What counted up to there is in the local indexes, but for objects that cannot be rolled forward.
    bool rolled_forward(const Number &upto) const { return unconfirmed_.rolled_forward(upto); }
    bool idle() const; // nothing pending, nothing unsettled, nothing to roll forward
    // Every change that came has its answer: a reload may end this agent. The next one rolls forward what lacks its
    // DONE.
    bool answered() const { return waiting_.empty() && !unsettled_; }
    // An object that cannot be rolled forward and refuses changes since, in a sentence; or empty.
    std::string problem() const;

private:
    using Owner = Unconfirmed::Owner;
    struct Refusal {
        Reason reason = Reason::none;
        std::string text;
    };
    struct Offer { // a change that has no number yet, or whose record is not settled yet
        Change change;
        Owner owner;
        Time since;
        size_t sealed_size;
        bool client_gone = false;
    };
    struct Unsettled { // the one record that is produced until its number is read back
        Number number;
        std::vector<Offer> offers;
    };
    struct Asked {
        ClientId client;
        Clear clear;
        Time since;
    };
    struct Snapshot { // wanted, or (running) under way
        bool running = false;
        Time not_before{};
    };

    // --- ship.cpp: changes and their numbers ---
    Refusal objection(const Change &) const;
    void assign(const Change &, const Number &);
    void unassign(const Change &);
    void seal();
    void acknowledge(const Entry &);
    void take_foreign(const Entry &);
    void refuse_if_objectionable(std::deque<Offer> &);
    bool is_own(const Entry &) const;
    void refuse(const Offer &, const Refusal &);
    void go_on(Time now);
    Time latest(Time since) const { return since + settings_.ack_timeout / 2; }

    // --- ship_clear.cpp: who asks before a lock, and snapshots ---
    std::optional<Refusal> answer(const Asked &); // none: it has to wait
    void answer_clears();
    bool under_way(const Object &) const;
    bool in_doubt(const Object &) const;
    bool needs_snapshot(const Clear &) const;
    void begin_anew(const Object &);
    void note_snapshot(const Change &, const Number &);
    void take_snapshots();
    void snapshot_taken(const Object &, const Reply &);

    std::string account_;
    AccountKey key_;
    ShipSettings settings_;
    Effects &effects_;
    Time now_{};

    enum class Phase : uint8_t { starting, open, closed } phase_ = Phase::starting;
    Refusal closed_; // the reason
    bool outage_ = false;
    Number position_; // the last record that counts
    Place place_;
    std::map<Object, Number> assigned_; // the last number given to each object, the unsettled record's included
    std::set<Object> deleted_;          // a DELETE got its number
    std::deque<Offer> waiting_;
    std::optional<Unsettled> unsettled_;
    Unconfirmed unconfirmed_;
    std::deque<Asked> clears_;
    std::map<Object, Snapshot> snapshots_;
    std::set<Object> unlogged_;
    Number unlogged_until_;
};

} // namespace replica
