// The destination's side of one account: hands what counts to the workers, in order, and knows what is wanted (design
// 6 and 7).
// Promises: a change is passed on once per life, in the log's order; the position that may be stored never passes a
// change that is not in the indexes, nor the SNAPSHOT of an open collection; one bad account stops itself only.
// One request is at the worker at a time: behind a change that must be tried again, a later one of its object would
// look like a break of the chain.
// Bounded: the caller stops reading the place while full() (back-pressure); a batch has at most `window` changes.
// Keep: whoever stores storable() stores wanted() with it, in one transaction.
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
    static constexpr size_t window = 64;
    static constexpr size_t queue_max = 4 * window;
    static constexpr size_t queue_bytes_max = 16u << 20;
    static constexpr std::chrono::milliseconds retry_after{200};
    static constexpr std::chrono::seconds named_after{10};     // what is tried again for so long is named in reason()
    static constexpr std::chrono::seconds collection_idle{60}; // without bulk for so long, nobody sends it any more

    struct Start {
        Number position;               // applied up to here
        bool wants_everything = false; // a new destination: lists first
        std::vector<Object> wanted;
    };
    Follow(std::string account, AccountKey, const Start &start, Effects &effects);

    void counted(Time now, const Entry &); // R1 said so: changes, or OPEN
    void bulk(Time now, const Entry &);    // R1's `bulk`
    void fenced(Time now);                 // R1's `fence`: bulk behind it is void, no open collection can be completed
    void stop(const std::string &reason);  // gap, quarantine: kept until the administrator sets the destination anew
    void worker_lost(Time now);            // what was in flight is sent again: applying is idempotent
    void tick(Time now);                   // sends again what answered retry
    std::optional<Time> deadline() const;

    DestinationPhase phase() const;
    const std::string &reason() const { return reason_; }
    // Every counting record up to here is in the indexes, or wanted and named.
    Number applied() const { return applied_; }
    Number storable() const;                                        // applied(), held back by open snapshots
    std::optional<std::pair<Place, int64_t>> oldest_needed() const; // the first record that is not storable yet
    const std::set<Object> &wanted() const { return wanted_; } // to be stored: those with an open collection included
    bool full() const { return queue_.size() >= queue_max || queue_bytes_ >= queue_bytes_max; }
    bool idle() const { return queue_.empty(); } // nothing queued, nothing at a worker
    // For the control log and status: changed since the last call?
    bool take_changed() { return std::exchange(changed_, false); }
    // Position (applied), phase, wanted, reason, progress. Named are wanted objects without an open collection: the
    // others are on their way.
    void describe(DestinationState &) const;

private:
    struct Fence {};
    struct Position {}; // of an OPEN, or a record without changes
    using Bulk = std::string;
    struct Item {
        Number number; // of its record
        Place place;
        int64_t offset;
        Session session;
        bool last; // of its record: the position moves with it
        std::variant<Change, Bulk, Fence, Position> what;
    };
    struct Collection { // the bulk of a SNAPSHOT that the worker collects
        SnapshotId id;
        Number number, before; // the SNAPSHOT's; the position that may be stored until it is built
        Place place;
        int64_t offset;
        Session session;
        Time heard; // last bulk
        uint64_t next = 0, mails_done = 0, mails_total = 0;
    };

    enum class Step : uint8_t { front, inspect, build }; // what the worker is asked next for the front of the queue

    // --- follow.cpp: the queue, and what the worker said ---
    static size_t bytes_of(const Item &);
    void push(Time now, Item item);
    void pop();
    void go_on();
    void send(WorkerRequest request, std::function<void(const Reply &)> answered);
    void send_batch();
    void batch_answered(size_t sent, const Reply &);
    bool conclude(Verdict verdict, const std::string &text);
    void contained(const Change &);
    void try_again(const std::string &why);
    void inspect();
    void inspected(const Reply &);
    void want(const Object &);
    void unwant(const Object &);

    // --- follow_collect.cpp: collections ---
    void open_collection(const Item &snapshot);
    void collect();
    void collected(const replica::Bulk &part, size_t mails, const Reply &);
    void build();
    void built(const Object &, const Reply &);
    void drop_collection(const Object &, const std::string &why);
    void drop_collections(const std::function<bool(const Collection &)> &which, const char *why);

    std::string account_;
    Effects &effects_;
    Time now_{};

    Number begun_; // the position at which this life began
    Number applied_;
    std::deque<Item> queue_; // the front is at the worker while busy_
    size_t queue_bytes_ = 0;
    bool busy_ = false;
    Step step_ = Step::front;
    uint64_t worker_life_ = 0; // answers of an earlier one are void
    std::optional<Time> retry_at_;
    std::optional<Time> failing_since_;

    bool wants_everything_, initial_, stopped_ = false, changed_ = true;
    std::set<Object> wanted_;
    std::map<Object, Collection> open_;
    uint64_t mails_done_ = 0; // of what was built
    std::string reason_;
};

} // namespace replica
