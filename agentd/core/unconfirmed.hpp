// The changes of a source's account that count but are not known to be in its own indexes. Each is kept until its
// process says DONE, until a later change proves it (its mark is the number), or until a worker has rolled it forward,
// exactly as a replica applies it.
// A kept change without an owner is in doubt: ACKed or not, nobody is left who would say DONE.
// Promises: changes of an object are rolled forward in the log's order; one object that cannot be, stops itself only.
// Bounded: the caller reads no further into its own log while full().
#pragma once
#include "agentd/core/changes.hpp"
#include "agentd/core/effects.hpp"
#include <list>
#include <map>
#include <optional>
#include <set>

namespace replica {

class Unconfirmed {
public:
    static constexpr size_t batch_max = 200;
    static constexpr size_t kept_max = 10'000;
    static constexpr std::chrono::milliseconds retry_after{200};
    static constexpr std::chrono::minutes stopped_retry_after{1}; // what stopped may have been mended

    struct Owner { // the connection and request that will say DONE
        ClientId client = 0;
        uint64_t request = 0;
        bool operator==(const Owner &) const = default;
    };

    // `moved` is called after a roll-forward came back: something left, or an object stopped.
    Unconfirmed(std::string account, Effects &effects, std::function<void()> moved);

    void add(const Entry &entry, const Change &change, std::optional<Owner> owner); // a change that counts

    void done(const Owner &owner, bool ok);
    void client_gone(ClientId client);
    void settle(const Object &object); // its mark is at the last number, or it was deleted: nothing of it is open
    void doubt(const Object &object);  // its mark is behind: who held its lock has lost it
    void roll(Time now);               // sends what is in doubt, one batch at a time
    std::optional<Time> deadline() const { return wake_at_; } // when roll is next needed

    bool has(const Object &object) const;      // anything kept of it
    bool in_doubt(const Object &object) const; // something to roll forward
    const std::string *stopped(const Object &object) const;
    std::string problem() const; // of one that is stopped, or empty

    bool rolled_forward(const Number &upto) const; // nothing kept up to there, but of stopped objects
    bool idle() const;                             // nothing kept but of stopped objects
    bool full() const { return kept_.size() >= kept_max; }
    std::optional<Number> settled() const; // the number before the oldest kept; none: nothing is kept
    std::optional<int64_t> oldest_offset() const;

private:
    struct Kept {
        Number number;
        int64_t offset;
        Change change;
        std::optional<Owner> owner;
    };
    using Sent = std::vector<std::pair<Number, Object>>;

    bool waits(const Object &object);
    void rolled(const Sent &sent, const Reply &reply);
    bool conclude(const Number &number, const Object &object, Verdict verdict, const std::string &text);
    void stop(const Number &number, const Object &object, Verdict verdict, const std::string &text);

    std::string account_;
    Effects &effects_;
    std::function<void()> moved_;
    std::list<Kept> kept_;            // in the log's order
    std::map<Object, Time> retry_at_; // answered retry
    struct Stopped {
        std::string why; // it cannot be rolled forward
        Time again_at;
    };
    std::map<Object, Stopped> stopped_;
    Time now_{}, not_before_{}; // not_before_: after a lost worker
    std::optional<Time> wake_at_;
    bool rolling_ = false;
};

} // namespace replica
